"""Cases of the neighbours that are layers; each has a second input."""

from __future__ import annotations

import numpy as np

from uanref.backend import Array
from uanref.layers.base import Layer
from uanref.neighbours.alcn import AdaptiveLocalContrastNorm
from uanref.neighbours.clade import ClassAdaptiveNorm
from uanref.verify.catalogue.case import Case, prepared, spread


def neighbour_cases() -> list[Case]:
    """Return the neighbours, the second input fixed or as a parameter."""

    shape = (3, 2, 4, 3)
    classes = np.random.default_rng(9).integers(0, 3, size=(3, 4, 3))
    return [
        Case("AdaptiveLocalContrastNorm, two filters", lambda: spread(_ContrastOfImages((0.6, 1.5), 3)), shape, True),
        *(
            Case(
                f"ClassAdaptiveNorm {mode}",
                lambda mode=mode: prepared(_ClassesOfPixels(2, classes), shape, mode),  # type: ignore[misc]
                shape,
                True,
            )
            for mode in ("train", "eval")
        ),
    ]


class _ContrastOfImages(Layer):
    """Adaptive local contrast normalization; its second input, a weight per image and filter, is a parameter."""

    def __init__(self, sigmas: tuple[float, ...], images: int) -> None:
        super().__init__("float64")
        self.body = AdaptiveLocalContrastNorm(sigmas)
        self.weights = self._new(np.full((images, len(sigmas)), 0.5))

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.weights.value)

    def backward(self, dy: Array) -> Array:
        dx, dweights = self.body.backward(dy)
        self.weights.receive(dweights)
        return dx


class _ClassesOfPixels(Layer):
    """Class-adaptive normalization with a fixed class map, which moves with ``to``."""

    buffer_names = ("class_map",)

    def __init__(self, channels: int, class_map: Array) -> None:
        super().__init__()
        self.class_map = class_map
        self.body = ClassAdaptiveNorm(channels, int(class_map.max()) + 1, dtype="float64")

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.class_map)

    def backward(self, dy: Array) -> Array:
        return self.body.backward(dy)
