"""The convolution in blocks of samples: see :mod:`uanref.kernels.cpu.columns`."""

from __future__ import annotations

from uanref.backend import Array
from uanref.kernels.cpu.columns import ARRAY_CODE, Window, gradients, multiplied


def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Serve :func:`uanref.layers.conv.forward`."""
    return multiplied(x, weight, bias, window, ARRAY_CODE)


def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.conv.backward`."""
    return gradients(dy, x, weight, window, ARRAY_CODE)
