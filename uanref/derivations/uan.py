"""Unsupervised Adaptive Normalization, node by node, with both of its statistics."""

from __future__ import annotations

from uanref.derivations.batch_norm import BETA, GAMMA
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import count, d, exp, ref, sqrt, square, sum_
from uanref.derivations.gaussian_posterior import EPS, MEAN, MIXTURE, PRIOR_LOGITS, RAW_VARIANCE, X
from uanref.derivations.steps import Local, Step
from uanref.derivations.uan_collapse import BATCH_COLLAPSE, LEARNED_COLLAPSE
from uanref.derivations.uan_moments import BATCH_MOMENTS

FAYE = "Faye et al. 2024, figure 1"
OURS = "this project's choice"

x, mean, gamma, beta, eps = ref("x"), ref("mean"), ref("gamma"), ref("beta"), ref("eps")
log_prior, score, log_total = ref("log_prior"), ref("score"), ref("log_total")
log_weight, weight, centred = ref("log_weight"), ref("weight"), ref("centred")
inverse_std, x_hat, mixed = ref("inverse_std"), ref("x_hat"), ref("mixed")
root_k = sqrt(count("k"))

WEIGHT = (
    Step(
        name="log_weight",
        symbol=r"\omega",
        axes=("k", "m", "c"),
        equation=r"\omega_{kmc} = l_{kmc} - \zeta_{mc} - \tfrac12 \ell_{kc}",
        forward=score - log_total - 0.5 * log_prior,
        backward={
            "score": Local(r"dl_{kmc} \mathrel{+}= d\omega_{kmc}", d("log_weight")),
            "log_total": Local(r"d\zeta_{mc} \mathrel{+}= -\sum_k d\omega_{kmc}", -sum_(d("log_weight"), "k")),
            "log_prior": Local(
                r"d\ell_{kc} \mathrel{+}= -\tfrac12 \sum_m d\omega_{kmc}", -0.5 * sum_(d("log_weight"), "m")
            ),
        },
        meaning="The logarithm of posterior over root prior, a quotient that would be 0/0 for a tiny prior.",
        source=FAYE + "; in logarithms, " + OURS,
    ),
    Step(
        name="weight",
        symbol="w",
        axes=("k", "m", "c"),
        equation=r"w_{kmc} = e^{\omega_{kmc}}",
        forward=exp(log_weight),
        backward={"log_weight": Local(r"d\omega_{kmc} \mathrel{+}= w_{kmc}\, dw_{kmc}", weight * d("weight"))},
        meaning="With this weight each component's normalized activation enters the sum.",
        source=FAYE,
    ),
)


