"""Pooling in two steps, columns then rows, in blocks of samples: see :mod:`uanref.kernels.cpu.frames`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu import places
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.frames import columns, crop, frame, from_columns, from_rows, lay, planes, rows

Window: TypeAlias = Any
"""A :class:`uanref.layers.window.Window`, of dilation 1."""


_kept = threading.local()
"""Each thread's buffers for small images, a few MiB at most: fresh memory would cost as much as the arithmetic."""
NUMBERS = 8
"""So many times its pixels a sample takes on both ways, for blocks that stay in the second-level cache."""


def max_pool(x: Array, window: Window) -> Array:
    """Serve :func:`uanref.layers.pooling.max_pool`."""
    of = frame(window, x.shape)
    if backend.name_of(x) != "numpy" or of.is_wasteful:
        return places.max_pool(x, window)
    y: Array = backend.namespace(x).empty((*x.shape[:2], *of.windows), dtype=x.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        seen = columns(planes(lay(x[block], of, -math.inf, scratch), of), of)
        of_rows = _largest(seen, scratch("of rows", seen[0].shape, x))
        _largest(rows(of_rows, of, scratch), y[block].reshape(-1))

    _each(task, x)
    return y


def max_pool_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """Serve :func:`uanref.layers.pooling.max_pool_backward`."""
    xp, of = backend.namespace(x, dy), frame(window, x.shape)
    if backend.name_of(x) != "numpy" or of.is_wasteful:
        return places.max_pool_backward(dy, x, y, window)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        maxima, gradient = (xp.ascontiguousarray(a[block]).reshape(-1) for a in (y, dy))
        if not (maxima.min() > -math.inf and maxima.max() == maxima.max()):
            # A NaN equals nothing, and what surrounds the image equals minus infinity.
            dx[block] = places.max_pool_backward(dy[block], x[block], y[block], window)
            return
        laid = lay(x[block], of, -math.inf, scratch)
        seen = columns([_copy(plane, f"plane {i}", scratch) for i, plane in enumerate(planes(laid, of))], of)
        of_rows = _largest(seen, scratch("of rows", seen[0].shape, x))
        d_rows = from_rows(_shares(gradient, maxima, rows(of_rows, of, scratch), scratch, "of row"), of, scratch)
        shares = _shares(d_rows, of_rows, seen, scratch, "of column")
        if of.is_image:
            from_columns(shares, of, dx[block].reshape(-1))
        else:
            d_laid = scratch("d laid", laid.shape, laid)
            from_columns(shares, of, d_laid)
            crop(d_laid, of, dx[block])

    _each(task, x)
    return dx


def _copy(z: Array, name: str, scratch: Scratch) -> Array:
    made = scratch(name, z.shape, z)
    made[...] = z
    return made


def _largest(of: list[Array], out: Array) -> Array:
    """Return the largest of several numbers each, in ``out``; later arrays may be shorter."""
    xp, (largest, *others) = backend.namespace(out), of
    shorter = others[0].size if others else 0
    out[shorter:] = largest[shorter:]  # of no window, or all there is; never what happens to be in memory
    for other in others:
        largest = xp.maximum(largest[: other.size], other, out=out[: other.size])
    return out


def _shares(given: Array, largest: Array, of: list[Array], scratch: Scratch, name: str) -> list[Array]:
    """Give each number to the first of several that is the largest; return what each gets, 0 to the others.

    Bits are masked, numbers not multiplied by 0, and what is left is found by taking bits away. The last one gets it.
    """
    xp, left = backend.namespace(given), given.view(f"i{given.dtype.itemsize}")
    found = []
    for i, one in enumerate(of[:-1]):
        is_largest = scratch("is largest", one.shape, given[:0].view("bool"))
        xp.equal(one, largest[: one.size], out=is_largest)
        mask, taken = (scratch(part, one.shape, left) for part in ("mask", f"{name} {i}"))
        signs = is_largest.view("int8")
        mask[...] = xp.negative(signs, out=signs)  # all bits, or none
        xp.bitwise_and(left[: one.size], mask, out=taken)
        left = xp.bitwise_xor(left[: one.size], taken, out=scratch(f"{name} left", one.shape, left))
        found.append(taken.view(given.dtype))
    return [*found, left[: of[-1].size].view(given.dtype)]


def mean_pool(x: Array, window: Window) -> Array:
    """Serve :func:`uanref.layers.pooling.mean_pool`."""
    of, size = frame(window, x.shape), math.prod(window.kernel)
    if backend.name_of(x) != "numpy" or not of.is_tiled or size > places.LONGEST_SUM:
        return places.mean_pool(x, window)
    y: Array = backend.namespace(x).empty((*x.shape[:2], *of.windows), dtype=x.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        seen = columns(planes(lay(x[block], of, 0.0, scratch), of), of)
        found = y[block].reshape(-1)
        _sum(rows(_sum(seen, scratch("of rows", seen[0].shape, x)), of, scratch), found)
        found *= 1.0 / size

    _each(task, x)
    return y


def mean_pool_backward(dy: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Serve :func:`uanref.layers.pooling.mean_pool_backward`."""
    of = frame(window, shape)
    if backend.name_of(dy) != "numpy" or not of.is_tiled:
        return places.mean_pool_backward(dy, shape, window)
    xp = backend.namespace(dy)
    dx: Array = xp.empty(shape, dtype=dy.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        share = xp.ascontiguousarray(dy[block]).reshape(-1) * (1.0 / math.prod(of.kernel))
        d_rows = from_rows([share] * of.kernel[0], of, scratch)
        from_columns([d_rows] * of.kernel[1], of, dx[block].reshape(-1))

    _each(task, dx)
    return dx


def _sum(of: list[Array], out: Array) -> Array:
    """Return the sum of several numbers each, in ``out``."""
    out[...] = of[0]
    for other in of[1:]:
        out += other
    return out


def _each(task: Callable[[slice, Scratch], None], x: Array) -> None:
    """Run ``task`` for every block of x; a single one needs no walk, and finds the buffers of the one before."""
    blocks = sample_blocks(x, NUMBERS * math.prod(x.shape[1:]))
    if len(blocks) > 1:
        walk(task, blocks, x.size)
    else:
        task(blocks[0], vars(_kept).setdefault(backend.name_of(x), Scratch()))
