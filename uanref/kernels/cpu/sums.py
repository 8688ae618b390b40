"""Long sums: products with ones on the host, in two stages on a device, which keeps all its blocks busy."""

from __future__ import annotations

import functools
import math

from uanref import backend
from uanref.backend import Array, DType
from uanref.kernels.cpu.blocks import Scratch, walk
from uanref.kernels.cpu.elementwise import in_memory_order, pieces
from uanref.kernels.cpu.threads import one_blas_thread

# How many numbers of a long sum a device adds up in one go: the fewer, the more results, and so the more blocks.
DEVICE_RUN = 256
# So many numbers may be added up by one product: NumPy's own reduction adds in pairs, which is more exact beyond.
LONGEST = 4096
# Samples that are added up one after the other: the rounding of a sum of positive numbers grows with its length.
SAMPLE_RUN = 1024
# Rows up to this length are added up over the samples first.
SHORT_ROW = 256


def sum_samples(z: Array) -> Array:
    """Sum over samples and space, ``(..., N, C, S) -> (..., C)``.

    Where rows are short, the host adds up the samples first, as a product of ones with ``(N, C S)``.
    """
    if backend.name_of(z) != "numpy":
        sums = sum_rows(z)  # (..., N, C)
        return _sum_in_runs(sums, sums.ndim - 2)
    *outer, samples, channels, spatial = z.shape
    if samples > SAMPLE_RUN:
        cut = samples // SAMPLE_RUN * SAMPLE_RUN
        runs = z[..., :cut, :, :].reshape(*outer, -1, SAMPLE_RUN, channels, spatial)
        several: Array = sum_samples(runs).sum(axis=-2)
        return several if cut == samples else several + sum_samples(z[..., cut:, :, :])
    if spatial <= SHORT_ROW and z.flags.c_contiguous:
        with one_blas_thread():  # several would cut the columns, and change last digits
            places: Array = _ones(samples, z.dtype) @ z.reshape(*outer, samples, channels * spatial)  # (..., C S)
        return places if spatial == 1 else places.reshape(*outer, channels, spatial) @ _ones(spatial, z.dtype)
    total: Array = sum_rows(z).sum(axis=-2)
    return total


def sum_rows(z: Array) -> Array:
    """Sum the last axis, ``(..., S) -> (...)``.

    On the host as a product with a vector of ones, several times faster than a reduction. Long rows are cut into equal
    parts, and those that cannot be cut take the reduction, whose pairwise order is more exact.
    """
    spatial = z.shape[-1]
    if spatial == 1:
        return z[..., 0]
    if backend.name_of(z) != "numpy":
        return _sum_in_runs(z, z.ndim - 1)
    part = spatial if spatial <= LONGEST else math.gcd(spatial, LONGEST)
    if not z.flags.c_contiguous or part < min(spatial, SHORT_ROW):
        total: Array = z.sum(axis=-1)
        return total
    sums: Array = z.reshape(-1, part) @ _ones(part, z.dtype)
    return sums.reshape(z.shape[:-1]) if part == spatial else sums.reshape(*z.shape[:-1], -1).sum(axis=-1)


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
