"""Batch normalization in train mode, node by node, and the collapse of dx to the formula that the layer uses."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import count, d, mean, ref, sqrt, square, sum_
from uanref.derivations.steps import Collapse, Input, Line, Local, Step

IOFFE = "Ioffe & Szegedy 2015, algorithm 1"

x, gamma, beta, eps = ref("x"), ref("gamma"), ref("beta"), ref("eps")
mu, centred, squared, var = ref("mu"), ref("centred"), ref("squared"), ref("var")
std, inverse_std, x_hat, scaled = ref("std"), ref("inverse_std"), ref("x_hat"), ref("scaled")
M = count("m")

X = Input("x", "x", ("m", "c"), "activations", lambda rng, shape: 0.5 + 2.0 * rng.standard_normal(shape))
GAMMA = Input("gamma", r"\gamma", ("c",), "scale", lambda rng, shape: rng.uniform(0.5, 1.5, shape))
BETA = Input("beta", r"\beta", ("c",), "shift")
EPS = Input("eps", r"\epsilon", (), "keeps the root away from 0", lambda rng, shape: 1e-5, constant=True)

STANDARDIZE = (
    Step(
        name="std",
        symbol="s",
        axes=("c",),
        equation=r"s_c = \sqrt{v_c + \epsilon}",
        forward=sqrt(var + eps),
        backward={"var": Local(r"dv_c \mathrel{+}= \frac{ds_c}{2 s_c}", d("std") / (2 * std))},
        meaning="The standard deviation, kept away from 0.",
        source=IOFFE,
    ),
    Step(
        name="inverse_std",
        symbol="i",
        axes=("c",),
        equation=r"i_c = 1 / s_c",
        forward=1 / std,
        backward={"std": Local(r"ds_c \mathrel{+}= -i_c^2\, di_c", -square(inverse_std) * d("inverse_std"))},
        meaning="What the centred values are multiplied by.",
        source=IOFFE,
    ),
    Step(
        name="x_hat",
        symbol=r"\hat x",
        axes=("m", "c"),
        equation=r"\hat x_{mc} = \bar x_{mc}\, i_c",
        forward=centred * inverse_std,
        backward={
            "centred": Local(r"d\bar x_{mc} \mathrel{+}= d\hat x_{mc}\, i_c", d("x_hat") * inverse_std),
            "inverse_std": Local(
                r"di_c \mathrel{+}= \sum_m d\hat x_{mc}\, \bar x_{mc}", sum_(d("x_hat") * centred, "m")
            ),
        },
        meaning="The normalized activation: mean 0, variance 1.",
        source=IOFFE,
    ),
    Step(
        name="scaled",
        symbol="z",
        axes=("m", "c"),
        equation=r"z_{mc} = \gamma_c\, \hat x_{mc}",
        forward=gamma * x_hat,
        backward={
            "gamma": Local(r"d\gamma_c \mathrel{+}= \sum_m dz_{mc}\, \hat x_{mc}", sum_(d("scaled") * x_hat, "m")),
            "x_hat": Local(r"d\hat x_{mc} \mathrel{+}= \gamma_c\, dz_{mc}", gamma * d("scaled")),
        },
        meaning="The network may want another scale.",
        source=IOFFE,
    ),
    Step(
        name="y",
        symbol="y",
        axes=("m", "c"),
        equation=r"y_{mc} = z_{mc} + \beta_c",
        forward=scaled + beta,
        backward={
            "scaled": Local(r"dz_{mc} \mathrel{+}= dy_{mc}", d("y")),
            "beta": Local(r"d\beta_c \mathrel{+}= \sum_m dy_{mc}", sum_(d("y"), "m")),
        },
        meaning="And another shift.",
        source=IOFFE,
    ),
)

BATCH_NORM = Derivation(
    name="bn",
    title="Batch normalization, train mode",
    summary=(
        "Each channel gets mean 0 and variance 1 over the batch, then a learned scale and shift. "
        "x reaches the loss three ways: directly, through the mean, and through the variance."
    ),
    axes={"m": "sample", "c": "channel"},
    sizes={"m": 5, "c": 2},
    inputs=(X, GAMMA, BETA, EPS),
    steps=(
        Step(
            name="mu",
            symbol=r"\mu",
            axes=("c",),
            equation=r"\mu_c = \frac{1}{M} \sum_m x_{mc}",
            forward=mean(x, "m"),
            backward={"x": Local(r"dx_{mc} \mathrel{+}= \frac{d\mu_c}{M}", d("mu") / M)},
            meaning="The channel's mean over the batch.",
            source=IOFFE,
        ),
        Step(
            name="centred",
            symbol=r"\bar x",
            axes=("m", "c"),
            equation=r"\bar x_{mc} = x_{mc} - \mu_c",
            forward=x - mu,
            backward={
                "x": Local(r"dx_{mc} \mathrel{+}= d\bar x_{mc}", d("centred")),
                "mu": Local(r"d\mu_c \mathrel{+}= -\sum_m d\bar x_{mc}", -sum_(d("centred"), "m")),
            },
            meaning="How far each sample lies from the mean.",
            source=IOFFE,
        ),
        Step(
            name="squared",
            symbol="q",
            axes=("m", "c"),
            equation=r"q_{mc} = \bar x_{mc}^2",
            forward=square(centred),
            backward={
                "centred": Local(r"d\bar x_{mc} \mathrel{+}= 2 \bar x_{mc}\, dq_{mc}", 2 * centred * d("squared"))
            },
            meaning="The squared distances.",
            source=IOFFE,
        ),
        Step(
            name="var",
            symbol="v",
            axes=("c",),
            equation=r"v_c = \frac{1}{M} \sum_m q_{mc}",
            forward=mean(squared, "m"),
            backward={"squared": Local(r"dq_{mc} \mathrel{+}= \frac{dv_c}{M}", d("var") / M)},
            meaning="The biased variance: divided by M, as the batch is normalized.",
            source=IOFFE,
        ),
        *STANDARDIZE,
    ),
    layer="uanref.norms.batch.BatchNorm",
    collapse=(
        Collapse(
            "x",
            (
                Line(
                    r"dx_{mc} = d\bar x_{mc} + \frac{d\mu_c}{M}",
                    d("centred") + d("mu") / M,
                    "The two steps that use x: centring, and the mean.",
                ),
                Line(
                    r"dx_{mc} = d\bar x_{mc} - \frac{1}{M} \sum_j d\bar x_{jc}",
                    d("centred") - sum_(d("centred"), "m") / M,
                    "The mean is used by centring alone, so its gradient is a sum over the samples.",
                ),
                Line(
                    r"dx_{mc} = i_c\, d\hat x_{mc} + 2 \bar x_{mc}\, dq_{mc} "
                    r"- \frac{1}{M} \sum_j \left( i_c\, d\hat x_{jc} + 2 \bar x_{jc}\, dq_{jc} \right)",
                    inverse_std * d("x_hat")
                    + 2 * centred * d("squared")
                    - sum_(inverse_std * d("x_hat") + 2 * centred * d("squared"), "m") / M,
                    "Centred values are used twice: by the normalization, and by the variance.",
                ),
                Line(
                    r"dx_{mc} = i_c\, d\hat x_{mc} + \frac{2}{M} \bar x_{mc}\, dv_c "
                    r"- \frac{i_c}{M} \sum_j d\hat x_{jc}",
                    inverse_std * d("x_hat") + 2 * centred * d("var") / M - inverse_std * sum_(d("x_hat"), "m") / M,
                    "dq is the same for every sample, and centred values sum to 0.",
                ),
                Line(
                    r"dx_{mc} = i_c\, d\hat x_{mc} - \frac{i_c}{M} \hat x_{mc} \sum_j d\hat x_{jc} \hat x_{jc} "
                    r"- \frac{i_c}{M} \sum_j d\hat x_{jc}",
                    inverse_std * d("x_hat")
                    - inverse_std * x_hat * sum_(d("x_hat") * x_hat, "m") / M
                    - inverse_std * sum_(d("x_hat"), "m") / M,
                    "dv is written out, through the inverse and the root; x_bar i is x_hat again.",
                ),
                Line(
                    r"dx_{mc} = \gamma_c i_c \left( dy_{mc} - \frac{d\beta_c}{M} "
                    r"- \hat x_{mc} \frac{d\gamma_c}{M} \right)",
                    gamma * inverse_std * (d("y") - d("beta") / M - x_hat * d("gamma") / M),
                    "dx_hat is gamma dy, and the two sums are the parameters' own gradients. "
                    "This is what the layer computes.",
                ),
            ),
        ),
    ),
)
