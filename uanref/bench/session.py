"""A whole run of ``uanref bench`` on the host: what is asked for, measured step by step into a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from uanref.bench import cases, host, malloc, peers, suite, sweep
from uanref.bench.peers import Peer
from uanref.bench.record import Record


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        cases: names, or ``"all"``; None: all, or none beside a sweep.
        against: names of peers; None: PyTorch if it is there.
        threads: of both sides; None: as each case says.
        versions: see :func:`uanref.bench.suite.default_versions`.
        repeats: of every row.
        sweep: whether sizes are swept.
        command: for the record.
    """

    cases: tuple[str, ...] | None = None
    against: tuple[str, ...] | None = None
    threads: int | None = None
    versions: tuple[str, ...] | None = None
    repeats: int = 7
    sweep: bool = False
    command: str = "uanref bench"

    def names(self) -> tuple[str, ...] | None:
        """Return the cases to measure."""
        return () if self.cases is None and self.sweep else self.cases


def begin(plan: Plan) -> tuple[Record, list[Peer]]:
    """Return an empty record and the peers, imported.

    The allocator of this process is fixed from here on, see :mod:`uanref.bench.malloc`.

    Raises:
        ValueError: an unknown case, version or peer.
        PeerMissing: no peer that was named can be imported.
    """
    wanted = cases.chosen(plan.names())
    suite.default_versions(plan.versions)
    load = host.load()  # before imports make some of their own
    there, missing = peers.find(plan.against) if wanted else ([], [])
    for peer in there:
        peer.start(max(suite.threads_of(case, plan.threads) for case in wanted.values()))
    facts = host.facts(there, malloc.keep_warm()) | {"load": load}
    return Record(plan.command, plan.repeats, facts, missing), there


def total(plan: Plan, there: Sequence[Peer]) -> int:
    """Return how many rows and points there will be."""
    found = suite.default_versions(plan.versions)
    rows = 0
    for case in cases.chosen(plan.names()).values():
        rows += 1 if case.work is None else len(found) * (1 if case.beside else max(1, len(there)))
    points = sum(len(sweep.AXES[axis]) for layer in sweep.LAYERS for axis in sweep.axes(layer))
    return rows + (points if plan.sweep else 0)


def run(plan: Plan, there: Sequence[Peer], record: Record) -> Iterator[str]:
    """Measure into ``record``, and yield in words what was measured."""
    for row in suite.run(plan.names(), there, plan.versions, plan.repeats, plan.threads, record.limits):
        record.rows.append(row)
        yield " ".join(filter(None, (row.case, row.version, row.peer and f"beside {row.peer}")))
    if plan.sweep:
        for point in sweep.run(plan.repeats, plan.threads):
            record.points.append(point)
            yield f"{point.layer}, {point.axis} = {point.size}"
