"""The convolution, node by node: patches times weights, and the three gradients."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, fold, patches, ref, sum_
from uanref.derivations.steps import Input, Local, Step

LECUN = "LeCun et al. 1989"
CHELLAPILLA = "Chellapilla et al. 2006, section 3"

x, w, b, columns, product = ref("x"), ref("w"), ref("b"), ref("columns"), ref("product")

CONV = Derivation(
    name="conv",
    title="Convolution, stride 1, no padding",
    summary=(
        "Every output position sees a patch of the image and weighs it with the same kernels. "
        "With the patches written out, the convolution is a linear layer, and so are its gradients; "
        "a pixel that lies in several patches adds up what its copies receive."
    ),
    axes={
        "n": "sample",
        "i": "input channel",
        "o": "output channel",
        "h": "row of the image",
        "k": "column of the image",
        "u": "row of the kernel",
        "v": "column of the kernel",
        "p": "row of the output",
        "q": "column of the output",
    },
    sizes={"n": 2, "i": 2, "o": 2, "h": 4, "k": 4, "u": 2, "v": 3},
    inputs=(
        Input("x", "x", ("n", "i", "h", "k"), "images"),
        Input("w", "w", ("o", "i", "u", "v"), "kernels"),
        Input("b", "b", ("o",), "bias"),
    ),
    steps=(
        Step(
            name="columns",
            symbol="X",
            axes=("n", "i", "u", "v", "p", "q"),
            equation=r"X_{niuvpq} = x_{n,\,i,\,p+u,\,q+v}",
            forward=patches(x),
            backward={
                "x": Local(
                    r"dx_{nihk} \mathrel{+}= \sum_{p+u=h} \sum_{q+v=k} dX_{niuvpq}",
                    fold(d("columns")),
                )
            },
            meaning=(
                "The patch that output position (p, q) sees. Pixels are copied, nothing is computed; "
                "on the way back every pixel adds up the gradients of its copies."
            ),
            source=CHELLAPILLA,
        ),
        Step(
            name="product",
            symbol="z",
            axes=("n", "o", "p", "q"),
            equation=r"z_{nopq} = \sum_{i,u,v} w_{oiuv}\, X_{niuvpq}",
            forward=sum_(w * columns, "i", "u", "v"),
            backward={
                "columns": Local(r"dX_{niuvpq} \mathrel{+}= \sum_o w_{oiuv}\, dz_{nopq}", sum_(w * d("product"), "o")),
                "w": Local(
                    r"dw_{oiuv} \mathrel{+}= \sum_{n,p,q} X_{niuvpq}\, dz_{nopq}",
                    sum_(columns * d("product"), "n", "p", "q"),
                ),
            },
            meaning="The linear layer's product, at every position with the same weights.",
            source=LECUN,
        ),
        Step(
            name="y",
            symbol="y",
            axes=("n", "o", "p", "q"),
            equation=r"y_{nopq} = z_{nopq} + b_o",
            forward=product + b,
            backward={
                "product": Local(r"dz_{nopq} \mathrel{+}= dy_{nopq}", d("y")),
                "b": Local(r"db_o \mathrel{+}= \sum_{n,p,q} dy_{nopq}", sum_(d("y"), "n", "p", "q")),
            },
            meaning="One bias per output channel, shared by all samples and positions.",
            source=LECUN,
        ),
    ),
    layer="uanref.layers.conv.Conv2d",
)
