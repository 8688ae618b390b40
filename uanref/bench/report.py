"""What ``uanref bench`` prints of its rows: a table for each peer, what the cases are, what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref.bench import host, timing
from uanref.bench.cases import UNRECORDED
from uanref.bench.limits import Limits
from uanref.bench.suite import Row


def report(rows: Sequence[Row], limits: Sequence[Limits] = (), facts: Mapping[str, Any] | None = None) -> Group:
    """Lay the rows out for a terminal of 80 columns: the numbers, and below them what they are."""
    parts: list[Table | Text] = []
    measured = [row for row in rows if row.ours_ms is not None]
    for peer in dict.fromkeys(row.peer for row in measured):
        parts += [table([row for row in measured if row.peer == peer], peer), Text()]
    legend = Table.grid(padding=(0, 2, 0, 0))
    legend.add_column(no_wrap=True)
    legend.add_column(overflow="fold")
    for row in {row.case: row for row in measured}.values():
        words = [row.what, *([f"rate in {row.unit}"] if row.unit else [])]
        words += [f"peak at most {row.peak_limit_mb:.1f} MB"] if row.peak_limit_mb is not None else []
        legend.add_row(row.case, Text("; ".join(words)))
    if measured:
        parts += [legend, Text()]
    return Group(*parts, *(Text(note) for note in (*notes(rows), *remarks(rows, limits, facts))))


def notes(rows: Sequence[Row]) -> list[str]:
    """Say what was not measured and why, each reason once."""
    cases: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.note:
            cases.setdefault(row.note, {})[row.case] = None
    return [f"{', '.join(names)}: {reason}" for reason, names in cases.items()]


def table(rows: Sequence[Row], peer: str) -> Table:
    """Return the numbers of the rows beside one peer; a ratio or memory above its goal is red."""
    title = f"forward + backward beside {peer}" if peer else "forward + backward, nobody beside"
    if all(not row.version for row in rows):
        title = f"{'a training' if peer == UNRECORDED else 'a fresh process'} beside {peer}"
    made = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("case", "version"):
        made.add_column(heading, no_wrap=True)
    for heading in ("ours\nms", "peer\nms", "ratio", "goal", "spread", "rate", "of\nlimit", "peak\nMB"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.case,
            row.version or "-",
            number(row.ours_ms),
            number(row.peer_ms),
            _judged(row.ratio, row.goal, 2),
            "-" if row.goal is None else f"{row.goal:.2f}",
            spread(row),
            number(row.rate),
            percent(row.of_limit),
            _judged(row.peak_mb, row.peak_limit_mb, 1),
        )
    return made


def remarks(rows: Sequence[Row], limits: Sequence[Limits], facts: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader needs to judge the numbers, a sentence each."""
    found = [limits_sentence(one) for one in limits]
    if facts is not None:
        found.append(f"{facts['malloc'][:1].upper()}{facts['malloc'][1:]}.")
        if host.busy(dict(facts)):
            found.append(busy_sentence(facts))
    noisy = dict.fromkeys(row.case for row in rows if row.noisy)
    if noisy:
        found.append(
            f"Too noisy in each of up to {timing.ROUNDS} rounds (spread above {100 * timing.QUIET:.0f} %, marked !): "
            f"{', '.join(noisy)}."
        )
    return found


def limits_sentence(one: Limits) -> str:
    """Say what the machine can do."""
    threads = "one thread" if one.threads == 1 else f"{one.threads} threads"
    return (
        f"Limits of this machine with {threads}: products {one.gemm:.0f} GFLOP/s, copies {one.copy:.1f} GB/s, "
        f"exp {one.exp:.2f} Gexp/s."
    )


def busy_sentence(facts: Mapping[str, Any]) -> str:
    """Say that others used the machine."""
    return (
        f"The machine was busy before the run began: {facts['load']:.1f} processes wanted its {facts['cores']} cores, "
        "so times are too long and ratios uncertain."
    )


def number(value: float | None) -> str:
    """Return a number with three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Return a fraction in percent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def spread(row: Row) -> str:
    """Return a row's spread, marked where the machine was too noisy."""
    return percent(row.spread) + ("!" if row.noisy else "")


def _judged(value: float | None, most: float | None, digits: int) -> str:
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text if most is None else f"[{'green' if value <= most else 'red'}]{text}[/]"
