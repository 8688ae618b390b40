"""Several arrays of one shape in pieces that stay in the cache, whatever their shape and layout."""

from __future__ import annotations

from collections.abc import Callable

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, walk

# Measured with Adam on 401,408 float32 parameters: 4096 numbers took 2.1 ms, 16,384 1.3 and 65,536 1.15; whole 1.9.
PIECE = 1 << 16


def in_pieces(task: Callable[..., None], *arrays: Array) -> None:
    """Call ``task(scratch, *pieces)`` for pieces that together are the ``arrays``, of one shape; on a device once.

    What is elementwise does not ask where in an array its piece was, so arrays are cut in the order of memory where
    they share one. Small ones stay whole: cutting would take longer than the arithmetic.
    """
    if arrays[0].size <= PIECE or backend.name_of(arrays[0]) != "numpy":
        task(Scratch(), *arrays)
        return
    rows = in_memory_order(*arrays)

    def move(piece: slice, scratch: Scratch) -> None:
        task(scratch, *[row[piece] for row in rows])

    walk(move, pieces(rows[0]), rows[0].size, products=False)


def in_memory_order(*arrays: Array) -> tuple[Array, ...]:
    """View arrays of one shape as vectors where all lie in memory alike without gaps; else return them as they are."""
    if all(a.flags.c_contiguous for a in arrays):
        return tuple([a.reshape(-1) for a in arrays])
    if all(a.flags.f_contiguous for a in arrays):
        return tuple([a.T.reshape(-1) for a in arrays])
    return arrays


def pieces(row: Array) -> list[slice]:
    """Cut the first axis into slices of :data:`PIECE`, the last one of what is left."""
    return [slice(i, i + PIECE) for i in range(0, len(row), PIECE)]