def _normalize(variance_name: str, symbol: str) -> tuple[Step, ...]:
    """The steps from centred values and a variance to the output; both kinds of statistics end so."""
    v = ref(variance_name)
    return (
        Step(
            name="inverse_std",
            symbol="i",
            axes=("k", "c"),
            equation=rf"i_{{kc}} = 1 / \sqrt{{{symbol}_{{kc}} + \epsilon}}",
            forward=1 / sqrt(v + eps),
            backward={
                variance_name: Local(
                    rf"d{symbol}_{{kc}} \mathrel{{+}}= -\tfrac12 i_{{kc}}^3\, di_{{kc}}",
                    -0.5 * inverse_std * square(inverse_std) * d("inverse_std"),
                )
            },
            meaning="What centred values are multiplied by.",
            source=FAYE,
        ),
        Step(
            name="x_hat",
            symbol=r"\hat x",
            axes=("k", "m", "c"),
            equation=r"\hat x_{kmc} = \bar x_{kmc}\, i_{kc}",
            forward=centred * inverse_std,
            backward={
                "centred": Local(r"d\bar x_{kmc} \mathrel{+}= d\hat x_{kmc}\, i_{kc}", d("x_hat") * inverse_std),
                "inverse_std": Local(
                    r"di_{kc} \mathrel{+}= \sum_m d\hat x_{kmc}\, \bar x_{kmc}", sum_(d("x_hat") * centred, "m")
                ),
            },
            meaning="The activation as component k normalizes it.",
            source=FAYE,
        ),
        Step(
            name="mixed",
            symbol="z",
            axes=("m", "c"),
            equation=r"z_{mc} = \frac{1}{\sqrt{K}} \sum_k w_{kmc}\, \hat x_{kmc}",
            forward=sum_(weight * x_hat, "k") / root_k,
            backward={
                "weight": Local(
                    r"dw_{kmc} \mathrel{+}= \frac{1}{\sqrt{K}} \hat x_{kmc}\, dz_{mc}", x_hat * d("mixed") / root_k
                ),
                "x_hat": Local(
                    r"d\hat x_{kmc} \mathrel{+}= \frac{1}{\sqrt{K}} w_{kmc}\, dz_{mc}", weight * d("mixed") / root_k
                ),
            },
            meaning="The weighted sum. The factor keeps unit variance where the components are far apart.",
            source=FAYE + "; the factor before the sum is " + OURS,
        ),
        Step(
            name="y",
            symbol="y",
            axes=("m", "c"),
            equation=r"y_{mc} = \gamma_c\, z_{mc} + \beta_c",
            forward=gamma * mixed + beta,
            backward={
                "gamma": Local(r"d\gamma_c \mathrel{+}= \sum_m dy_{mc}\, z_{mc}", sum_(d("y") * mixed, "m")),
                "mixed": Local(r"dz_{mc} \mathrel{+}= \gamma_c\, dy_{mc}", gamma * d("y")),
                "beta": Local(r"d\beta_c \mathrel{+}= \sum_m dy_{mc}", sum_(d("y"), "m")),
            },
            meaning="Scale and shift, as in batch normalization.",
            source=FAYE,
        ),
    )


LEARNED_CENTRED = Step(
    name="centred",
    symbol=r"\bar x",
    axes=("k", "m", "c"),
    equation=r"\bar x_{kmc} = x_{mc} - \mu_{kc}",
    forward=x - mean,
    backward={
        "x": Local(r"dx_{mc} \mathrel{+}= \sum_k d\bar x_{kmc}", sum_(d("centred"), "k")),
        "mean": Local(r"d\mu_{kc} \mathrel{+}= -\sum_m d\bar x_{kmc}", -sum_(d("centred"), "m")),
    },
    meaning="The same number as the offset u, but another way to the loss: directly, not through the posterior.",
    source=FAYE,
)

AXES = {"m": "sample", "c": "channel", "k": "component"}
SIZES = {"m": 5, "c": 2, "k": 3}
INPUTS = (X, PRIOR_LOGITS, MEAN, RAW_VARIANCE, GAMMA, BETA, EPS)

UAN = Derivation(
    name="uan",
    title="Unsupervised Adaptive Normalization, batch statistics",
    summary=(
        "A trained Gaussian mixture normalizes: each component in its own way, with the batch's weighted moments, and "
        "the posterior mixes the results. x reaches the loss directly, through the moments and through the posterior."
    ),
    axes=AXES,
    sizes=SIZES,
    inputs=INPUTS,
    steps=(*MIXTURE, *WEIGHT, *BATCH_MOMENTS, *_normalize("moment_variance", "v")),
    layer="uanref.norms.uan.UAN",
    collapse=(BATCH_COLLAPSE,),
)

UAN_LEARNED = Derivation(
    name="uan-learned",
    title="Unsupervised Adaptive Normalization, learned statistics",
    summary=(
        "The one-step form: the mixture's own means and variances normalize, so no quantity of the batch enters and "
        "training and inference are the same function. x reaches the loss directly and through the posterior."
    ),
    axes=AXES,
    sizes=SIZES,
    inputs=INPUTS,
    steps=(*MIXTURE, *WEIGHT, LEARNED_CENTRED, *_normalize("variance", r"\sigma^2")),
    layer="uanref.norms.uan.UAN",
    collapse=(LEARNED_COLLAPSE,),
)
