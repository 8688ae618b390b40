"""The rectified linear unit: one node, and the smallest example of a local gradient."""

from __future__ import annotations

import numpy as np

from uanref.backend import Array
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, maximum, ref, step
from uanref.derivations.steps import Input, Local, Step

x = ref("x")


def _away_from_the_kink(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw numbers of both signs, none so close to 0 that the numerical derivative's step crosses it."""
    signs: Array = rng.choice([-1.0, 1.0], shape)
    return signs * rng.uniform(0.1, 2.0, shape)


RELU = Derivation(
    name="relu",
    title="Rectified linear unit",
    summary=(
        "Positive values pass, all others become 0. The gradient passes where the value did. "
        "At 0 itself there is no derivative: the gradient is taken as 0, and the numerical one is 1/2."
    ),
    axes={"m": "sample", "c": "feature"},
    sizes={"m": 4, "c": 3},
    inputs=(Input("x", "x", ("m", "c"), "activations", _away_from_the_kink),),
    steps=(
        Step(
            name="y",
            symbol="y",
            axes=("m", "c"),
            equation=r"y_{mc} = \mathrm{max}\left( x_{mc}, 0 \right)",
            forward=maximum(x, 0),
            backward={"x": Local(r"dx_{mc} \mathrel{+}= \left[ x_{mc} > 0 \right] dy_{mc}", step(x) * d("y"))},
            meaning="The positive part. The bracket is 1 where its condition holds, else 0.",
            source="Nair & Hinton 2010, section 2.1; the gradient at 0 is this project's choice",
        ),
    ),
    layer="uanref.layers.activation.ReLU",
)
