"""The moments of UAN's batch statistics, node by node: each component's mean and variance, weighted by its share."""

from __future__ import annotations

from uanref.derivations.expressions import d, ref, square, sum_
from uanref.derivations.steps import Local, Step

KALAYEH = "Kalayeh & Shah 2019, eq. 8, with weights w in the place of the posterior"

x, weight, total, share = ref("x"), ref("weight"), ref("total"), ref("share")
moment, centred = ref("moment"), ref("centred")

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
