"""The posterior of a Gaussian mixture, node by node: which component an activation belongs to."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, exp, log, logsumexp, ref, softmax, softplus, square, sum_
from uanref.derivations.steps import Collapse, Input, Line, Local, Step

FAYE = "Faye et al. 2024, section 3; the constraint is this project's choice"
BISHOP = "Bishop 2006, eq. 9.23, in logarithms"

x, prior_logits, mean, raw_variance, eps = ref("x"), ref("prior_logits"), ref("mean"), ref("raw_variance"), ref("eps")
log_prior, variance, spread = ref("log_prior"), ref("variance"), ref("spread")
offset, quadratic, score, log_total, log_posterior = (
    ref("offset"),
    ref("quadratic"),
    ref("score"),
    ref("log_total"),
    ref("log_posterior"),
)

X = Input("x", "x", ("m", "c"), "activations", lambda rng, shape: 1.5 * rng.standard_normal(shape))
PRIOR_LOGITS = Input(
    "prior_logits", "a", ("k", "c"), "prior logits", lambda rng, shape: 0.5 * rng.standard_normal(shape)
)
MEAN = Input("mean", r"\mu", ("k", "c"), "component means", lambda rng, shape: rng.uniform(-1.5, 1.5, shape))
RAW_VARIANCE = Input(
    "raw_variance",
    "s",
    ("k", "c"),
    "raw variances, before the softplus",
    lambda rng, shape: rng.uniform(-1.0, 1.0, shape),
)
EPS = Input("eps", r"\epsilon", (), "added to variances", lambda rng, shape: 1e-5, constant=True)

MIXTURE = (
    Step(
        name="log_prior",
        symbol=r"\ell",
        axes=("k", "c"),
        equation=r"\ell_{kc} = a_{kc} - \log \sum_j e^{a_{jc}}",
        forward=prior_logits - logsumexp(prior_logits, "k"),
        backward={
            "prior_logits": Local(
                r"da_{kc} \mathrel{+}= d\ell_{kc} - \lambda_{kc} \sum_j d\ell_{jc}, \quad \lambda_{kc} = e^{\ell_{kc}}",
                d("log_prior") - exp(log_prior) * sum_(d("log_prior"), "k"),
            )
        },
        meaning="The priors' logarithms: a softmax over the components keeps the priors positive with sum 1.",
        source=FAYE,
    ),
    Step(
        name="variance",
        symbol=r"\sigma^2",
        axes=("k", "c"),
        equation=r"\sigma^2_{kc} = \log(1 + e^{s_{kc}})",
        forward=softplus(raw_variance),
        backward={
            "raw_variance": Local(
                r"ds_{kc} \mathrel{+}= \frac{d\sigma^2_{kc}}{1 + e^{-s_{kc}}}",
                d("variance") * (1 - exp(-variance)),  # sigmoid(s) = 1 - exp(-softplus(s))
            )
        },
        meaning="Softplus keeps the variances positive.",
        source=FAYE,
    ),
    Step(
        name="spread",
        symbol=r"\bar\sigma^2",
        axes=("k", "c"),
        equation=r"\bar\sigma^2_{kc} = \sigma^2_{kc} + \epsilon",
        forward=variance + eps,
        backward={"variance": Local(r"d\sigma^2_{kc} \mathrel{+}= d\bar\sigma^2_{kc}", d("spread"))},
        meaning="The variance that the density divides by, kept away from 0.",
        source="this project's choice",
    ),
    Step(
        name="offset",
        symbol="u",
        axes=("k", "m", "c"),
        equation=r"u_{kmc} = x_{mc} - \mu_{kc}",
        forward=x - mean,
        backward={
            "x": Local(r"dx_{mc} \mathrel{+}= \sum_k du_{kmc}", sum_(d("offset"), "k")),
            "mean": Local(r"d\mu_{kc} \mathrel{+}= -\sum_m du_{kmc}", -sum_(d("offset"), "m")),
        },
        meaning="How far each activation lies from each component.",
        source=BISHOP,
    ),
    Step(
        name="quadratic",
        symbol="q",
        axes=("k", "m", "c"),
        equation=r"q_{kmc} = \frac{u_{kmc}^2}{2 \bar\sigma^2_{kc}}",
        forward=square(offset) / (2 * spread),
        backward={
            "offset": Local(
                r"du_{kmc} \mathrel{+}= \frac{u_{kmc}}{\bar\sigma^2_{kc}}\, dq_{kmc}",
                offset / spread * d("quadratic"),
            ),
            "spread": Local(
                r"d\bar\sigma^2_{kc} \mathrel{+}= -\sum_m \frac{q_{kmc}}{\bar\sigma^2_{kc}}\, dq_{kmc}",
                -sum_(quadratic / spread * d("quadratic"), "m"),
            ),
        },
        meaning="The exponent of the Gaussian, without its sign.",
        source=BISHOP,
    ),
    Step(
        name="score",
        symbol="l",
        axes=("k", "m", "c"),
        equation=r"l_{kmc} = \ell_{kc} - \tfrac12 \log \bar\sigma^2_{kc} - q_{kmc}",
        forward=log_prior - 0.5 * log(spread) - quadratic,
        backward={
            "log_prior": Local(r"d\ell_{kc} \mathrel{+}= \sum_m dl_{kmc}", sum_(d("score"), "m")),
            "spread": Local(
                r"d\bar\sigma^2_{kc} \mathrel{+}= -\frac{1}{2 \bar\sigma^2_{kc}} \sum_m dl_{kmc}",
                -sum_(d("score"), "m") / (2 * spread),
            ),
            "quadratic": Local(r"dq_{kmc} \mathrel{+}= -dl_{kmc}", -d("score")),
        },
        meaning="Log prior plus log density, up to a constant that all components share.",
        source=BISHOP,
    ),
    Step(
        name="log_total",
        symbol=r"\zeta",
        axes=("m", "c"),
        equation=r"\zeta_{mc} = \log \sum_k e^{l_{kmc}}",
        forward=logsumexp(score, "k"),
        backward={
            "score": Local(
                r"dl_{kmc} \mathrel{+}= \tau_{kmc}\, d\zeta_{mc}, "
                r"\quad \tau_{kmc} = \frac{e^{l_{kmc}}}{\sum_j e^{l_{jmc}}}",
                softmax(score, "k") * d("log_total"),
            )
        },
        meaning="The mixture's log density, up to the same constant. The gradient of a log-sum-exp is the softmax: "
        "the posterior appears here.",
        source=BISHOP,
    ),
)

TAU = Step(
    name="tau",
    symbol=r"\tau",
    axes=("k", "m", "c"),
    equation=r"\tau_{kmc} = e^{l_{kmc} - \zeta_{mc}}",
    forward=exp(score - log_total),
    backward={
        "score": Local(r"dl_{kmc} \mathrel{+}= \tau_{kmc}\, d\tau_{kmc}", ref("tau") * d("tau")),
        "log_total": Local(
            r"d\zeta_{mc} \mathrel{+}= -\sum_k \tau_{kmc}\, d\tau_{kmc}", -sum_(ref("tau") * d("tau"), "k")
        ),
    },
    meaning="The posterior: the probability that component k produced x. It sums to 1 over the components.",
    source=BISHOP,
)

GAUSSIAN_POSTERIOR = Derivation(
    name="posterior",
    title="The posterior of a Gaussian mixture",
    summary=(
        "Which component does an activation belong to? The posterior is a softmax of log prior plus log density, "
        "so its gradient is the softmax's: what one component gains, the others lose."
    ),
    axes={"m": "sample", "c": "channel", "k": "component"},
    sizes={"m": 4, "c": 2, "k": 3},
    inputs=(X, PRIOR_LOGITS, MEAN, RAW_VARIANCE, EPS),
    steps=(*MIXTURE, TAU),
    layer="uanref.norms.mixture_weights.posterior",
    collapse=(
        Collapse(
            "x",
            (
                Line(r"dx_{mc} = \sum_k du_{kmc}", sum_(d("offset"), "k"), "The offset is the only step that uses x."),
                Line(
                    r"dx_{mc} = -\sum_k dl_{kmc} \frac{u_{kmc}}{\bar\sigma^2_{kc}}",
                    -sum_(d("score") * offset / spread, "k"),
                    "The offset enters the score through the quadratic, with a minus sign.",
                ),
                Line(
                    r"dx_{mc} = -\sum_k \tau_{kmc} \left( d\tau_{kmc} - \sum_j \tau_{jmc}\, d\tau_{jmc} \right) "
                    r"\frac{u_{kmc}}{\bar\sigma^2_{kc}}",
                    -sum_(
                        ref("tau") * (d("tau") - sum_(ref("tau") * d("tau"), "k")) * offset / spread,
                        "k",
                    ),
                    "The score is used twice, directly and through the log-sum-exp: a softmax's gradient.",
                ),
            ),
        ),
        Collapse(
            "prior_logits",
            (
                Line(
                    r"da_{kc} = d\ell_{kc} - \lambda_{kc} \sum_j d\ell_{jc}",
                    d("log_prior") - exp(log_prior) * sum_(d("log_prior"), "k"),
                    "Through the softmax over the components.",
                ),
                Line(
                    r"da_{kc} = \sum_m dl_{kmc} - \lambda_{kc} \sum_j \sum_m dl_{jmc}",
                    sum_(d("score"), "m") - exp(log_prior) * sum_(d("score"), "m", "k"),
                    "The log prior stands in the score as a summand.",
                ),
                Line(
                    r"da_{kc} = \sum_m dl_{kmc}",
                    sum_(d("score"), "m"),
                    "Over the components the dl of a softmax sum to 0: nothing is left to project.",
                ),
            ),
        ),
    ),
)
