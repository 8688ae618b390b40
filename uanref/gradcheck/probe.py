"""A layer seen from outside: a function of its tensors near one point, and what its backward pass claims there."""

from __future__ import annotations

import copy
import math

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.gradcheck.claims import Claim
from uanref.gradcheck.numerical import Slopes, slopes, upstream
from uanref.gradcheck.scale import norm, rounding, variation
from uanref.layers.base import Layer


class Function:
    """``y = f(x, parameters)``: a layer that starts every evaluation from the same state.

    The layer may live on a device; arrays that go in or come out here are host arrays.

    Attributes:
        point: the tensors by name, ``"x"`` first.
    """

    def __init__(self, layer: Layer, x: Array) -> None:
        self.layer, self._backend = layer, backend.name_of(x)
        self._state = layer.state_dict()
        self._generators = {path: generator.bit_generator.state for path, generator in layer.generators().items()}
        self.point = {"x": backend.to_host(x).copy()} | {name: self._state[name] for name in layer.parameters()}

    def evaluate(self, name: str, value: Array) -> Array:
        """Return y with one tensor replaced by ``value`` and all others at the point."""
        return self.evaluate_at({name: value})

    def evaluate_at(self, values: dict[str, Array]) -> Array:
        """Return y with some tensors replaced and all others at the point."""
        self.restore()
        parameters = self.layer.parameters()
        for name, value in values.items():
            if name != "x":
                parameters[name].value = self._moved(value)
        y = self.layer.forward(self._moved(values.get("x", self.point["x"])))
        return backend.to_host(y).copy()

    def pull_back(self, dy: Array) -> tuple[dict[str, Array], dict[str, str]]:
        """Return the claimed gradients of ``<dy, y>`` by tensor, and what is wrong with the form of which."""
        self.restore()
        parameters = self.layer.parameters()
        for parameter in parameters.values():
            parameter.grad = None  # so that nothing adds up
        self.layer.forward(self._moved(self.point["x"]))
        found: dict[str, Array | None] = {"x": self.layer.backward(self._moved(dy))}
        found |= {name: parameter.grad for name, parameter in parameters.items()}
        gradients, problems = {}, {}
        for name, grad in found.items():
            value = self.point[name]
            if grad is not None and grad.shape == value.shape and grad.dtype == value.dtype:
                gradients[name] = backend.to_host(grad).copy()
                continue
            gradients[name] = np.full_like(value, math.nan)
            problems[name] = "backward left no gradient"
            if grad is not None:
                problems[name] = (
                    f"backward gave a gradient {grad.shape} of {grad.dtype} for a tensor {value.shape} of {value.dtype}"
                )
        return gradients, problems

    def in_complex(self) -> Function:
        """Return the same function on a copy of the layer in complex128."""
        self.restore()
        layer = copy.deepcopy(self.layer).to("complex128")
        return Function(layer, self._moved(self.point["x"].astype("complex128")))

    def restore(self) -> None:
        """Put the state back and forget pending passes."""
        self.layer.load_state_dict(self._state)
        for path, generator in self.layer.generators().items():
            generator.bit_generator.state = self._generators[path]
        self.layer.clear()

    def _moved(self, array: Array) -> Array:
        return backend.to_device(array.copy(), self._backend)  # a copy: a layer that writes to it spoils only that


class Probe(Function):
    """A layer at one point with a fixed random upstream gradient, for :func:`check`.

    Attributes:
        y: the output at the point.
        dy: the upstream gradient, standard normal.
        gradients: what the backward pass claims, by tensor.
        problems: what is wrong with the form of a claimed gradient, by tensor.
        rounding: how far rounding moves each output, shape of y.
        noise: how far it moves ``<dy, y>``.
        variation: the length of what varies in y.
        norm_dy: ``||dy||``.
        scale: ``||dy||`` times the variation.
        unit: ``||dy||`` times the length of y, but no more than unit scale has.

    Raises:
        RuntimeError: the forward pass gives different outputs from the same state.
    """

    def __init__(self, layer: Layer, x: Array, seed: int) -> None:
        super().__init__(layer, x)
        self.y = self.evaluate("x", self.point["x"])
        self._require_function()
        self.dy = upstream(self.y.shape, seed)
        self.gradients, self.problems = self.pull_back(self.dy)
        self.rounding = rounding(self, self.y)
        self.noise = norm(self.dy * self.rounding)
        self.variation = variation(self, self.y, self.rounding)
        self.norm_dy = norm(self.dy)
        self.scale = self.norm_dy * self.variation
        self.unit = self.norm_dy * min(norm(self.y), math.sqrt(self.y.size))

    def slopes(self, name: str, along: Array, h: float) -> Slopes:
        """Measure how all outputs change when tensor ``name`` moves along a direction."""
        return slopes(lambda t: self.evaluate(name, self.point[name] + t * along), self.y, h)

    def claim(self, name: str, method: str, along: Array, seed: tuple[int, ...] | None = None) -> Claim:
        """Return ``<g, along>``, what the backward pass says of ``<dy, y>`` when ``name`` moves along a direction."""
        analytic = float((self.gradients[name] * along).sum())
        first = tuple(along.reshape(-1)[:4].tolist())
        return Claim(name, method, analytic, self.scale, self.unit, along.size, self.noise, seed=seed, along=first)

    def _require_function(self) -> None:
        gap = norm(self.evaluate("x", self.point["x"]) - self.y)
        if gap > 1e-12 * norm(self.y):
            raise RuntimeError(
                f"{type(self.layer).__name__} gives different outputs from the same state (they differ by {gap:.3g}): "
                "list what its forward changes in buffer_names, and its generator in rng"
            )
