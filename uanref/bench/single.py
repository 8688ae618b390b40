"""What one NumPy operation costs on this machine: to start it, to pass over the cache, and beside another thread."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array
from uanref.bench.timing import seconds

SIZES = tuple(2**power for power in range(13, 19))
"""Of the operations that two threads do beside each other."""
CACHED = (2**12, 2**14, 2**16)
"""Of the operations that tell how fast the cache is: three arrays of 16 to 256 KB."""
REPEATS = 7
LEAST_SECONDS = 0.01


@dataclass(frozen=True)
class Operation:
    """One thread, ``numpy.multiply`` with ``out``, float32.

    Attributes:
        start: microseconds of an operation on a single number, least of several repeats.
        cache: 10^9 bytes a second, read and written, the best of three sizes within the cache.
    """

    start: float
    cache: float


@dataclass(frozen=True)
class Pair:
    """Two threads that each do one operation after the other on arrays of their own.

    Attributes:
        size: numbers in an operation.
        us: microseconds of one operation by one thread alone.
        gain: how often as much both threads do together in the same time; 2 is perfect. Median of the repeats.
    """

    size: int
    us: float
    gain: float


def operation() -> Operation:
    """Measure what an operation costs."""
    rates = []
    for size in CACHED:
        a, b, out = (_aligned(size) for _ in range(3))
        rates.append(3 * a.nbytes / _best(_multiply(a, b, out)) / 1e9)
    a, b, out = (np.ones(1, "float32") for _ in range(3))
    return Operation(1e6 * _best(_multiply(a, b, out)), max(rates))


def pairs(sizes: Sequence[int] = SIZES, repeats: int = REPEATS) -> list[Pair]:
    """Measure how much two threads get done beside each other, both bound to wait for the interpreter lock."""
    found = []
    for size in sizes:
        arrays = [(_aligned(size), _aligned(size), _aligned(size)) for _ in range(2)]
        alone = _best(_multiply(*arrays[0]))
        calls = max(1, round(LEAST_SECONDS / alone))
        gains = []
        for _ in range(repeats):
            one = _together(arrays[:1], calls)
            gains.append(2 * one / _together(arrays, calls))
        found.append(Pair(size, 1e6 * alone, statistics.median(gains)))
    return found


def _together(arrays: Sequence[tuple[Array, Array, Array]], calls: int) -> float:
    """Return the seconds until as many threads as there are arrays have made their calls."""
    ready = threading.Barrier(len(arrays) + 1)

    def work(a: Array, b: Array, out: Array) -> None:
        task = _multiply(a, b, out)
        ready.wait()
        for _ in range(calls):
            task()

    threads = [threading.Thread(target=work, args=one) for one in arrays]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def _multiply(a: Array, b: Array, out: Array) -> Callable[[], object]:
    multiply = np.multiply
    return lambda: multiply(a, b, out=out)


def _best(task: Callable[[], object]) -> float:
    calls = max(1, round(LEAST_SECONDS / 4 / max(seconds(task, 3), 1e-9)))
    return min(seconds(task, calls) for _ in range(3 * REPEATS))


def _aligned(size: int) -> Array:
    """Return ones that begin on a cache line."""
    from uanref.kernels.cpu.lines import empty

    made = empty((size,), np.empty(0, "float32"))
    made[...] = 1.0
    return made
