"""What a trainer measures at every step, on its device, in as few passes over memory as may be."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.layers.sums import sum_rows, sum_squares


def entries_sum(x: Array) -> Array:
    """Return the sum of all entries of ``x``, ``()``: finite only if every entry is.

    On a device in two stages, since one would leave most of it idle.
    """
    total: Array = x.sum() if backend.name_of(x) == "numpy" else sum_rows(x).sum()
    return total


def put_squares(place: Array, grad: Array) -> None:
    """Write the sum of the squares of ``grad`` into ``place``, ``()``, float64; on a device without a copy of it."""
    if backend.name_of(grad) == "numpy":
        place[...] = sum_squares(grad)
    else:
        sum_rows(backend.namespace(grad).square(grad, dtype="float64")).sum(out=place)
