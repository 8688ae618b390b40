"""Sums of products over samples and space: squares for a variance, ``dy x`` for the gradient of a scale."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.sums import LONGEST, SHORT_ROW, sum_samples


def sum_products(a: Array, b: Array, out: Array) -> Array:
    """Return ``sum a b`` over samples and space, twice ``(N, C, S) -> (C,)``.

    Long rows on the host are scalar products, which write nothing. Of other arrays the products are written to
    ``out``, of their shape, which may be one of the two.
    """
    xp, spatial = backend.namespace(a, b), a.shape[2]
    if (
        SHORT_ROW < spatial <= LONGEST
        and backend.name_of(a) == "numpy"
        and a.flags.c_contiguous
        and b.flags.c_contiguous
    ):
        rows: Array = xp.vecdot(a, b)  # (N, C)
        return sum_samples(rows[:, :, None])
    xp.multiply(a, b, out=out)
    return sum_samples(out)
