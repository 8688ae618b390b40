"""How arithmetic walks through memory on a CPU: blocks, threads, buffers. A reader may skip it.

An elementwise chain over an array that exceeds the cache pays for memory at every step. Layers
therefore cut the batch into blocks of whole samples, small enough that all intermediate
results of a block stay in the cache, and hand the blocks to a few threads
(NumPy and BLAS release the interpreter lock). On a device there is one block: the whole batch.

The blocks depend on shapes alone, results come back in block order and BLAS runs with one thread
inside a walk, so the number of threads changes no bit of a walk's result.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import threadpoolctl

from uanref import backend
from uanref.backend import Array, DType

T = TypeVar("T")

# Measured with batch normalization and UAN on (64, 64, 32, 32): from 256 KiB to 8 MiB one thread hardly
# minds, but two threads want few long operations, because each small one ends in a wait for the
# interpreter lock. 4 MiB was fastest; the third-level cache holds it.
BLOCK_BYTES = 1 << 22
# A sum over more samples than this is left to the merge of the blocks' partial sums, in float64:
# adding 10^6 float32 numbers one after the other would lose three digits.
BLOCK_SAMPLES = 4096
# Below this many elements, starting threads costs more than they save.
THREADED_ELEMENTS = 50_000

# How many numbers of a long sum a device adds up in one go: the fewer, the more results, and so the more blocks.
DEVICE_RUN = 256

_threads: int | None = None


class Scratch:
    """Buffers that one worker reuses from block to block, by name; freed when the walk ends."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """Return an uninitialized array of ``shape`` with the dtype and backend of ``like``."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size or buffer.dtype != like.dtype:
            buffer = backend.namespace(like).empty(size, dtype=like.dtype)
            self._buffers[name] = buffer
        return buffer[:size].reshape(shape)


