"""Flattening images into vectors."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer


class Flatten(Layer):
    """Lines up all axes but the first, ``(N, ...) -> (N, prod)``; only shapes change, so dx is dy reshaped back."""

    def forward(self, x: Array) -> Array:
        """Return x as a matrix, a view where the memory layout allows it.

        Args:
            x: ``(N, ...)``, rank >= 2.

        Returns:
            ``(N, P)`` with P the product of the other axes.

        Raises:
            ValueError: rank below 2, or an empty array.
            TypeError: not a floating dtype.
        """
        self._check_input(x)
        if x.ndim < 2:
            raise ValueError(
                f"Flatten expects (N, ...) with at least two axes, got {backend.shape_text(x.shape)}: "
                "give single numbers per sample an axis with x.reshape(-1, 1)"
            )
        y: Array = x.reshape(x.shape[0], -1)  # (N, P)
        self._keep(y, x.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` ``(N, P)`` in the shape of x."""
        (shape,) = self._take(dy)
        dx: Array = dy.reshape(shape)  # (N, ...)
        return dx
