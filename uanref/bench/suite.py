"""The cases that ``uanref bench`` measures, each with the limit that its faster versions must keep.

The definitions' own speed stands beside it, without a limit: they are there to be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref import backend as backends
from uanref.bench import conv, norms
from uanref.bench.timing import Contest, measure, peak_bytes
from uanref.layers.base import count
from uanref.verify.versions import running, wanted

MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """One line of the table, before it is measured.

    Attributes:
        make: makes the contest on a named backend.
        what: what is measured, for a reader.
        limit: fast / peer at most; None: measured for information.
        peak_limit_mb: extra memory of the fast version at most; None: measured for information.
    """

    make: Callable[[str], Contest]
    what: str
    limit: float | None = None
    peak_limit_mb: float | None = None


@dataclass(frozen=True)
class Row:
    """One case in one version: median times of a forward and a backward pass together.

    Attributes:
        case: its name.
        what: what was measured.
        version: ``"definition"`` or ``"fast"``, see :mod:`uanref.verify.versions`.
        ours_ms: milliseconds here.
        peer: with whom it is compared.
        peer_ms: milliseconds there; None if that peer is missing.
        ratio: ours / peer, the median over the pairs.
        limit: what the ratio may be at most; None if there is no such limit.
        peak_mb: extra memory at its highest in 10^6 bytes, results included; None on a device.
        peak_limit_mb: what that may be at most.
        note: why there is no peer, empty if there is one.
    """

    case: str
    what: str
    version: str
    ours_ms: float
    peer: str
    peer_ms: float | None
    ratio: float | None
    limit: float | None
    peak_mb: float | None
    peak_limit_mb: float | None
    note: str


NORM_SHAPE = (64, 64, 32, 32)

CASES = {
    "conv-16-32": Case(
        lambda name: conv.conv2d((64, 16, 32, 32), 32, name), "Conv2d 3x3, 16 to 32 channels, (64, 16, 32, 32)", 2.0
    ),
    "conv-64-64": Case(
        lambda name: conv.conv2d((64, 64, 16, 16), 64, name), "Conv2d 3x3, 64 to 64 channels, (64, 64, 16, 16)", 2.0
    ),
    "batchnorm": Case(lambda name: norms.batch_norm(NORM_SHAPE, name), "BatchNorm, (64, 64, 32, 32)", 2.0),
    "uan": Case(
        lambda name: norms.uan(NORM_SHAPE, name),
        "UAN, K = 3, channel, batch, (64, 64, 32, 32)",
        0.5,
        # one float32 array of (K, N, C, H, W)
        peak_limit_mb=3 * math.prod(NORM_SHAPE) * 4 / MEGABYTE,
    ),
    "uan-batchnorm": Case(lambda name: norms.uan_beside_batch_norm(NORM_SHAPE, name), "UAN as above"),
}


def run(
    backend: str = "numpy", repeats: int = 7, only: str | None = None, versions: Sequence[str] | None = None
) -> list[Row]:
    """Measure all cases, or the one named ``only``.

    Args:
        backend: ``"numpy"`` or ``"cupy"``.
        repeats: how many pairs of calls are timed, >= 1.
        only: a key of :data:`CASES`.
        versions: ``"definition"``, ``"fast"`` or both, see :mod:`uanref.verify.versions`.

    Raises:
        ValueError: unknown case, version or backend, or ``repeats`` below 1.
        BackendUnavailable: the backend cannot run here.
    """
    count("repeats", repeats)
    if only is not None and only not in CASES:
        raise ValueError(f"unknown case {only!r}: expected one of {', '.join(CASES)}")
    found = wanted(versions)
    backends.require(backend)
    chosen = [(name, case) for name, case in CASES.items() if only in (None, name)]
    return [row for name, case in chosen for row in _measured(name, case, backend, repeats, found)]


def report(rows: list[Row]) -> Group:
    """Lay the rows out for a terminal of 80 columns: the numbers, and below them what each case is."""
    legend = Table.grid(padding=(0, 2, 0, 0))
    legend.add_column(no_wrap=True)
    legend.add_column(overflow="fold")
    for row in {row.case: row for row in rows}.values():
        legend.add_row(row.case, Text(f"{row.what}; peer: {row.peer}"))
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return Group(table(rows), "", legend, *(Text(note) for note in notes))


def table(rows: list[Row]) -> Table:
    """Return the numbers; a ratio or memory above its limit is red."""
    made = Table(title="forward + backward, median of paired repeats", show_edge=False)
    for heading in ("case", "version"):
        made.add_column(heading, no_wrap=True)
    for heading in ("ours ms", "peer ms", "ratio", "limit", "extra peak MB"):
        made.add_column(heading, justify="right")
    for row in rows:
        most = "" if row.peak_limit_mb is None else f" of {_number(row.peak_limit_mb)}"
        made.add_row(
            row.case,
            row.version,
            _number(row.ours_ms),
            _number(row.peer_ms),
            _number(row.ratio, row.limit, digits=2),
            _number(row.limit, digits=2),
            _number(row.peak_mb, row.peak_limit_mb) + most,
        )
    return made


def rows_as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain dictionaries, for ``json.dump``."""
    return [asdict(row) for row in rows]


def _measured(name: str, case: Case, backend: str, repeats: int, versions: Sequence[str]) -> list[Row]:
    contest = case.make(backend)
    rows = []
    for version in versions:
        with running(version):
            timing = measure(contest, repeats, backend)
            peak = peak_bytes(contest.ours) / MEGABYTE if backend == "numpy" else None
        row = Row(
            case=name,
            what=case.what,
            version=version,
            ours_ms=1e3 * timing.ours,
            peer=contest.peer_name,
            peer_ms=None if timing.peer is None else 1e3 * timing.peer,
            ratio=timing.ratio,
            limit=case.limit if version == "fast" else None,
            peak_mb=peak,
            peak_limit_mb=case.peak_limit_mb if version == "fast" else None,
            note=contest.note,
        )
        rows.append(row)
    return rows


def _number(value: float | None, limit: float | None = None, digits: int = 1) -> str:
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if limit is None:
        return text
    return f"[{'green' if value <= limit else 'red'}]{text}[/]"
