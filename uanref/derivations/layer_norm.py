"""Layer normalization, node by node, and the collapse of its backward pass to the formula that the layer uses."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import count, d, mean, ref, sqrt, square, sum_
from uanref.derivations.steps import Collapse, Input, Line, Local, Step

BA = "Ba, Kiros & Hinton 2016, eq. 3"
AFFINE = "Ba, Kiros & Hinton 2016, eq. 4; one gain and bias per channel is this project's choice for images"

x, gamma, beta, eps = ref("x"), ref("gamma"), ref("beta"), ref("eps")
mu, centred, squared, var = ref("mu"), ref("centred"), ref("squared"), ref("var")
std, inverse_std, x_hat, scaled = ref("std"), ref("inverse_std"), ref("x_hat"), ref("scaled")
M = count("c", "s")
h = gamma * d("y")

LAYER_NORM = Derivation(
    name="layer-norm",
    title="Layer normalization",
    summary=(
        "Each sample gets mean 0 and variance 1 over all its numbers, then every channel a learned scale and shift. "
        "It is batch normalization turned by 90 degrees: samples do not see each other, channels do, "
        "and the scale, which differs between them, stays under the sums of dx."
    ),
    axes={"n": "sample", "c": "channel", "s": "place"},
    sizes={"n": 2, "c": 3, "s": 2},
    inputs=(
        Input("x", "x", ("n", "c", "s"), "activations", lambda rng, shape: 0.5 + 2.0 * rng.standard_normal(shape)),
        Input("gamma", r"\gamma", ("c",), "scale", lambda rng, shape: rng.uniform(0.5, 1.5, shape)),
        Input("beta", r"\beta", ("c",), "shift"),
        Input("eps", r"\epsilon", (), "keeps the root away from 0", lambda rng, shape: 1e-5, constant=True),
    ),
    steps=(
        Step(
            name="mu",
            symbol=r"\mu",
            axes=("n",),
            equation=r"\mu_n = \frac{1}{M} \sum_{c,s} x_{ncs}, \quad M = C S",
            forward=mean(x, "c", "s"),
            backward={"x": Local(r"dx_{ncs} \mathrel{+}= \frac{d\mu_n}{M}", d("mu") / M)},
            meaning="The sample's mean over all its numbers.",
            source=BA,
        ),
        Step(
            name="centred",
            symbol=r"\bar x",
            axes=("n", "c", "s"),
            equation=r"\bar x_{ncs} = x_{ncs} - \mu_n",
            forward=x - mu,
            backward={
                "x": Local(r"dx_{ncs} \mathrel{+}= d\bar x_{ncs}", d("centred")),
                "mu": Local(r"d\mu_n \mathrel{+}= -\sum_{c,s} d\bar x_{ncs}", -sum_(d("centred"), "c", "s")),
            },
            meaning="How far each number lies from its sample's mean.",
            source=BA,
        ),
        Step(
            name="squared",
            symbol="q",
            axes=("n", "c", "s"),
            equation=r"q_{ncs} = \bar x_{ncs}^2",
            forward=square(centred),
            backward={
                "centred": Local(r"d\bar x_{ncs} \mathrel{+}= 2 \bar x_{ncs}\, dq_{ncs}", 2 * centred * d("squared"))
            },
            meaning="The squared distances.",
            source=BA,
        ),
        Step(
            name="var",
            symbol="v",
            axes=("n",),
            equation=r"v_n = \frac{1}{M} \sum_{c,s} q_{ncs}",
            forward=mean(squared, "c", "s"),
            backward={"squared": Local(r"dq_{ncs} \mathrel{+}= \frac{dv_n}{M}", d("var") / M)},
            meaning="The sample's biased variance.",
            source=BA,
        ),
        Step(
            name="std",
            symbol=r"\sigma",
            axes=("n",),
            equation=r"\sigma_n = \sqrt{v_n + \epsilon}",
            forward=sqrt(var + eps),
            backward={"var": Local(r"dv_n \mathrel{+}= \frac{d\sigma_n}{2 \sigma_n}", d("std") / (2 * std))},
            meaning="The standard deviation, kept away from 0.",
            source=BA + "; epsilon as in batch normalization",
        ),
        Step(
            name="inverse_std",
            symbol="i",
            axes=("n",),
            equation=r"i_n = 1 / \sigma_n",
            forward=1 / std,
            backward={"std": Local(r"d\sigma_n \mathrel{+}= -i_n^2\, di_n", -square(inverse_std) * d("inverse_std"))},
            meaning="What the centred values are multiplied by.",
            source=AFFINE,
        ),
        Step(
            name="x_hat",
            symbol=r"\hat x",
            axes=("n", "c", "s"),
            equation=r"\hat x_{ncs} = \bar x_{ncs}\, i_n",
            forward=centred * inverse_std,
            backward={
                "centred": Local(r"d\bar x_{ncs} \mathrel{+}= d\hat x_{ncs}\, i_n", d("x_hat") * inverse_std),
                "inverse_std": Local(
                    r"di_n \mathrel{+}= \sum_{c,s} d\hat x_{ncs}\, \bar x_{ncs}", sum_(d("x_hat") * centred, "c", "s")
                ),
            },
            meaning="The normalized activation: each sample has mean 0 and variance 1.",
            source=AFFINE,
        ),
        Step(
            name="scaled",
            symbol="z",
            axes=("n", "c", "s"),
            equation=r"z_{ncs} = \gamma_c\, \hat x_{ncs}",
            forward=gamma * x_hat,
            backward={
                "gamma": Local(
                    r"d\gamma_c \mathrel{+}= \sum_{n,s} dz_{ncs}\, \hat x_{ncs}", sum_(d("scaled") * x_hat, "n", "s")
                ),
                "x_hat": Local(r"d\hat x_{ncs} \mathrel{+}= \gamma_c\, dz_{ncs}", gamma * d("scaled")),
            },
            meaning="A scale per channel, the same for all samples and places.",
            source=AFFINE,
        ),
        Step(
            name="y",
            symbol="y",
            axes=("n", "c", "s"),
            equation=r"y_{ncs} = z_{ncs} + \beta_c",
            forward=scaled + beta,
            backward={
                "scaled": Local(r"dz_{ncs} \mathrel{+}= dy_{ncs}", d("y")),
                "beta": Local(r"d\beta_c \mathrel{+}= \sum_{n,s} dy_{ncs}", sum_(d("y"), "n", "s")),
            },
            meaning="And a shift per channel.",
            source=AFFINE,
        ),
    ),
    layer="uanref.norms.layer.LayerNorm",
    collapse=(
        Collapse(
            "x",
            (
                Line(
                    r"dx_{ncs} = d\bar x_{ncs} + \frac{d\mu_n}{M}",
                    d("centred") + d("mu") / M,
                    "The two steps that use x: centring, and the mean.",
                ),
                Line(
                    r"dx_{ncs} = d\bar x_{ncs} - \frac{1}{M} \sum_{j,r} d\bar x_{njr}",
                    d("centred") - sum_(d("centred"), "c", "s") / M,
                    "The mean is used by centring alone, so its gradient is a sum over the sample's numbers.",
                ),
                Line(
                    r"dx_{ncs} = i_n\, d\hat x_{ncs} + 2 \bar x_{ncs}\, dq_{ncs} "
                    r"- \frac{1}{M} \sum_{j,r} \left( i_n\, d\hat x_{njr} + 2 \bar x_{njr}\, dq_{njr} \right)",
                    inverse_std * d("x_hat")
                    + 2 * centred * d("squared")
                    - sum_(inverse_std * d("x_hat") + 2 * centred * d("squared"), "c", "s") / M,
                    "Centred values are used twice: by the normalization, and by the variance.",
                ),
                Line(
                    r"dx_{ncs} = i_n\, d\hat x_{ncs} + \frac{2}{M} \bar x_{ncs}\, dv_n "
                    r"- \frac{i_n}{M} \sum_{j,r} d\hat x_{njr}",
                    inverse_std * d("x_hat")
                    + 2 * centred * d("var") / M
                    - inverse_std * sum_(d("x_hat"), "c", "s") / M,
                    "dq is the same for every number of the sample, and centred values sum to 0.",
                ),
                Line(
                    r"dx_{ncs} = i_n \left( d\hat x_{ncs} - \frac{1}{M} \sum_{j,r} d\hat x_{njr} "
                    r"- \frac{\hat x_{ncs}}{M} \sum_{j,r} d\hat x_{njr}\, \hat x_{njr} \right)",
                    inverse_std
                    * (d("x_hat") - sum_(d("x_hat"), "c", "s") / M - x_hat * sum_(d("x_hat") * x_hat, "c", "s") / M),
                    "dv is written out, through the inverse and the root; x_bar i is x_hat again.",
                ),
                Line(
                    r"dx_{ncs} = i_n \left( h_{ncs} - \frac{1}{M} \sum_{j,r} h_{njr} "
                    r"- \hat x_{ncs} \frac{1}{M} \sum_{j,r} h_{njr}\, \hat x_{njr} \right), "
                    r"\quad h_{ncs} = \gamma_c\, dy_{ncs}",
                    inverse_std * (h - sum_(h, "c", "s") / M - x_hat * sum_(h * x_hat, "c", "s") / M),
                    "dx_hat is gamma dy; gamma differs within a sample, so it stays under the sums. "
                    "This is what the layer computes.",
                ),
            ),
        ),
    ),
)
