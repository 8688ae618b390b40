"""How one NumPy operation runs at full speed: where its result begins, and how long its inner loop is.

Both matter on the host alone. On a device these functions allocate and broadcast as usual.
"""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch

# A cache line, and a vector of the widest instructions.
LINE_BYTES = 64
# Smaller arrays are not worth the arithmetic that finds a line.
ALIGNED_BYTES = 1 << 14
# Up to so many spatial elements, a channel's value is repeated over them.
REPEATED = 256
# Inner loops from this length on cost less one by one than NumPy's copies of what is broadcast.
LEAST_ROW = 256


def empty(shape: tuple[int, ...], like: Array, scratch: Scratch | None = None, name: str = "") -> Array:
    """Return an uninitialized array that begins on a cache line, with the dtype and backend of ``like``.

    Allocators align to 16 bytes. Then every vector that is written straddles two lines, at half the speed. With
    ``scratch`` the memory is the buffer ``name`` there.
    """
    xp, size, dtype = backend.namespace(like), math.prod(shape), like.dtype
    is_aligned = size * dtype.itemsize >= ALIGNED_BYTES and backend.name_of(like) == "numpy"
    margin = LINE_BYTES // dtype.itemsize if is_aligned else 0
    room: Array = xp.empty(size + margin, dtype=dtype) if scratch is None else scratch(name, (size + margin,), like)
    if is_aligned:
        start = -room.ctypes.data % LINE_BYTES // dtype.itemsize
        room = room[start : start + size]
    return room.reshape(shape)


def spread(a: Array, spatial: int) -> Array:
    """Give ``(C,)`` a shape that broadcasts against ``(N, C, S)``: ``(C, 1)``, or repeated ``(C, S)`` for short rows.

    NumPy's inner loop then runs over C S numbers instead of S.
    """
    if spatial == 1 or spatial > REPEATED or backend.name_of(a) != "numpy":
        return a[:, None]
    return a.repeat(spatial).reshape(-1, spatial)


class LongRows:
    """Inside this block NumPy walks over rows of ``length`` numbers as they are, and copies nothing.

    Where an inner loop is shorter than NumPy's buffer of 8192 numbers, NumPy >= 2.3 fills the buffer with copies of
    what is broadcast, at twice the price of the operation itself. So the buffer becomes no longer than the loop.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.before = 0

    def __enter__(self) -> None:
        numpy = backend.module("numpy")
        if LEAST_ROW <= self.length < numpy.getbufsize():
            self.before = numpy.setbufsize(self.length // 16 * 16)  # this thread's, and its helpers' in a walk

    def __exit__(self, *error: object) -> None:
        if self.before:
            backend.module("numpy").setbufsize(self.before)


def rows_of(x: Array) -> LongRows:
    """Return the block for ``(N, C, S)`` beside what :func:`spread` returned."""
    _, channels, spatial = x.shape
    return LongRows(spatial if spatial > REPEATED else channels * spatial)
