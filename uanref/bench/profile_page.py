"""The tables of ``docs/fast.md`` that say why goals are missed, made from the profile's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uanref.bench import host, page
from uanref.bench.profile_record import ProfileRecord
from uanref.bench.profile_report import (
    FIRST,
    PAIRS,
    REASONS,
    SHARES,
    SITES,
    doubt,
    operation_sentence,
    pair,
    reason,
    row,
    shares,
    site,
    top,
)
from uanref.bench.report import busy_sentence, limits_sentence
from uanref.reasons import named

MARKS = ("<!-- made by uanref bench --profile: begin -->", "<!-- made by uanref bench --profile: end -->")
MOST = 2
"""So many calls of each case are shown."""


def write(path: Path, record: ProfileRecord) -> None:
    """Put the record's tables between the profile's marks of a page.

    Raises:
        OSError: the page cannot be read or written.
        ValueError: it lacks the marks, or the record makes no sense.
    """
    try:
        made = block(record)
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"the numbers make no page ({named(error)}): profile again") from None
    page.put(path, made, MARKS)


def block(record: ProfileRecord) -> str:
    """Return what stands between the marks."""
    facts = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    made = [
        f"Printed by\n\n```console\n$ {record.command}\n```\n",
        f"on {facts['processor']}, {facts['cores']} cores ({versions}), {record.repeats} repeats; products by "
        f"{facts['blas']}.\n",
        *([f"**{busy_sentence(facts)}**\n"] if host.busy(facts) else []),
        *(f"{limits_sentence(one)}\n" for one in record.limits.values()),
        f"{operation_sentence(record.operation)}\n",
    ]
    if record.profiles:
        made.append(_table("Beside PyTorch", FIRST, [_first(row(one)) for one in record.profiles]))
        used = dict.fromkeys(reason(one) for one in record.profiles)
        made += [f"**{doubtful}**\n"] if (doubtful := doubt(record.profiles)) else []
        made.append("\n".join(f"- *{name}*: {text}." for name, text in REASONS.items() if name in used) + "\n")
        made.append(_table("One thread: where the time goes", SHARES, [_first(shares(one)) for one in record.profiles]))
        found = [(one, each) for one in record.profiles for _, each in top(one, MOST)]
        lines = [
            (f"`{one.case}`", *(f"`{text}`" for text in site(one, each)[:2]), *site(one, each)[2:])
            for one, each in found
        ]
        made.append(_table("The calls that take longest", SITES, lines))
    if record.pairs:
        made.append(_table("Two threads of Python, each multiplying", PAIRS, [pair(one) for one in record.pairs]))
    return "\n".join([*made, *(f"{one}\n" for one in record.missing)])


def _first(cells: Sequence[str]) -> tuple[str, ...]:
    return (f"`{cells[0]}`", *cells[1:])


def _table(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    words = ("case", "where", "call", "reason")
    heads = [heading.replace("\n", " ") for heading in heads]
    aligned = "".join("---|" if heading in words else "--:|" for heading in heads)
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([f"#### {title}\n", f"| {' | '.join(heads)} |", f"|{aligned}", *rows, ""])
