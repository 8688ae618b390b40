"""A layer at one point, to be used in other ways than at first: what :mod:`uanref.gradcheck.promises` works with."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.numerical import upstream
from uanref.gradcheck.probe import Function
from uanref.gradcheck.scale import norm, rounding, variation
from uanref.layers.base import Layer

AGREE = 1e-8  # how far two calls in float64 may differ, in units of the larger value or of an ordinary gradient


@dataclass
class Results:
    """What one forward and one backward pass gave: ``"y"``, ``"x"`` (the gradient dx) and each parameter's gradient."""

    arrays: dict[str, Array]

    def copied(self) -> Results:
        """Return the same, in arrays of its own."""
        return Results({name: array.copy() for name, array in self.arrays.items()})

    def plus(self, other: Results) -> Results:
        """Return the sums, array by array."""
        return Results({name: array + other.arrays[name] for name, array in self.arrays.items()})


class Subject:
    """A layer at a drawn point and two pairs of arguments, ``(x, dy)`` and ``(other_x, other_dy)``.

    Every method works on copies: what one does to the layer, the next does not see.
    """

    def __init__(self, layer: Layer, x: Array, seed: int) -> None:
        layer.clear()
        self.layer, self.seed = layer, seed
        self.state = layer.state_dict()
        self._generators = {path: rng.bit_generator.state for path, rng in layer.generators().items()}
        draw = np.random.default_rng([seed, 0xD9])
        self.x = np.ascontiguousarray(x).copy()
        self.other_x: Array = x + 0.5 * draw.standard_normal(x.shape)
        y = self.new().forward(self.x.copy())
        self.dy = upstream(y.shape, seed)
        self.other_dy: Array = draw.standard_normal(tuple(y.shape))
        function = Function(self.new(), self.x)
        # The length of y as far as it varies or is of unit scale; norm(dy) times that is an ordinary gradient's. A
        # gradient that cancels (two samples of a normalization) is rounded like the terms that it is made of.
        unit = min(norm(y), math.sqrt(y.size))
        self.scale = max(variation(function, y, rounding(function, y)), unit)

    @property
    def pairs(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """The two pairs of arguments ``(x, dy)``."""
        return (self.x, self.dy), (self.other_x, self.other_dy)

    def new(self) -> Layer:
        """Return a copy of the layer that was never used at this point."""
        return copy.deepcopy(self.layer)

    def rewind(self, layer: Layer) -> None:
        """Put parameters, buffers and generators back, without touching pending passes: the calls stay one function."""
        layer.load_state_dict(self.state)
        for path, rng in layer.generators().items():
            rng.bit_generator.state = self._generators[path]

    def reference(self, x: Array, dy: Array) -> Results:
        """Return what the first call of a new copy gives for plain copies of the arguments."""
        return call(self.new(), x.copy(), dy.copy()).copied()

    def ordinary(self, name: str, dy: Array, size: int) -> float:
        """Return the size of an ordinary entry of y, or of a gradient with ``size`` entries."""
        if name == "y":
            return self.scale / math.sqrt(max(size, 1))
        return norm(dy) * self.scale / math.sqrt(max(size, 1))

    def differs(self, found: Results, expected: Results, dy: Array) -> str:
        """Name the first array that is not what was expected; empty if all agree."""
        for name, right in expected.arrays.items():
            array = found.arrays.get(name)
            if array is None or array.shape != right.shape:
                return f"{spoken(name)} is missing or of another shape"
            bound = AGREE * max(float(np.max(abs(right), initial=0.0)), self.ordinary(name, dy, right.size))
            gap = float(np.max(abs(array - right), initial=0.0))
            if not gap <= bound:
                return f"{spoken(name)} is off by up to {gap:.3g}"
        return ""


def call(layer: Layer, x: Array, dy: Array) -> Results:
    """Run forward and backward; the results are the layer's own arrays, not copies."""
    y = layer.forward(x)
    return Results({"y": y} | pulled(layer, dy).arrays)


def pulled(layer: Layer, dy: Array) -> Results:
    """Run backward alone.

    Raises:
        ValueError: it left a parameter without a gradient.
    """
    found = {"x": layer.backward(dy)}
    for name, parameter in layer.parameters().items():
        if parameter.grad is None:
            raise ValueError(f"backward left no gradient for {name}")
        found[name] = parameter.grad
    return Results(found)


def spoken(name: str) -> str:
    """Name an array of :class:`Results` as a reader would."""
    return {"y": "y", "x": "dx"}.get(name, f"the gradient of {name}")


def same(one: Array, other: Array) -> bool:
    """Tell whether two arrays have the same shape and bits, NaN included."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()
