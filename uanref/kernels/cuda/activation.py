"""GELU on a device: one launch forward, which reads x and writes y and the slope.

The array code of the definition launches 42 kernels.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel, serves


def gelu(x: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.activation.gelu`: 1 launch."""
    if not serves(x):
        return NotImplemented
    xp = backend.namespace(x)
    x = xp.ascontiguousarray(x)
    y, slope = xp.empty(x.shape, dtype=x.dtype), xp.empty(x.shape, dtype=x.dtype)
    kernel("gelu", "gelu", x.dtype.char)((-(-x.size // THREADS),), (THREADS,), (x, y, slope, x.size))
    return y, slope
