"""A run of ``uanref bench`` on the host: cases, peers and versions, one row after the other."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import threadpoolctl

from uanref import backend
from uanref.bench import cases, limits, ours, training, work
from uanref.bench.cases import Case
from uanref.bench.limits import Limits
from uanref.bench.peers import Cannot, Peer
from uanref.bench.timing import Contest, Task, Timing, measure, peak_bytes
from uanref.bench.work import Material, Work
from uanref.layers.base import count
from uanref.reasons import named
from uanref.verify.versions import running, wanted

MEGABYTE = 1e6
UNITS = {"gemm": "GFLOP/s", "copy": "GB/s", "exp": "Gexp/s"}


@dataclass(frozen=True)
class Row:
    """One case in one version beside one peer: median times of a forward and a backward pass together.

    Attributes:
        case: its name.
        what: what was measured.
        threads: of both sides.
        version: ``"definition"`` or ``"fast"``, see :mod:`uanref.verify.versions`; empty for a process.
        ours_ms: milliseconds here; None where a peer cannot do the case and nothing was measured beside it.
        peer: with whom it is compared; empty for nobody.
        peer_ms: milliseconds there; None without a peer.
        ratio: ours / peer, the median over the pairs.
        goal: what the ratio should be at most; None if there is no such goal.
        spread: distance of the quartiles of the ratios by their median (of our times without a peer).
        rounds: how often the repeats were made until that was small enough.
        noisy: whether it never was.
        rate: what our side did a second, in 10^9 of ``unit``; None for a process.
        unit: ``"GFLOP/s"``, ``"GB/s"`` or ``"Gexp/s"``.
        of_limit: that as a fraction of what this machine can do at most, see :mod:`uanref.bench.limits`.
        peak_mb: our extra memory at its highest in 10^6 bytes, results included.
        peak_limit_mb: what that may be at most.
        peer_peak_mb: the peer's, where it works on NumPy's arrays; a library's own memory cannot be seen from here.
        note: why there is no peer, empty if there is one.
    """

    case: str
    what: str
    threads: int
    version: str
    ours_ms: float | None = None
    peer: str = ""
    peer_ms: float | None = None
    ratio: float | None = None
    goal: float | None = None
    spread: float | None = None
    rounds: int = 0
    noisy: bool = False
    rate: float | None = None
    unit: str = ""
    of_limit: float | None = None
    peak_mb: float | None = None
    peak_limit_mb: float | None = None
    peer_peak_mb: float | None = None
    note: str = ""


def default_versions(versions: Sequence[str] | None) -> tuple[str, ...]:
    """Return the versions to run: the faster ones for None, the definitions under ``backend.plain()``."""
    return wanted(versions if versions is not None or backend.is_plain() else ("fast",))


def run(
    names: Sequence[str] | None = None,
    peers: Sequence[Peer] = (),
    versions: Sequence[str] | None = None,
    repeats: int = 7,
    threads: int | None = None,
    known: dict[int, Limits] | None = None,
) -> Iterator[Row]:
    """Measure, and yield each row when it is done.

    Args:
        names: keys of :data:`uanref.bench.cases.CASES`, or ``"all"``; all of them for None.
        peers: with whom to compare, loaded.
        versions: see :func:`default_versions`.
        repeats: how many pairs of samples are timed, >= 1.
        threads: of both sides; as each case says for None.
        known: is filled with this machine's limits, by threads, when they are first needed.

    Raises:
        ValueError: unknown case or version, or ``repeats`` or ``threads`` below 1.
    """
    count("repeats", repeats)
    if threads is not None:
        count("threads", threads)
    chosen, found = cases.chosen(None if names is None else tuple(names)), default_versions(versions)
    bounds: dict[int, Limits] = {} if known is None else known
    return _rows(chosen, peers, found, repeats, threads, bounds)


def threads_of(case: Case, threads: int | None) -> int:
    """Return the threads of a case: those asked for, else its own, else as many as may be used."""
    return threads or case.threads or backend.threads()


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let our faster versions and NumPy's BLAS use as many threads inside this block."""
    with backend.limit_threads(threads), threadpoolctl.threadpool_limits(threads, user_api="blas"):
        yield


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain dictionaries, for ``json.dump``."""
    return [asdict(row) for row in rows]


def _rows(
    chosen: dict[str, Case],
    peers: Sequence[Peer],
    versions: Sequence[str],
    repeats: int,
    threads: int | None,
    bounds: dict[int, Limits],
) -> Iterator[Row]:
    for name, case in chosen.items():
        number = threads_of(case, threads)
        if case.training is not None:
            with using_threads(number):
                row = _training(name, case, case.training, number, repeats)
            yield row
            continue
        if case.work is None:
            yield _process(name, case, number, repeats)
            continue
        # Not around the whole loop: what is done with a row is not this block's.
        with using_threads(number):
            if number not in bounds:
                bounds[number] = limits.measured(number)
            given = work.material(case.work, ours.weights(ours.layers(case.work), case.work))
        for version in versions:
            for peer in [None] if case.beside or not peers else peers:
                with using_threads(number):
                    row = _row(name, case, case.work, given, version, peer, repeats, bounds[number])
                yield row


def _row(
    name: str,
    case: Case,
    what: Work,
    given: Material,
    version: str,
    peer: Peer | None,
    repeats: int,
    bound: Limits,
) -> Row:
    goal = case.goals.get(peer.name) if peer and version == "fast" else None
    peer_name = cases.BESIDE_BATCH_NORM if case.beside else peer.name if peer else ""
    row: dict[str, Any] = {
        "case": name,
        "what": case.what,
        "threads": bound.threads,
        "version": version,
        "peer": peer_name,
    }
    row |= {"goal": goal, "peak_limit_mb": case.peak_limit_mb if version == "fast" else None}
    with contextlib.ExitStack() as stack:
        other: Task | None = None
        try:
            if peer is not None:
                stack.enter_context(peer.limited(bound.threads))
                other = peer.task(what, given)
                other()  # compilers fail here
        except Cannot as reason:
            return Row(**row, note=str(reason))
        except Exception as error:  # somebody else's code
            return Row(**row, note=f"{peer_name} failed ({named(error, 200)}).")
        stack.enter_context(running(version))
        mine = ours.task(_with(given, what), what, given)
        if case.beside is not None:
            second = ours.layers(case.beside)
            other = ours.task(second, case.beside, work.material(case.beside, ours.weights(second, case.beside)))
        timing = measure(Contest(mine, other), repeats)
        peak = peak_bytes(mine) / MEGABYTE
        peer_peak = peak_bytes(other) / MEGABYTE if other is not None and (peer is None or peer.on_numpy) else None
    amount = work.amount(what)
    rate = amount.number / timing.ours / 1e9
    return Row(
        **row,
        **_times(timing),
        rate=rate,
        unit=UNITS[amount.limit],
        of_limit=rate / getattr(bound, amount.limit),
        peak_mb=peak,
        peer_peak_mb=peer_peak,
    )


def _with(given: Material, what: Work) -> list[Any]:
    """Return our layers with the weights that every contestant starts from."""
    made = ours.layers(what)
    for one, values in zip(made, given.weights, strict=True):
        for name, value in values.items():
            one.parameters()[name].value = value.copy()
    return made


def _process(name: str, case: Case, threads: int, repeats: int) -> Row:
    def fresh(arguments: Sequence[str]) -> Task:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    timing = measure(Contest(fresh(case.command), fresh(cases.IMPORT_NUMPY)), repeats)
    return Row(name, case.what, threads, "", peer="import numpy", **_times(timing))


def _training(name: str, case: Case, what: tuple[str, str], threads: int, repeats: int) -> Row:
    """Measure a training with and without a recorder, the file's making included; nothing is written."""
    timing = measure(Contest(training.task(*what, recorded=True), training.task(*what, recorded=False)), repeats)
    peer = cases.UNRECORDED
    return Row(name, case.what, threads, "", peer=peer, goal=case.goals[peer], **_times(timing))


def _times(timing: Timing) -> dict[str, Any]:
    return {
        "ours_ms": 1e3 * timing.ours,
        "peer_ms": None if timing.peer is None else 1e3 * timing.peer,
        "ratio": timing.ratio,
        "spread": timing.spread,
        "rounds": timing.rounds,
        "noisy": timing.noisy,
    }
