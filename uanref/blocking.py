"""How arithmetic walks through memory on a CPU: blocks, threads, buffers. A reader may skip it.

An elementwise chain over an array that exceeds the cache pays for memory at every step. Layers
therefore cut the batch into blocks of whole samples, small enough that all intermediate
results of a block stay in the second-level cache, and hand the blocks to a few threads
(NumPy and BLAS release the interpreter lock). On a device there is one block: the whole batch.

The blocks depend on shapes alone and results come back in block order, so the number of
threads changes no bit of any result.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import threadpoolctl

from uanref import backend
from uanref.backend import Array

T = TypeVar("T")

# Measured on a CPU with 1 MiB of second-level cache per core: from half of it to all of it is
# flat, beyond it the chain runs at memory speed.
BLOCK_BYTES = 1 << 19
# Below this many elements, starting threads costs more than they save.
THREADED_ELEMENTS = 50_000

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
    step = max(1, int(block_bytes // max(1, floats_per_sample * x.dtype.itemsize)))
    return [slice(i, min(i + step, samples)) for i in range(0, samples, step)]


def walk(task: Callable[[slice, Scratch], T], blocks: list[slice], elements: int) -> list[T]:
    """Return ``[task(block, scratch) for block in blocks]``, by several threads when it is worth it.

    Args:
        task: writes its block's outputs into arrays that it closes over and returns partial results.
        blocks: from :func:`sample_blocks`.
        elements: size of the walked array; small ones stay on the calling thread.
    """
    workers = min(threads(), len(blocks))
    if workers < 2 or elements < THREADED_ELEMENTS:
        scratch = Scratch()
        return [task(block, scratch) for block in blocks]

    results: list[Any] = [None] * len(blocks)
    tickets = itertools.count()  # next() is atomic: a fast worker takes more blocks

    def work() -> None:
        scratch = Scratch()
        while (i := next(tickets)) < len(blocks):
            results[i] = task(blocks[i], scratch)

    with _blas().limit(limits=1, user_api="blas"):
        futures = [_pool(workers).submit(work) for _ in range(workers - 1)]
        try:
            work()
        finally:
            for future in futures:
                future.result()
    return results


def sum_rows(z: Array) -> Array:
    """Sum the last axis of ``z``: ``(..., S) -> (...)``.

    On the host as a product with a vector of ones, which is several times faster than a
    reduction. On a device a reduction over the contiguous axis, which starts many blocks.
    """
    xp = backend.namespace(z)
    if backend.name_of(z) != "numpy" or not z.flags.c_contiguous:
        total: Array = z.sum(axis=-1)
        return total
    if z.shape[-1] == 1:
        return z[..., 0]
    rows: Array = (z.reshape(-1, z.shape[-1]) @ xp.ones(z.shape[-1], dtype=z.dtype)).reshape(z.shape[:-1])
    return rows


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
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="uanref")


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _forget_threads() -> None:
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):  # a forked child inherits no threads
    os.register_at_fork(after_in_child=_forget_threads)
