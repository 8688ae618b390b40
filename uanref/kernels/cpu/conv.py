"""The convolution in blocks of samples: as shifted planes where they serve, else as patches."""

from __future__ import annotations

from uanref.backend import Array
from uanref.kernels.cpu import planes
from uanref.kernels.cpu.columns import ARRAY_CODE, Window, gradients, multiplied


def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Serve :func:`uanref.layers.conv.forward`."""
    if planes.serves(x, window):
        return planes.forward(x, weight, bias, window)
    return multiplied(x, weight, bias, window, ARRAY_CODE)


def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.conv.backward`."""
    if planes.serves(x, window):
        return planes.backward(dy, x, weight, window)
    return gradients(dy, x, weight, window, ARRAY_CODE)
