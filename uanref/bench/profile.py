"""Where the time of a case goes, and what its operations would take at the limits of this machine.

A pass of our side with one thread is taken apart into the calls of NumPy and the Python between them. Beside it stand
the *floor*, the same calls at the best that this machine does, and the ratios beside PyTorch, with one thread and with
as many as the case has: what several threads gain here and there is the last part of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from uanref.bench import cases, ours, suite, work
from uanref.bench.cases import Case
from uanref.bench.instrument import instrumented
from uanref.bench.limits import Limits
from uanref.bench.peers import Peer
from uanref.bench.recorder import Call, Recorder
from uanref.bench.single import Operation
from uanref.bench.suite import Row, using_threads
from uanref.bench.timing import Task, seconds, warm_up

MODULES = ("uanref.kernels.cpu", "uanref.layers", "uanref.norms", "uanref.losses", "uanref.optimizers")
"""Whose operations are recorded, with those below."""
ROUNDS = 3
"""So often passes with and without the recorder take turns."""
SECONDS = 0.3
"""What the passes of a round take about, 3 to 100 of them."""
MOST = 5
"""So many kinds of calls are kept for a reader."""
CACHE = 2e6
"""Bytes of an array that no cache of a core's own is sure to hold: work on longer ones goes through memory."""


@dataclass(frozen=True)
class Site:
    """All calls of one function at one place of the source.

    Attributes:
        site: file and line.
        name: of the function.
        kind: see :class:`uanref.bench.recorder.Call`.
        count: of calls.
        ms: all of them took.
        rate: 10^9 operations, numbers or bytes a second, by kind.
        limit: of that on this machine.
    """

    site: str
    name: str
    kind: str
    count: int
    ms: float
    rate: float
    limit: float


@dataclass(frozen=True)
class Profile:
    """One case: one thread, the least of several passes, milliseconds; beside the rows of the bench.

    Attributes:
        case: its name.
        what: it is.
        goal: the ratio to PyTorch that is wanted at most.
        threads: of the first row.
        ratio: ours / PyTorch with so many threads; None without PyTorch.
        ratio_one: the same with one thread.
        noisy: whether the machine was too noisy for one of them.
        gain: what our side gains by these threads, one thread's time by theirs; None where the case has one.
        peer_gain: the same of PyTorch.
        peer_ms: PyTorch's time with one thread.
        total_ms: ours, processor time.
        numpy_ms: of it inside NumPy's calls.
        products_ms: of that in products.
        exp_ms: of that in exponentials and the like.
        calls: how many calls there are.
        starts_ms: what it takes to start so many.
        work_ms: what they would take at this machine's limits.
        memory_ms: what it takes to move x, y, dy and dx once through memory; 0 for arrays that a cache holds.
        sites: the calls that took longest.
    """

    case: str
    what: str
    goal: float | None
    threads: int
    ratio: float | None
    ratio_one: float | None
    noisy: bool
    gain: float | None
    peer_gain: float | None
    peer_ms: float | None
    total_ms: float
    numpy_ms: float
    products_ms: float
    exp_ms: float
    calls: int
    starts_ms: float
    work_ms: float
    memory_ms: float
    sites: tuple[Site, ...]

    @property
    def python_ms(self) -> float:
        """Return what passes between NumPy's calls."""
        return max(0.0, self.total_ms - self.numpy_ms)

    @property
    def floor_ms(self) -> float:
        """Return what these calls would take at the limits of the machine, with nothing between them."""
        return self.starts_ms + max(self.work_ms, self.memory_ms)


def run(
    names: Sequence[str] | None,
    peers: Sequence[Peer],
    operation: Operation,
    repeats: int = 7,
    threads: int | None = None,
    known: dict[int, Limits] | None = None,
) -> Iterator[Profile]:
    """Profile one case after the other: those that have a goal beside PyTorch, or those named.

    Args:
        names: keys of :data:`uanref.bench.cases.CASES`, or ``"all"``.
        peers: PyTorch, or nobody.
        operation: what one costs on this machine.
        repeats: of a row of the bench.
        threads: see :func:`uanref.bench.suite.run`.
        known: is filled with this machine's limits.

    Raises:
        ValueError: see :func:`chosen`.
    """
    bounds: dict[int, Limits] = {} if known is None else known
    for name, case in chosen(names).items():
        rows = list(suite.run((name,), peers, ("fast",), repeats, threads, bounds))
        one = rows if rows[0].threads == 1 else list(suite.run((name,), peers, ("fast",), repeats, 1, bounds))
        yield _profile(name, case, rows[0], one[0], operation, bounds[1])


