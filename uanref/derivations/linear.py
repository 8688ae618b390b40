"""The linear layer, node by node: the matrix product's two gradients, and the bias's."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, ref, sum_
from uanref.derivations.steps import Input, Local, Step

RUMELHART = "Rumelhart, Hinton & Williams 1986, eq. 1"

x, w, b, product = ref("x"), ref("w"), ref("b"), ref("product")

LINEAR = Derivation(
    name="linear",
    title="Linear layer",
    summary=(
        "Every output feature is a weighted sum of the input features, plus a bias. "
        "Both gradients of the product are products again, each summed over the index that its target does not have."
    ),
    axes={"n": "sample", "i": "input feature", "o": "output feature"},
    sizes={"n": 4, "i": 3, "o": 2},
    inputs=(
        Input("x", "x", ("n", "i"), "activations"),
        Input("w", "w", ("o", "i"), "weights"),
        Input("b", "b", ("o",), "bias"),
    ),
    steps=(
        Step(
            name="product",
            symbol="z",
            axes=("n", "o"),
            equation=r"z_{no} = \sum_i x_{ni}\, w_{oi}",
            forward=sum_(x * w, "i"),
            backward={
                "x": Local(r"dx_{ni} \mathrel{+}= \sum_o dz_{no}\, w_{oi}", sum_(d("product") * w, "o")),
                "w": Local(r"dw_{oi} \mathrel{+}= \sum_n dz_{no}\, x_{ni}", sum_(d("product") * x, "n")),
            },
            meaning="A matrix product: each sample's features, weighed for each output feature.",
            source=RUMELHART,
        ),
        Step(
            name="y",
            symbol="y",
            axes=("n", "o"),
            equation=r"y_{no} = z_{no} + b_o",
            forward=product + b,
            backward={
                "product": Local(r"dz_{no} \mathrel{+}= dy_{no}", d("y")),
                "b": Local(r"db_o \mathrel{+}= \sum_n dy_{no}", sum_(d("y"), "n")),
            },
            meaning="The bias is the same for every sample, so its gradient sums over the samples.",
            source=RUMELHART,
        ),
    ),
    layer="uanref.layers.linear.Linear",
)
