"""Several arrays of one shape in pieces that stay in the cache, whatever their shape and layout."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array

# Measured with Adam on 401,408 float32 parameters: 4096 numbers took 2.1 ms, 16,384 1.3 and 65,536 1.15; whole 1.9.
PIECE = 1 << 16


def in_memory_order(*arrays: Array) -> tuple[Array, ...]:
    """View arrays of one shape as vectors where all lie in memory alike without gaps; else return them as they are.

    What is elementwise does not ask in which order it meets the elements.
    """
    if all([a.flags.c_contiguous for a in arrays]):
        return tuple([a.reshape(-1) for a in arrays])
    if all([a.flags.f_contiguous for a in arrays]):
        return tuple([a.T.reshape(-1) for a in arrays])
    return arrays


def pieces(a: Array) -> list[slice]:
    """Cut the first axis of ``a``, of :func:`in_memory_order`, into slices that hold :data:`PIECE` numbers.

    Returns:
        At least one slice; exactly one on a device, and for what is no vector.
    """
    length = len(a)
    if length <= PIECE or a.ndim != 1 or backend.name_of(a) != "numpy":
        return [slice(0, length)]
    return [slice(i, min(i + PIECE, length)) for i in range(0, length, PIECE)]
