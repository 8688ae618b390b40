"""Paired measuring: two contestants in turn, in one run, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

Task = Callable[[], Any]

WARM_UP = 3
"""Calls before the first measured one: caches, thread pools and the allocator's free lists are then as in training."""
PATIENCE = 30.0
"""Seconds after which a case gets no further call to warm up, and no further round."""
LEAST_SECONDS = 0.02
"""What takes less is called several times in a row, so that the clock and a stray interrupt matter little."""
QUIET = 0.2
"""The spread of the ratios (of the times, where there is no peer) up to which a machine counts as quiet."""
ROUNDS = 3
"""How often a case is measured at most, until its spread is that small."""


@dataclass(frozen=True)
class Contest:
    """Two ways to do the same work.

    Attributes:
        ours: the work, done here.
        peer: the same work, done by someone else; None where there is nobody.
    """

    ours: Task
    peer: Task | None = None


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats of the quietest round.

    Attributes:
        ours: seconds per call.
        peer: seconds per call, None without a peer.
        ratio: median over the repeats of ours / peer, which a slow second of the machine moves
            less than the ratio of the medians; None without a peer.
        spread: of the ratios, or of our seconds without a peer, see :func:`spread`.
        rounds: how often all repeats were made.
    """

    ours: float
    peer: float | None
    ratio: float | None
    spread: float
    rounds: int

    @property
    def noisy(self) -> bool:
        """Whether the machine was too noisy in each round."""
        return self.spread > QUIET


def measure(contest: Contest, repeats: int) -> Timing:
    """Time both contestants in turn, each repeat in the opposite order of the one before.

    All repeats are made again while the numbers lie too far apart, at most :data:`ROUNDS` times, or until
    :data:`PATIENCE` is at its end.

    Args:
        contest: what to call.
        repeats: how many pairs of samples, >= 1.
    """
    tasks = [contest.ours] if contest.peer is None else [contest.ours, contest.peer]
    start = time.perf_counter()
    for task in tasks:
        warm_up(task)
    calls = [calls_for(task) for task in tasks]
    rounds: list[Timing] = []
    while not rounds or (rounds[-1].noisy and len(rounds) < ROUNDS and time.perf_counter() - start < PATIENCE):
        rounds.append(_round(tasks, calls, repeats))
    return replace(min(rounds, key=lambda one: one.spread), rounds=len(rounds))


def warm_up(task: Task) -> None:
    """Call ``task`` until caches, thread pools and the allocator are as in training; a slow one less often."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        task()
        if time.perf_counter() - start > PATIENCE / 10:
            break


def calls_for(task: Task, least: float | None = None) -> int:
    """Return how many calls take ``least`` seconds (:data:`LEAST_SECONDS` for None) together; it makes one."""
    return max(1, round((LEAST_SECONDS if least is None else least) / max(seconds(task, 1), 1e-9)))


def seconds(task: Task, calls: int) -> float:
    """Return the mean seconds of ``calls`` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        task()
    return (time.perf_counter() - start) / calls


def spread(numbers: Sequence[float]) -> float:
    """Return the distance of the quartiles as a fraction of the median; 0 for a single number."""
    if len(numbers) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return (high - low) / middle if middle > 0 else 0.0


def peak_bytes(task: Task) -> int:
    """Return by how much one call of ``task`` raises the memory in use at its highest: results and intermediates.

    NumPy reports its arrays to tracemalloc. What a library allocates without Python is not seen.
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


def _round(tasks: Sequence[Task], calls: Sequence[int], repeats: int) -> Timing:
    times: list[list[float]] = [[] for _ in tasks]
    for repeat in range(repeats):
        order = range(len(tasks)) if repeat % 2 == 0 else reversed(range(len(tasks)))
        for i in order:
            times[i].append(seconds(tasks[i], calls[i]))
    if len(tasks) == 1:
        return Timing(statistics.median(times[0]), None, None, spread(times[0]), 1)
    ratios = [ours / peer for ours, peer in zip(*times, strict=True)]
    ours, peer = map(statistics.median, times)
    return Timing(ours, peer, statistics.median(ratios), spread(ratios), 1)
