"""Elementwise activations: each ``dx = f'(x) dy``, with f' written beside f."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer


class ReLU(Layer):
    """The positive part, ``y = max(x, 0)``; ``dx = dy`` where x > 0, else 0 (at x = 0: this project's choice)."""

    def forward(self, x: Array) -> Array:
        """Return ``max(x, 0)``; any shape, any float dtype."""
        self._check_input(x)
        y: Array = backend.namespace(x).maximum(x, 0)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` where the output was positive, else 0."""
        (y,) = self._take(dy)
        dx: Array = dy * (y > 0)
        return dx