def chosen(names: Sequence[str] | None) -> dict[str, Case]:
    """Return the cases of these names; for None and ``"all"`` those with a goal beside PyTorch.

    Raises:
        ValueError: an unknown case, or one that has no pass of ours beside PyTorch's.
    """
    found = cases.chosen(None if names is None else tuple(names))
    if names is None or "all" in names:
        return {name: case for name, case in found.items() if "torch" in case.goals}
    for name, case in found.items():
        if case.work is None or case.beside is not None:
            raise ValueError(f"{name} has no pass of ours to profile beside PyTorch: leave it out")
    return found


def calls_of(task: Task) -> tuple[float, list[Call]]:
    """Return the seconds of processor time that ``task`` takes, and what it asks NumPy for.

    Each is the least of several passes, every call's by itself; the recorder's own time is taken off.
    """
    warm_up(task)
    passes = min(100, max(3, round(SECONDS / max(seconds(task, 1), 1e-9))))
    recorder, total, found = Recorder(), float("inf"), list[Call]()
    for _ in range(ROUNDS):
        for _ in range(passes):
            start = time.thread_time()
            task()
            total = min(total, time.thread_time() - start)
        with instrumented(recorder, MODULES):
            for one in range(passes + 1):
                recorder.calls = []
                task()
                if one == 0:  # the new code's first pass
                    continue
                again = len(found) == len(recorder.calls)
                found = [_quicker(*two) for two in zip(found, recorder.calls, strict=True)] if again else recorder.calls
    return total, found


def _quicker(one: Call, other: Call) -> Call:
    return one if one.seconds < other.seconds else replace(one, seconds=other.seconds)


def _profile(name: str, case: Case, row: Row, one: Row, operation: Operation, limits: Limits) -> Profile:
    what = case.work
    assert what is not None
    with using_threads(1):
        made = ours.layers(what)
        given = work.material(what, ours.weights(made, what))
        total, calls = calls_of(ours.task(made, what, given))
    several = row.threads > 1 and row.ours_ms and one.ours_ms and row.peer_ms and one.peer_ms
    large = work.bytes_of(what) if given.x.nbytes > CACHE else 0.0
    return Profile(
        name,
        case.what,
        case.goals.get("torch"),
        row.threads,
        row.ratio,
        one.ratio,
        row.noisy or one.noisy,
        one.ours_ms / row.ours_ms if several and one.ours_ms and row.ours_ms else None,
        one.peer_ms / row.peer_ms if several and one.peer_ms and row.peer_ms else None,
        one.peer_ms,
        1e3 * total,
        1e3 * sum(call.seconds for call in calls),
        1e3 * sum(call.seconds for call in calls if call.kind == "product"),
        1e3 * sum(call.seconds for call in calls if call.kind == "exp"),
        len(calls),
        operation.start * len(calls) / 1e3,
        1e3 * sum(least(call, operation, limits) for call in calls),
        1e3 * large / limits.copy / 1e9,
        sites(calls, operation, limits),
    )


def least(call: Call, operation: Operation, limits: Limits) -> float:
    """Return the seconds that a call's work takes at the limits of the machine: the longest of its bounds.

    Never more than it took: a limit is a measurement, too, and a busy moment may have made it too low.
    """
    bound = call.bytes / operation.cache
    if call.kind == "product":
        bound = max(bound, call.operations / limits.gemm)
    elif call.kind == "exp":
        bound = max(bound, call.numbers / limits.exp)
    return min(bound / 1e9, call.seconds)


def sites(calls: Sequence[Call], operation: Operation, limits: Limits) -> tuple[Site, ...]:
    """Return the places in the source whose calls took longest together, with their rates."""
    groups: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        groups.setdefault((call.site, call.name), []).append(call)
    found = []
    for (site, name), group in groups.items():
        took, kind = sum(call.seconds for call in group), group[0].kind
        amounts = {"product": "operations", "exp": "numbers", "other": "bytes"}
        limit = {"product": limits.gemm, "exp": limits.exp, "other": operation.cache}[kind]
        amount = sum(getattr(call, amounts[kind]) for call in group)
        found.append(Site(site, name, kind, len(group), 1e3 * took, amount / max(took, 1e-12) / 1e9, limit))
    return tuple(sorted(found, key=lambda one: -one.ms)[:MOST])


def from_json(found: Mapping[str, Any]) -> Profile:
    """Return the profile that ``dataclasses.asdict`` turned into ``found``."""
    return Profile(**(dict(found) | {"sites": tuple(Site(**one) for one in found["sites"])}))
