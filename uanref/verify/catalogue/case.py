"""A case of the catalogue, and layers in a state that hides no mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uanref import backend
from uanref.layers.base import Layer


class Case(NamedTuple):
    """One entry of the catalogue.

    Attributes:
        name: what it is, with its options.
        make: returns the layer, in float64 on the host, in the mode to be checked; the same at every call.
        shape: of the input.
        analytic: True if the code is analytic from the input and from every parameter to the output, so
            that the complex step must agree as well. A maximum (ReLU, max pooling) and the order that
            decides it are not.
    """

    name: str
    make: Callable[[], Layer]
    shape: tuple[int, ...]
    analytic: bool


def prepared(layer: Layer, shape: tuple[int, ...], mode: str) -> Layer:
    """Spread the parameters; in eval mode after two training passes, so that running moments are not 0 and 1."""
    spread(layer)
    if mode == "eval":
        draw = np.random.default_rng(8)
        with backend.inference():
            for _ in range(2):
                layer.forward(0.4 + 1.5 * draw.standard_normal(shape))
        layer.eval()
    return layer


def spread(layer: Layer) -> Layer:
    """Move every parameter off its start: a scale of 1 or a bias of 0 would hide a missing factor."""
    draw = np.random.default_rng(7)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    return layer
