"""Pooling over the kh kw places *inside* a window instead of over the windows: for any array, on a device as well.

Place (u, v) of all windows together is one strided slice of the image, so that a 2 x 2 pooling is four array
operations. No pixel occurs twice in a slice, so the way back needs no scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.selection import choose

LONGEST_SUM = 64  # pixels that may be added up one after the other: rounding grows with their number

Window: TypeAlias = Any
"""A :class:`uanref.layers.window.Window`, of dilation 1."""
Place: TypeAlias = "tuple[tuple[slice, ...], tuple[slice, ...]]"


def max_pool(x: Array, window: Window) -> Array:
    """Return the maxima of all windows."""
    xp = backend.namespace(x)
    y: Array = xp.full((*x.shape[:2], *window.positions(x.shape)), -math.inf, dtype=x.dtype)
    for windows, pixels in _places(window, x.shape, y.shape):
        xp.maximum(y[windows], x[pixels], out=y[windows])
    return y


def max_pool_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """Return dL/dx: a window's gradient goes to the first of its pixels that is its maximum, or NaN."""
    xp = backend.namespace(x, dy)
    dx: Array = xp.zeros(x.shape, dtype=x.dtype)
    waiting = xp.ones(y.shape, dtype=bool)  # windows whose maximum has not been met yet
    for windows, pixels in _places(window, x.shape, y.shape):
        # A NaN equals nothing, itself included, and is the maximum of all its windows.
        hit = ((x[pixels] == y[windows]) | (x[pixels] != x[pixels])) & waiting[windows]
        dx[pixels] += choose(hit, dy[windows])
        waiting[windows] ^= hit
    return dx


def mean_pool(x: Array, window: Window) -> Array:
    """Return the means of all windows."""
    dtype = x.dtype if math.prod(window.kernel) <= LONGEST_SUM else backend.wide(x)
    y: Array = backend.namespace(x).zeros((*x.shape[:2], *window.positions(x.shape)), dtype=dtype)
    for windows, pixels in _places(window, x.shape, y.shape):
        y[windows] += x[pixels]
    y *= 1.0 / math.prod(window.kernel)
    return y.astype(x.dtype, copy=False)


def mean_pool_backward(dy: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return dL/dx: a window's pixels share its gradient."""
    share = dy * (1.0 / math.prod(window.kernel))  # (N, C, OH, OW)
    dx: Array = backend.namespace(dy).zeros(shape, dtype=dy.dtype)
    for windows, pixels in _places(window, shape, dy.shape):
        dx[pixels] += share[windows]
    return dx


def _places(window: Window, image: tuple[int, ...], pooled: tuple[int, ...]) -> Iterator[Place]:
    """Yield (windows, pixels) for every place in the window, row by row.

    ``y[windows]`` are the windows whose place (u, v) lies inside the image (all of them unless there is padding), and
    ``x[pixels]``, of the same shape, what they see there.
    """
    every, (top, _, left, _) = slice(None), window.margins
    for u in range(window.kernel[0]):
        down = _inside(u - top, window.stride[0], image[2], pooled[2])
        for v in range(window.kernel[1]):
            across = _inside(v - left, window.stride[1], image[3], pooled[3])
            yield (every, every, down[0], across[0]), (every, every, down[1], across[1])


def _inside(offset: int, stride: int, size: int, windows: int) -> tuple[slice, slice]:
    """Along one axis: which windows see a pixel at ``window * stride + offset``, and which pixels those are."""
    first = max(0, -(offset // stride))  # the first window with window * stride + offset >= 0
    last = min(windows - 1, (size - 1 - offset) // stride)
    seen = max(0, last - first + 1)
    begin = first * stride + offset
    return slice(first, first + seen), slice(begin, begin + max(0, (seen - 1) * stride + 1), stride)
