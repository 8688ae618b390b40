"""Dropping out without a jump."""

from __future__ import annotations

from uanref.backend import Array
from uanref.kernels.cpu.selection import choose


def drop(x: Array, kept: Array, p: float) -> Array:
    """Serve :func:`uanref.layers.dropout.drop`."""
    y = choose(kept, x)
    y *= 1.0 / (1.0 - p)
    return y
