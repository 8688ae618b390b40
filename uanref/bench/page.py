"""The numbers of ``docs/benchmarks.md``, made from the bench's JSON: nobody types them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from uanref import files
from uanref.bench import host, timing
from uanref.bench.cases import UNRECORDED
from uanref.bench.record import Record
from uanref.bench.report import busy_sentence, limits_sentence, notes, number, percent, spread
from uanref.bench.suite import Row
from uanref.bench.sweep import Point
from uanref.bench.sweep_report import verdict

BEGIN, END = "<!-- made by uanref bench: begin -->", "<!-- made by uanref bench: end -->"


def text(path: Path, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Return the text of a page that has both markers.

    Raises:
        OSError: it is missing, no plain file, or not readable.
        ValueError: no UTF-8, or without the markers, each once and in their order.
    """
    with files.open_plain(path) as stream:
        content = stream.read()
    try:
        found = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    begin, end = marks
    if found.count(begin) != 1 or found.count(end) != 1 or found.index(begin) > found.index(end):
        raise ValueError(f"{path} lacks the two lines between which the numbers go: {begin} and {end}")
    return found


def put(path: Path, made: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put text between the markers of a page.

    Raises:
        OSError: the page cannot be read or written.
        ValueError: it lacks the markers.
    """
    old, (begin, end) = text(path, marks), marks
    head, tail = old.partition(begin)[0], old.partition(end)[2]
    files.write_bytes(path, f"{head}{begin}\n\n{made}\n{end}{tail}".encode())


def write(path: Path, record: Record) -> None:
    """Put the record's numbers between the markers of a page.

    Raises:
        OSError: the page cannot be read or written.
        ValueError: it lacks the markers, or the record makes no sense.
    """
    text(path)
    try:
        made = block(record, path)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"the numbers make no page ({error}): measure them again") from None
    put(path, made)


def block(record: Record, page: Path) -> str:
    """Return what stands between the markers of ``page``."""
    parts = [_machine(record)]
    measured = [row for row in record.rows if row.ours_ms is not None]
    for peer in dict.fromkeys(row.peer for row in measured):
        parts.append(_table([row for row in measured if row.peer == peer], peer))
    meanings = [f"- `{row.case}`: {row.what}" for row in {row.case: row for row in measured if row.version}.values()]
    if meanings:
        parts.append("### The cases\n\n" + "\n".join(meanings) + "\n")
    if missing := [*notes(record.rows), *record.missing]:
        parts.append("### Not measured\n\n" + "\n".join(f"- {note}" for note in missing) + "\n")
    if record.points:
        parts.append(_sweep(record, page))
    return "\n".join(parts)


def _machine(record: Record) -> str:
    facts = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    products = f"; products by {facts['blas']}" if "blas" in facts else ""
    lines = [
        f"Printed by\n\n```console\n$ {record.command}\n```\n",
        f"on {facts['processor']}, {facts['cores']} cores ({versions}), {record.repeats} repeats{products}. "
        f"{facts['malloc'][:1].upper()}{facts['malloc'][1:]}.\n",
    ]
    noisy = sum(row.noisy for row in record.rows)
    if host.busy(facts):
        lines.append(f"**{busy_sentence(facts)}**\n")
    if noisy:
        lines.append(
            f"**{noisy} of {len(record.rows)} rows were too noisy** (spread above {100 * timing.QUIET:.0f} % in each "
            f"of up to {timing.ROUNDS} rounds, marked !): their ratios are uncertain.\n"
        )
    if record.interrupted:
        lines.append("The run was interrupted: not everything was measured.\n")
    lines += [f"{limits_sentence(one)}\n" for one in record.limits.values()]
    return "\n".join(lines)


def _table(rows: Sequence[Row], peer: str) -> str:
    several = len({row.version for row in rows}) > 1
    if all(not row.version for row in rows):
        lines = [
            f"### A training beside {peer}\n" if peer == UNRECORDED else f"### A fresh process beside `{peer}`\n",
            "| what | ms | beside ms | ratio | spread |",
            "|---|" + 4 * "--:|",
        ]
        for row in rows:
            ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
            lines.append(f"| {row.what} | {number(row.ours_ms)} | {number(row.peer_ms)} | {ratio} | {spread(row)} |")
        return "\n".join(lines) + "\n"
    title = f"### Beside {peer}\n" if peer else "### Alone\n"
    heads = ["case", *(["version"] if several else []), "ours ms", "peer ms", "ratio", "goal", "spread", "rate"]
    heads += ["of limit", "peak MB", "threads"]
    lines = [title, f"| {' | '.join(heads)} |", "|---|" + ("---|" if several else "") + 9 * "--:|"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        if row.ratio is not None and row.goal is not None and row.ratio > row.goal:
            ratio = f"**{ratio}**"
        cells = [
            f"`{row.case}`",
            *([row.version] if several else []),
            number(row.ours_ms),
            number(row.peer_ms),
            ratio,
            "-" if row.goal is None else f"{row.goal:.2f}",
            spread(row),
            "-" if row.rate is None else f"{number(row.rate)} {row.unit}",
            percent(row.of_limit),
            "-" if row.peak_mb is None else f"{row.peak_mb:.1f}",
            str(row.threads),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _sweep(record: Record, page: Path) -> str:
    lines = ["### Sizes\n"]
    if record.picture:
        link = Path(os.path.relpath(record.picture, page.parent)).as_posix()
        lines.append(f"![Nanoseconds per element over the number of elements]({link})\n")
    lines += [f"{verdict(record.points)}\n", "| layer | axis | size: ns per element |", "|---|---|---|"]
    for layer, axis in dict.fromkeys((point.layer, point.axis) for point in record.points):
        cells = [_cell(point) for point in record.points if (point.layer, point.axis) == (layer, axis)]
        lines.append(f"| {layer} | {axis} | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(point: Point) -> str:
    text = f"{point.size}: {number(point.ns)}"
    return f"**{text}**" if point.cliff else text
