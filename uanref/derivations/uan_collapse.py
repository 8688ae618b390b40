"""The collapse of UAN's dx, with either statistics: from the staged gradient to what the layer computes.

In it h is what reaches component k's weighted activation.
"""

from __future__ import annotations

from uanref.derivations.expressions import count, d, ref, softmax, sqrt, square, sum_
from uanref.derivations.steps import Collapse, Line

gamma, score, offset, spread, weight = ref("gamma"), ref("score"), ref("offset"), ref("spread"), ref("weight")
share, centred, moment_variance = ref("share"), ref("centred"), ref("moment_variance")
inverse_std, x_hat = ref("inverse_std"), ref("x_hat")
root_k = sqrt(count("k"))

h = gamma * d("y") / root_k
H = r"h_{mc} = \gamma_c\, dy_{mc} / \sqrt{K}"
direct = sum_(h * weight * inverse_std, "k")
tau = softmax(score, "k")
pull = offset / spread  # minus the slope of the score in x
dn, dv = d("moment"), d("moment_variance")
dn_compact = -inverse_std * sum_(h * weight, "m")
dv_compact = -0.5 * square(inverse_std) * sum_(h * weight * x_hat, "m")
dlog_weight_batch = h * weight * x_hat + share * (dn * centred + dv * (square(centred) - moment_variance))
dlog_weight_compact = h * weight * x_hat + share * (
    dn_compact * centred + dv_compact * (square(centred) - moment_variance)
)

DIRECT = r"\sum_k h_{mc} w_{kmc} i_{kc}"
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
            "dx_{mc} = " + DIRECT + " + " + MOMENTS + r" + \sum_k du_{kmc}, \quad " + H,
            direct + sum_(share * (dn + 2 * centred * dv), "k") + sum_(d("offset"), "k"),
            "Through the scale and the weighted sum, dx_hat is h w: this is the direct path.",
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
            r"d\omega_{kmc} = h_{mc} w_{kmc} \hat x_{kmc} + p_{kmc} \left( dn_{kc}\, \bar x_{kmc} "
            r"+ dv_{kc} \left( \bar x_{kmc}^2 - v_{kc} \right) \right)",
            direct
            + sum_(share * (dn + 2 * centred * dv), "k")
            - sum_((dlog_weight_batch - tau * sum_(dlog_weight_batch, "k")) * pull, "k"),
            "Inside dx, the log weight's gradient written out: through the sum, and through the two moments. The "
            "share's derivative subtracts what the total takes, which centres x and its square.",
        ),
        Line(
            r"dn_{kc} = -i_{kc} \sum_m h_{mc} w_{kmc}, \quad "
            r"dv_{kc} = -\tfrac12 i_{kc}^2 \sum_m h_{mc} w_{kmc} \hat x_{kmc}",
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
            "dx_{mc} = " + DIRECT + r" + \sum_k du_{kmc}, \quad " + H,
            direct + sum_(d("offset"), "k"),
            "Through the scale and the weighted sum, dx_hat is h w: this is the direct path.",
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
            "dx_{mc} = " + DIRECT + r" - \sum_k \left( h_{mc} w_{kmc} \hat x_{kmc} - \tau_{kmc} "
            r"\sum_j h_{mc} w_{jmc} \hat x_{jmc} \right) \frac{u_{kmc}}{\bar\sigma^2_{kc}}",
            direct - sum_((h * weight * x_hat - tau * sum_(h * weight * x_hat, "k")) * pull, "k"),
            "The log weight is used by the weighted sum alone. No sample sees another one: "
            "this is what the layer computes.",
        ),
    ),
)
