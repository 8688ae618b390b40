"""Long sums: products with ones on the host, in two stages on a device, which keeps all its blocks busy."""

from __future__ import annotations

import functools

from uanref import backend
from uanref.backend import Array, DType
from uanref.kernels.cpu.blocks import Scratch, walk
from uanref.kernels.cpu.elementwise import in_memory_order, pieces

# How many numbers of a long sum a device adds up in one go: the fewer, the more results, and so the more blocks.
DEVICE_RUN = 256


def sum_samples(z: Array) -> Array:
    """Sum over samples and space, ``(..., N, C, S) -> (..., C)``."""
    sums = sum_rows(z)  # (..., N, C)
    if backend.name_of(z) != "numpy":
        return _sum_in_runs(sums, sums.ndim - 2)
    total: Array = sums.sum(axis=-2)
    return total


def sum_rows(z: Array) -> Array:
    """Sum the last axis, ``(..., S) -> (...)``.

    On the host as a product with a vector of ones, several times faster than a reduction
    (long rows take the reduction, whose pairwise order is more exact).
    """
    spatial = z.shape[-1]
    if spatial == 1:
        return z[..., 0]
    if backend.name_of(z) != "numpy":
        return _sum_in_runs(z, z.ndim - 1)
    if spatial > 4096 or not z.flags.c_contiguous:
        total: Array = z.sum(axis=-1)
        return total
    rows: Array = (z.reshape(-1, spatial) @ _ones(spatial, z.dtype)).reshape(z.shape[:-1])
    return rows


def sum_all(z: Array) -> Array:
    """Sum all entries, any shape ``-> ()``; waits for nothing."""
    total: Array = z.sum() if backend.name_of(z) == "numpy" else _sum_in_runs(z.reshape(-1), 0)
    return total


def sum_squares(z: Array) -> Array:
    """Sum the squares of all entries, any shape ``-> ()``: on the host converted while they are in the cache."""
    if backend.name_of(z) != "numpy":
        return sum_all(backend.namespace(z).square(z, dtype="float64"))
    row = in_memory_order(z)[0].reshape(-1)

    def add(block: slice, _: Scratch) -> Array:
        wide = row[block].astype("float64", copy=False)
        product: Array = wide @ wide
        return product

    parts = walk(add, pieces(row), row.size)
    total: Array = backend.module("numpy").asarray(parts).sum()
    return total


def _sum_in_runs(z: Array, axis: int) -> Array:
    """Sum one axis on a device, in two stages where it is long.

    A device's reduction starts about as many blocks as it has results: 2 for the 64 channels of a million samples,
    and one for the sum of everything. So runs of the axis are summed first, then the runs.
    """
    length = z.shape[axis]
    run = DEVICE_RUN
    runs = length // run
    if runs < 2:
        short: Array = z.sum(axis=axis)
        return short
    before = (slice(None),) * axis
    shape = (*z.shape[:axis], runs, run, *z.shape[axis + 1 :])
    total: Array = _sum_in_runs(z[(*before, slice(0, runs * run))].reshape(shape).sum(axis=axis + 1), axis)
    if runs * run < length:
        total = total + z[(*before, slice(runs * run, None))].sum(axis=axis)
    return total


@functools.lru_cache(maxsize=16)
def _ones(length: int, dtype: DType) -> Array:
    ones: Array = backend.module("numpy").ones(length, dtype=dtype)
    return ones