def sample_blocks(x: Array, floats_per_sample: int, block_bytes: int = BLOCK_BYTES) -> list[slice]:
    """Cut axis 0 of ``x`` into slices of whole samples.

    Args:
        x: ``(N, ...)``.
        floats_per_sample: how many numbers one sample's intermediate results hold together.
        block_bytes: how many bytes the intermediate results of a block may take.

    Returns:
        At least one slice; exactly one on a device.
    """
    samples = int(x.shape[0])
    if backend.name_of(x) != "numpy":
        return [slice(0, samples)]
    step = min(max(1, block_bytes // max(1, floats_per_sample * x.dtype.itemsize)), BLOCK_SAMPLES)
    return [slice(i, min(i + step, samples)) for i in range(0, samples, step)]


def walk(task: Callable[[slice, Scratch], T], blocks: list[slice], elements: int) -> list[T]:
    """Return ``[task(block, scratch) for block in blocks]``, by several threads when it is worth it.

    Args:
        task: writes its block's outputs into arrays that it closes over and returns partial results.
        blocks: from :func:`sample_blocks`.
        elements: size of the walked array; small ones stay on the calling thread.
    """
    workers = min(threads(), len(blocks)) if elements >= THREADED_ELEMENTS else 1
    with _one_blas_thread():
        if workers < 2:
            scratch = Scratch()
            return [task(block, scratch) for block in blocks]

        results: list[Any] = [None] * len(blocks)
        tickets = itertools.count()  # next() is atomic: a fast worker takes more blocks

        def work() -> None:
            scratch = Scratch()
            while (i := next(tickets)) < len(blocks):
                results[i] = task(blocks[i], scratch)

        futures = [_pool().submit(work) for _ in range(workers - 1)]
        try:
            work()
        finally:
            for future in futures:
                future.result()
        return results


def as_rows(x: Array) -> Array:
    """View ``(N, C, ...)`` as ``(N, C, S)``, S the product of the spatial sizes (1 for rank 2); copies if it must."""
    rows: Array = x.reshape(x.shape[0], x.shape[1], -1)
    return rows


def per_channel(a: Array, spatial: int) -> Array:
    """Give ``(..., C)`` a shape that broadcasts against ``(..., N, C, S)``: ``(..., 1, C, 1)``.

    For few spatial elements the values are repeated, ``(..., 1, C, S)``: an inner loop over
    C * S contiguous numbers is worth the small copy, C loops over S numbers each are slow.
    """
    column = a[..., None, :, None]
    if spatial == 1 or spatial > 128:
        return column
    repeated: Array = column.repeat(spatial, axis=-1)
    return repeated


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


def merge_sums(parts: list[Array], dtype: DType) -> Array:
    """Add the blocks' partial sums in double precision and return them in ``dtype``."""
    if len(parts) == 1:
        return parts[0]
    xp = backend.namespace(parts[0])
    total: Array = xp.stack(parts).astype(xp.result_type(dtype, "float64")).sum(axis=0).astype(dtype)
    return total


def merge_moments(parts: list[tuple[Any, Array, Array]], dtype: DType) -> tuple[Any, Array, Array]:
    """Merge the blocks' weighted moments into the batch's, in double precision.

    Args:
        parts: per block its total weight W_b (a number or an array), mean and scatter
            ``sum_m w_m (x_m - mean_b)^2``.
        dtype: dtype of the results.

    Returns:
        Total weight ``W = sum_b W_b``, mean ``sum_b W_b mean_b / W`` and variance
        ``sum_b (scatter_b + W_b (mean_b - mean)^2) / W``; all 0 where W is 0. Never a
        difference of squares, which cancels (Chan, Golub & LeVeque 1983). A variance beyond the
        dtype's range saturates at its largest number: what is divided by its root stays finite.
    """
    xp = backend.namespace(parts[0][1])
    if len(parts) == 1 and isinstance(parts[0][0], int):
        weight, mean, scatter = parts[0]
        return weight, mean.astype(dtype), _representable(scatter / weight, dtype)
    weight, mean_b, scatter = (xp.stack([xp.asarray(part[i]) for part in parts]) for i in range(3))
    double = xp.result_type(dtype, "float64")
    weight, mean_b, scatter = weight.astype(double), mean_b.astype(double), scatter.astype(double)
    weight = weight.reshape(weight.shape + (1,) * (mean_b.ndim - weight.ndim))
    total = weight.sum(axis=0)
    inverse = (total != 0) / (total + (total == 0))  # 0 where nothing weighs
    mean = (weight * mean_b).sum(axis=0) * inverse
    variance = (scatter + weight * (mean_b - mean) ** 2).sum(axis=0) * inverse
    return total.astype(dtype), mean.astype(dtype), _representable(variance, dtype)


def _representable(variance: Array, dtype: DType) -> Array:
    """Return a double-precision variance in ``dtype``: not below 0 by rounding, not beyond the largest number."""
    bounded: Array = backend.namespace(variance).clip(variance, 0.0, backend.largest(dtype)).astype(dtype)
    return bounded


def channel_moments(rows: Array) -> tuple[Array, Array]:
    """Return each channel's mean and biased variance over ``(N, C, S)``: two arrays ``(C,)``, one pass over memory."""
    xp = backend.namespace(rows)

    def moments(block: slice, scratch: Scratch) -> tuple[int, Array, Array]:
        x = rows[block]  # (b, C, S)
        weight = x.shape[0] * x.shape[2]
        mean = sum_samples(x) / weight  # (C,)
        centred = scratch("centred", x.shape, x)
        xp.subtract(x, per_channel(mean, x.shape[2]), out=centred)
        # Far from 0 the mean is rounded coarsely. What the centred samples still sum to tells by how
        # much, and is taken out of both moments (the corrected two-pass algorithm).
        left = sum_samples(centred).astype(double)
        centred *= centred
        return weight, mean + left / weight, sum_samples(centred) - left * left / weight

    double = xp.result_type(rows.dtype, "float64")

    parts = walk(moments, sample_blocks(rows, 2 * rows[0].size), rows.size)
    _, mean, variance = merge_moments(parts, rows.dtype)
    return mean, variance


def threads() -> int:
    """Return how many threads a walk may use: OMP_NUM_THREADS if set, else the usable cores."""
    if _threads is not None:
        return _threads
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Use at most ``count`` threads inside this block."""
    global _threads
    before, _threads = _threads, count
    try:
        yield
    finally:
        _threads = before


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="uanref")


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


class _BlasLimit:
    """The process-wide limit of BLAS to one thread, held while any walk is under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.walks = 0
        self.limiter: Any = None


_limit = _BlasLimit()


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep BLAS at one thread; the last of several concurrent walks gives it its threads back."""
    with _limit.lock:
        if _limit.walks == 0:
            _limit.limiter = _blas().limit(limits=1, user_api="blas")
        _limit.walks += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.walks -= 1
            if _limit.walks == 0:
                _limit.limiter.restore_original_limits()


def _start_afresh() -> None:
    """A forked child inherits no threads, and perhaps a lock that nobody will release."""
    global _limit
    _pool.cache_clear()
    _limit = _BlasLimit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
