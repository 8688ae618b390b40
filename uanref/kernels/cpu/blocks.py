"""How arithmetic walks through memory on a CPU: blocks, buffers, threads.

An elementwise chain over an array that exceeds the cache pays for memory at every step. Faster versions therefore cut
the batch into blocks of whole samples, small enough that all intermediate results of a block stay in the cache, and
hand the blocks to a few threads (NumPy and BLAS release the interpreter lock). On a device there is one block: the
whole batch.

The blocks depend on shapes alone, results come back in block order and BLAS runs with one thread
inside a walk, so the number of threads changes no bit of a walk's result.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.threads import one_blas_thread, pool

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
# Buffers of at most this many bytes outlive a walk, for the thread's next one: fresh memory costs more time than
# the arithmetic of a small layer.
KEPT_BYTES = 1 << 22


class Scratch:
    """Buffers that one worker reuses from block to block, by name; the host's small ones from walk to walk, too."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, type], Array] = {}
        self._has_grown = False  # since the last time that it was shrunk

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """Return an uninitialized array of ``shape`` with the dtype and backend of ``like``."""
        size = math.prod(shape)
        buffer = self._buffers.get((name, type(like)))
        if buffer is None or buffer.size < size or buffer.dtype != like.dtype:
            buffer = backend.namespace(like).empty(size, dtype=like.dtype)
            self._buffers[name, type(like)] = buffer
            self._has_grown = True
        return buffer[:size].reshape(shape)

    def shrink(self) -> None:
        """Free what a thread need not keep: all that is on a device, and the largest beyond ``KEPT_BYTES``."""
        if not self._has_grown:
            return
        kept, room = {}, KEPT_BYTES
        for key, buffer in sorted(self._buffers.items(), key=lambda item: int(item[1].nbytes)):
            room -= buffer.nbytes
            if room >= 0 and backend.name_of(buffer) == "numpy":
                kept[key] = buffer
        self._buffers, self._has_grown = kept, False


_thread = threading.local()


@contextlib.contextmanager
def thread_scratch() -> Iterator[Scratch]:
    """Lend the thread's buffers to a walk; one inside another gets fresh ones."""
    scratch: Scratch = _thread.__dict__.pop("scratch", None) or Scratch()
    try:
        yield scratch
    finally:
        scratch.shrink()
        _thread.scratch = scratch


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


def walk(task: Callable[[slice, Scratch], T], blocks: list[slice], elements: int, *, products: bool = True) -> list[T]:
    """Return ``[task(block, scratch) for block in blocks]``, by several threads when it is worth it.

    Args:
        task: writes its block's outputs into arrays that it closes over and returns partial results.
        blocks: from :func:`sample_blocks`.
        elements: size of the walked array; small ones stay on the calling thread.
        products: whether the task asks BLAS for anything, which has to keep to one thread then.
    """
    workers = min(backend.threads(), len(blocks)) if elements >= THREADED_ELEMENTS else 1
    with one_blas_thread() if products else contextlib.nullcontext():
        if workers < 2:
            with thread_scratch() as scratch:
                return [task(block, scratch) for block in blocks]

        results: list[Any] = [None] * len(blocks)
        tickets = itertools.count()  # next() is atomic: a fast worker takes more blocks

        def work() -> None:
            with thread_scratch() as scratch:
                while (i := next(tickets)) < len(blocks):
                    results[i] = task(blocks[i], scratch)

        def help_out(turn: threading.Lock) -> None:
            if turn.acquire(blocking=False):
                try:
                    work()
                finally:
                    turn.release()

        turns = [threading.Lock() for _ in range(workers - 1)]
        futures = []
        try:
            for turn in turns:  # with the caller's settings, NumPy's errstate among them
                futures.append(pool().submit(contextvars.copy_context().run, help_out, turn))
        except RuntimeError:
            pass  # the process is ending, or may start no more threads: this one takes the blocks
        try:
            work()
        finally:
            for turn in turns:  # waits for a helper that is at work, and keeps out one that has not begun
                turn.acquire()
            for future in futures:
                if not future.cancel():
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
