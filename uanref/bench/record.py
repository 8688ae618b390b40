"""What a run of ``uanref bench`` on the host leaves behind, and its JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from uanref import files
from uanref.bench import suite, sweep
from uanref.bench.limits import Limits
from uanref.bench.suite import Row
from uanref.bench.sweep import Point

FORMAT = 1


@dataclass
class Record:
    """One run, which grows while it goes on.

    Attributes:
        command: as it was given.
        repeats: of every row.
        machine: see :func:`uanref.bench.host.facts`.
        missing: why peers are missing, a sentence each.
        limits: of the machine, by threads.
        rows: what was measured.
        points: of the sweep.
        picture: the file of the sweep's picture, or empty.
        interrupted: whether it ended early.
    """

    command: str
    repeats: int
    machine: dict[str, Any]
    missing: list[str] = field(default_factory=list)
    limits: dict[int, Limits] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    picture: str = ""
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` writes."""
        return {
            "format": FORMAT,
            "command": self.command,
            "repeats": self.repeats,
            "interrupted": self.interrupted,
            "machine": self.machine,
            "missing": self.missing,
            "limits": [asdict(one) for one in self.limits.values()],
            "rows": suite.rows_as_json(self.rows),
            "picture": self.picture,
            "sweep": sweep.points_as_json(self.points),
        }


def read(path: str | os.PathLike[str]) -> Record:
    """Read what ``--json`` wrote.

    Raises:
        OSError: it is missing, no plain file, or not readable.
        ValueError: it holds something else.
    """
    with files.open_plain(path) as stream:
        content = stream.read()
    try:
        return from_json(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{os.fspath(path)} is not what uanref bench --json writes on the host") from None


def from_json(found: Mapping[str, Any]) -> Record:
    """Return the record that :meth:`Record.as_json` turned into ``found``.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is something else.
    """
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']!r}")
    points = [Point(**(point | {"shape": tuple(point["shape"])})) for point in found["sweep"]]
    return Record(
        found["command"],
        found["repeats"],
        dict(found["machine"]),
        list(found["missing"]),
        {one["threads"]: Limits(**one) for one in found["limits"]},
        [Row(**row) for row in found["rows"]],
        points,
        found["picture"],
        found["interrupted"],
    )
