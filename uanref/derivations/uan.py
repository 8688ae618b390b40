"""Unsupervised Adaptive Normalization, node by node, with both of its statistics, and the collapse of dx."""

from __future__ import annotations

from uanref.derivations.batch_norm import BETA, GAMMA
from uanref.derivations.expressions import count, d, exp, ref, sqrt, square, sum_
from uanref.derivations.gaussian_posterior import EPS, MEAN, MIXTURE, PRIOR_LOGITS, RAW_VARIANCE, X
from uanref.derivations.staged import Collapse, Derivation, Line, Local, Step

FAYE = "Faye et al. 2024, figure 1"
KALAYEH = "Kalayeh & Shah 2019, eq. 8, with weights w in the place of the posterior"
OURS = "this project's choice"

x, mean, gamma, beta, eps = ref("x"), ref("mean"), ref("gamma"), ref("beta"), ref("eps")
log_prior, score, log_total, offset, spread = (
    ref("log_prior"),
    ref("score"),
    ref("log_total"),
    ref("offset"),
    ref("spread"),
)
log_weight, weight, total, share = ref("log_weight"), ref("weight"), ref("total"), ref("share")
moment, centred, moment_variance = ref("moment"), ref("centred"), ref("moment_variance")
inverse_std, x_hat, mixed = ref("inverse_std"), ref("x_hat"), ref("mixed")
root_k = sqrt(count("k"))

