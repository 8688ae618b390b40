"""ReLU and LeakyReLU on the host, in runs that stay in the cache, by several threads where they are long.

NumPy's ``maximum`` has vector instructions for two arrays alone: beside a number it takes five times as long. So the
number is laid out as a row, which stays in the cache. And NumPy converts truth values piece by piece before it
multiplies with them; the sign of ``0 - y`` tells the same of a y that is not negative, as all bits of an integer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import walk
from uanref.kernels.cpu.lines import empty
from uanref.kernels.cpu.selection import choose

# So many numbers at a time: three arrays of as many float32 take 1.5 MiB.
RUN = 1 << 17
# A row of one number, as long as what NumPy's buffers hold: loops over as many numbers use none.
ROW = 1 << 13


def relu(x: Array) -> Array:
    """Return ``max(x, 0)``."""
    flat, y = _flat(x), empty(x.shape, x)
    out = y.reshape(-1)
    _in_runs(lambda run: _at_least(flat[run], 0.0, out[run]), x.size)
    return y


def leaky_relu(x: Array, slope: float) -> Array:
    """Return ``max(x, a x)`` for an a that is not 0 in the dtype of x."""
    xp, flat, y = backend.namespace(x), _flat(x), empty(x.shape, x)
    out = y.reshape(-1)

    def task(run: slice) -> None:
        xp.multiply(flat[run], slope, out=out[run])
        xp.maximum(flat[run], out[run], out=out[run])

    _in_runs(task, x.size)
    return y


def relu_backward(dy: Array, y: Array) -> Array:
    """Return ``dy`` where y is positive, else y itself, which is 0, or NaN."""
    xp, flat_dy, flat_y, dx = backend.namespace(dy, y), _flat(dy), _flat(y), empty(y.shape, dy)
    out, bits = dx.reshape(-1), f"i{dy.dtype.itemsize}"

    def task(run: slice) -> None:
        y, dy = flat_y[run], flat_dy[run]
        if y.min() >= 0.0:  # no NaN, so y is 0 where it is not positive
            xp.subtract(0.0, y, out=out[run])  # negative where y is positive, else 0 and not -0
            mask = out[run].view(bits)
            xp.right_shift(mask, 8 * mask.itemsize - 1, out=mask)  # all bits, or none
            mask &= dy.view(bits)
        else:
            out[run] = choose(y > 0.0, dy, y)

    _in_runs(task, y.size)
    return dx


def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """Return ``dy`` where y is positive, else ``a dy``, for an a in [0, 1] that is not 0 in the dtype of dy."""
    flat_dy, flat_y, dx = _flat(dy), _flat(y), empty(y.shape, dy)
    out = dx.reshape(-1)

    def task(run: slice) -> None:
        y, found = flat_y[run], out[run]
        found[...] = y > 0.0  # 1 or 0
        _at_least(found, slope, found)  # 1 or a: the product is dy to its last bit, or a dy
        found *= flat_dy[run]
        if y.min() != y.min():
            found[...] = choose(y == y, found, y)  # a NaN, which equals nothing, stays one

    _in_runs(task, y.size)
    return dx


def _in_runs(task: Callable[[slice], object], size: int) -> None:
    if size <= RUN:
        task(slice(0, size))
    else:
        walk(lambda run, scratch: task(run), [slice(i, min(i + RUN, size)) for i in range(0, size, RUN)], size)


def _at_least(x: Array, least: float, out: Array) -> None:
    """Write ``max(x, least)`` into ``out``, both rank 1 and contiguous."""
    maximum, row = backend.namespace(x).maximum, _row(least, ROW, x.dtype.char)
    whole = x.size - x.size % ROW
    if whole:
        maximum(x[:whole].reshape(-1, ROW), row, out=out[:whole].reshape(-1, ROW))
    if whole < x.size:
        maximum(x[whole:], row[: x.size - whole], out=out[whole:])


@functools.lru_cache(maxsize=16)
def _row(value: float, length: int, dtype_char: str) -> Array:
    row: Array = backend.module("numpy").full(length, value, dtype=dtype_char)
    return row


def _flat(x: Array) -> Array:
    flat: Array = backend.namespace(x).ascontiguousarray(x).reshape(-1)
    return flat
