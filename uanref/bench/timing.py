"""Paired measuring: two contestants in turn, in one run, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uanref import backend

Task = Callable[[], Any]

WARM_UP = 3
"""Calls before the first measured one: caches, thread pools and the allocator's free lists are then as in training."""


@dataclass(frozen=True)
class Contest:
    """Two ways to do the same work.

    Attributes:
        ours: the work, done here.
        peer: the same work, done by someone else; None where there is nobody.
        peer_name: who that is.
        note: why there is no peer, in one sentence; empty where there is one.
    """

    ours: Task
    peer: Task | None
    peer_name: str
    note: str = ""


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats.

    Attributes:
        ours: seconds per call.
        peer: seconds per call, None without a peer.
        ratio: median over the repeats of ours / peer, which a slow second of the machine moves
            less than the ratio of the medians; None without a peer.
    """

    ours: float
    peer: float | None
    ratio: float | None


def measure(contest: Contest, repeats: int, backend_name: str = "numpy") -> Timing:
    """Time both contestants in turn, each repeat in the opposite order of the one before.

    Args:
        contest: what to call.
        repeats: how many pairs of calls, >= 1.
        backend_name: whose queue of work to wait for around every call.
    """
    tasks = [contest.ours] if contest.peer is None else [contest.ours, contest.peer]
    for task in tasks:
        for _ in range(WARM_UP):
            task()
    times: list[list[float]] = [[] for _ in tasks]
    for repeat in range(repeats):
        order = range(len(tasks)) if repeat % 2 == 0 else reversed(range(len(tasks)))
        for i in order:
            times[i].append(_seconds(tasks[i], backend_name))
    if len(tasks) == 1:
        return Timing(statistics.median(times[0]), None, None)
    ratio = statistics.median(ours / peer for ours, peer in zip(*times, strict=True))
    return Timing(statistics.median(times[0]), statistics.median(times[1]), ratio)


def peak_bytes(task: Task) -> int:
    """Return by how much one call of ``task`` raises the memory in use at its highest: results and intermediates.

    NumPy reports its arrays to tracemalloc. A device's memory is not seen.
    """
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        task()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, peak - before)


def _seconds(task: Task, backend_name: str) -> float:
    backend.synchronize(backend_name)
    start = time.perf_counter()
    task()
    backend.synchronize(backend_name)
    return time.perf_counter() - start