WEIGHT = (
    Step(
        name="log_weight",
        symbol=r"\omega",
        axes=("k", "m", "c"),
        equation=r"\omega_{kmc} = l_{kmc} - L_{mc} - \tfrac12 \ell_{kc}",
        forward=score - log_total - 0.5 * log_prior,
        backward={
            "score": Local(r"dl_{kmc} \mathrel{+}= d\omega_{kmc}", d("log_weight")),
            "log_total": Local(r"dL_{mc} \mathrel{+}= -\sum_k d\omega_{kmc}", -sum_(d("log_weight"), "k")),
            "log_prior": Local(
                r"d\ell_{kc} \mathrel{+}= -\tfrac12 \sum_m d\omega_{kmc}", -0.5 * sum_(d("log_weight"), "m")
            ),
        },
        meaning="The logarithm of posterior over root prior: tau / sqrt(lambda), which would be 0/0 for a tiny prior.",
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

BATCH_MOMENTS = (
    Step(
        name="total",
        symbol="W",
        axes=("k", "c"),
        equation=r"W_{kc} = \sum_m w_{kmc}",
        forward=sum_(weight, "m"),
        backward={"weight": Local(r"dw_{kmc} \mathrel{+}= dW_{kc}", d("total"))},
        meaning="How much of the batch a component has.",
        source=KALAYEH,
    ),
    Step(
        name="share",
        symbol="p",
        axes=("k", "m", "c"),
        equation=r"p_{kmc} = w_{kmc} / W_{kc}",
        forward=weight / total,
        backward={
            "weight": Local(r"dw_{kmc} \mathrel{+}= dp_{kmc} / W_{kc}", d("share") / total),
            "total": Local(
                r"dW_{kc} \mathrel{+}= -\frac{1}{W_{kc}} \sum_m p_{kmc}\, dp_{kmc}",
                -sum_(share * d("share"), "m") / total,
            ),
        },
        meaning="Each sample's share of a component; it sums to 1 over the samples, so factors per component cancel.",
        source=KALAYEH,
    ),
    Step(
        name="moment",
        symbol="n",
        axes=("k", "c"),
        equation=r"n_{kc} = \sum_m p_{kmc}\, x_{mc}",
        forward=sum_(share * x, "m"),
        backward={
            "share": Local(r"dp_{kmc} \mathrel{+}= x_{mc}\, dn_{kc}", x * d("moment")),
            "x": Local(r"dx_{mc} \mathrel{+}= \sum_k p_{kmc}\, dn_{kc}", sum_(share * d("moment"), "k")),
        },
        meaning="The component's weighted mean over the batch.",
        source=KALAYEH,
    ),
    Step(
        name="centred",
        symbol=r"\bar x",
        axes=("k", "m", "c"),
        equation=r"\bar x_{kmc} = x_{mc} - n_{kc}",
        forward=x - moment,
        backward={
            "x": Local(r"dx_{mc} \mathrel{+}= \sum_k d\bar x_{kmc}", sum_(d("centred"), "k")),
            "moment": Local(r"dn_{kc} \mathrel{+}= -\sum_m d\bar x_{kmc}", -sum_(d("centred"), "m")),
        },
        meaning="How far each sample lies from the weighted mean.",
        source=KALAYEH,
    ),
    Step(
        name="moment_variance",
        symbol="v",
        axes=("k", "c"),
        equation=r"v_{kc} = \sum_m p_{kmc}\, \bar x_{kmc}^2",
        forward=sum_(share * square(centred), "m"),
        backward={
            "share": Local(r"dp_{kmc} \mathrel{+}= \bar x_{kmc}^2\, dv_{kc}", square(centred) * d("moment_variance")),
            "centred": Local(
                r"d\bar x_{kmc} \mathrel{+}= 2 p_{kmc} \bar x_{kmc}\, dv_{kc}",
                2 * share * centred * d("moment_variance"),
            ),
        },
        meaning="The component's weighted variance over the batch, biased.",
        source=KALAYEH,
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
            source=FAYE + "; the factor 1/sqrt(K) is " + OURS,
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

# --- the collapse of dx: g is what reaches component k's weighted activation ------------------------

g = gamma * d("y") / root_k
G = r"g_{mc} = \gamma_c\, dy_{mc} / \sqrt{K}"
direct = sum_(g * weight * inverse_std, "k")
tau = weight * exp(0.5 * log_prior)
pull = offset / spread  # minus the slope of the score in x
dn, dv = d("moment"), d("moment_variance")
dn_compact = -inverse_std * sum_(g * weight, "m")
dv_compact = -0.5 * square(inverse_std) * sum_(g * weight * x_hat, "m")
dlog_weight_batch = g * weight * x_hat + share * (dn * centred + dv * (square(centred) - moment_variance))
dlog_weight_compact = g * weight * x_hat + share * (
    dn_compact * centred + dv_compact * (square(centred) - moment_variance)
)

DIRECT = r"\sum_k g_{mc} w_{kmc} i_{kc}"
MOMENTS = r"\sum_k p_{kmc} \left( dn_{kc} + 2 \bar x_{kmc}\, dv_{kc} \right)"
POSTERIOR = r"\sum_k \left( d\omega_{kmc} - \tau_{kmc} \sum_j d\omega_{jmc} \right) \frac{u_{kmc}}{\bar\sigma^2_{kc}}"

BATCH_COLLAPSE = Collapse(
    "x",
    (
        Line(
            r"dx_{mc} = \sum_k d\bar x_{kmc} + \sum_k p_{kmc}\, dn_{kc} + \sum_k du_{kmc}",
            sum_(d("centred"), "k") + sum_(share * dn, "k") + sum_(d("offset"), "k"),
            "The three steps that use x: centring, the weighted mean, and the offset inside the posterior.",
        ),
        Line(
            r"dx_{mc} = \sum_k i_{kc}\, d\hat x_{kmc} + " + MOMENTS + r" + \sum_k du_{kmc}",
            sum_(inverse_std * d("x_hat"), "k") + sum_(share * (dn + 2 * centred * dv), "k") + sum_(d("offset"), "k"),
            "Centred values are used twice: by the normalization, and by the variance.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + " + " + MOMENTS + r" + \sum_k du_{kmc}, \quad " + G,
            direct + sum_(share * (dn + 2 * centred * dv), "k") + sum_(d("offset"), "k"),
            "Through the scale and the weighted sum, dx_hat is g w: this is the direct path.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + " + " + MOMENTS + r" - \sum_k dl_{kmc} \frac{u_{kmc}}{\bar\sigma^2_{kc}}",
            direct + sum_(share * (dn + 2 * centred * dv), "k") - sum_(d("score") * pull, "k"),
            "The offset enters the score through the quadratic, with a minus sign: the path through the posterior.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + " + " + MOMENTS + " - " + POSTERIOR,
            direct
            + sum_(share * (dn + 2 * centred * dv), "k")
            - sum_((d("log_weight") - tau * sum_(d("log_weight"), "k")) * pull, "k"),
            "The score is used by the log weight and by the log-sum-exp: together a softmax's gradient.",
        ),
        Line(
            r"d\omega_{kmc} = g_{mc} w_{kmc} \hat x_{kmc} + p_{kmc} \left( dn_{kc}\, \bar x_{kmc} "
            r"+ dv_{kc} \left( \bar x_{kmc}^2 - v_{kc} \right) \right)",
            direct
            + sum_(share * (dn + 2 * centred * dv), "k")
            - sum_((dlog_weight_batch - tau * sum_(dlog_weight_batch, "k")) * pull, "k"),
            "Inside dx, the log weight's gradient written out: through the sum, and through the two moments. The "
            "share's derivative subtracts what the total takes, which centres x and its square.",
        ),
        Line(
            r"dn_{kc} = -i_{kc} \sum_m g_{mc} w_{kmc}, \quad "
            r"dv_{kc} = -\tfrac12 i_{kc}^2 \sum_m g_{mc} w_{kmc} \hat x_{kmc}",
            direct
            + sum_(share * (dn_compact + 2 * centred * dv_compact), "k")
            - sum_((dlog_weight_compact - tau * sum_(dlog_weight_compact, "k")) * pull, "k"),
            "Inside dx, the moments' gradients as two sums per component; weighted centred values sum to 0. "
            "Forward values and dy are all that is left: this is what the layer computes.",
        ),
    ),
)

LEARNED_COLLAPSE = Collapse(
    "x",
    (
        Line(
            r"dx_{mc} = \sum_k d\bar x_{kmc} + \sum_k du_{kmc}",
            sum_(d("centred"), "k") + sum_(d("offset"), "k"),
            "The two steps that use x: centring, and the offset inside the posterior.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + r" + \sum_k du_{kmc}, \quad " + G,
            direct + sum_(d("offset"), "k"),
            "Through the scale and the weighted sum, dx_hat is g w: this is the direct path.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + r" - \sum_k dl_{kmc} \frac{u_{kmc}}{\bar\sigma^2_{kc}}",
            direct - sum_(d("score") * pull, "k"),
            "The offset enters the score through the quadratic, with a minus sign: the path through the posterior.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + " - " + POSTERIOR,
            direct - sum_((d("log_weight") - tau * sum_(d("log_weight"), "k")) * pull, "k"),
            "The score is used by the log weight and by the log-sum-exp: together a softmax's gradient.",
        ),
        Line(
            "dx_{mc} = " + DIRECT + r" - \sum_k \left( g_{mc} w_{kmc} \hat x_{kmc} - \tau_{kmc} "
            r"\sum_j g_{mc} w_{jmc} \hat x_{jmc} \right) \frac{u_{kmc}}{\bar\sigma^2_{kc}}",
            direct - sum_((g * weight * x_hat - tau * sum_(g * weight * x_hat, "k")) * pull, "k"),
            "The log weight is used by the weighted sum alone. No sample sees another one: "
            "this is what the layer computes.",
        ),
    ),
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
