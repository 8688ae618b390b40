"""Slopes that are a choice, chosen without a jump."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu import rectifier
from uanref.kernels.cpu.gelu import gelu_float32, product
from uanref.kernels.cpu.selection import choose


def relu(x: Array) -> Array:
    """Serve :func:`uanref.layers.activation.relu`."""
    if backend.name_of(x) == "numpy":
        return rectifier.relu(x)
    y: Array = backend.namespace(x).maximum(x, 0)
    return y


def relu_backward(dy: Array, y: Array) -> Array:
    """Serve :func:`uanref.layers.activation.relu_backward`."""
    if backend.name_of(y) == "numpy" and y.size:
        return rectifier.relu_backward(dy, y)
    return choose(y > 0, dy, y)


def leaky_relu(x: Array, slope: float) -> Array:
    """Serve :func:`uanref.layers.activation.leaky_relu`."""
    if _is_long(x) and x.dtype.type(slope):
        return rectifier.leaky_relu(x, slope)
    y: Array = backend.namespace(x).maximum(x, _leak(x, slope))
    return y


def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """Serve :func:`uanref.layers.activation.leaky_relu_backward`."""
    if backend.name_of(y) == "numpy" and dy.dtype.type(slope):
        return rectifier.leaky_relu_backward(dy, y, slope)
    return choose(y == y, choose(y > 0, dy, _leak(dy, slope)), y)


def _is_long(x: Array) -> bool:
    """Tell whether x is worth more than one run; on a device, never."""
    return x.size > rectifier.RUN and backend.name_of(x) == "numpy"


def gelu(x: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.activation.gelu` in float32 on the host."""
    if backend.name_of(x) != "numpy" or x.dtype != "float32":
        return NotImplemented
    return gelu_float32(x)


def gelu_backward(dy: Array, slope: Array) -> Array:
    """Serve :func:`uanref.layers.activation.gelu_backward`."""
    if backend.name_of(dy) != "numpy":
        return slope * dy
    return product(slope, dy)


def _leak(dy: Array, slope: float) -> Array:
    """Return ``a dy``, and 0 for an a that is 0 in the dtype of dy, also where dy is infinite."""
    scaled: Array = slope * dy if dy.dtype.type(slope) else backend.namespace(dy).zeros_like(dy)
    return scaled
