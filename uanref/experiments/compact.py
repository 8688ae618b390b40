"""All cells of one experiment in one file, small enough to be kept beside the page that is made from them.

The file is JSON: ``format``, ``experiment``, ``scale``; ``config`` and ``measured``, what all cells have in common;
``numbers``, those that lists repeat; ``cells``, one a line, with what is left of ``config``, ``result`` and
``measured``. A list of numbers that are all among ``numbers`` is written ``{"#": [places]}``. What is read
is what was written, bit for bit, but for a clock's digits below a microsecond.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uanref import files
from uanref.experiments import cell_checks
from uanref.experiments.experiment import Cell
from uanref.training.archive import CheckpointError
from uanref.training.checks import anything, many, named, one_of, real, record, text

FORMAT = "uanref cells, compact, 1"
LARGEST = 2**22  # bytes
MOST_CELLS = 20_000
MOST_SHARED = 200  # keys that all cells have in common: each of them gets all
_PLACES = "#"
_SHORTEST = 4  # a list worth it

_FILE = record(
    format=one_of(FORMAT),
    experiment=text,
    scale=text,
    config=named(anything),
    measured=named(anything),
    numbers=many(real()),
    cells=many(record(config=named(anything), result=named(anything), measured=named(anything))),
)


def write_compact(cells: Sequence[Cell], path: Path) -> None:
    """Write the cells of one experiment at one scale.

    Args:
        cells: at least one.
        path: a file of this kind, to be replaced, or nothing.

    Raises:
        ValueError: as :func:`compacted`.
        OSError: it cannot be written.
    """
    files.write_bytes(path, compacted(cells))


def compacted(cells: Sequence[Cell]) -> bytes:
    """Return what :func:`write_compact` writes.

    Raises:
        ValueError: no cells, or of several experiments; an object with the key ``#``; more than may be read again.
    """
    kinds = {(str(cell.config.get("experiment")), str(cell.config.get("scale", ""))) for cell in cells}
    if len(kinds) != 1:
        raise ValueError(f"the cells are of {len(kinds)} experiments and scales, expected one: write each by itself")
    ((experiment, scale),) = kinds
    config = _shared([cell.config for cell in cells])
    measured = _shared([cell.measured for cell in cells])
    counts = Counter(_line(number) for cell in cells for numbers in _lists(cell.result) for number in numbers)
    often = sorted((number for number, count in counts.items() if count > 1), key=lambda one: (-counts[one], one))
    places = {number: place for place, number in enumerate(often)}
    head = {"format": FORMAT, "experiment": experiment, "scale": scale, "config": config, "measured": measured}
    lines = [
        _line(
            {
                "config": _without(cell.config, config),
                "result": _packed(cell.result, places),
                "measured": _timed(_without(cell.measured, measured)),
            }
        )
        for cell in cells
    ]
    opening = _line(head)[:-1] + ',\n"numbers":[' + ",".join(often) + '],\n"cells":[\n'
    content = (opening + ",\n".join(lines) + "\n]}\n").encode()
    if len(content) > LARGEST or len(cells) > MOST_CELLS:
        raise ValueError(
            f"{len(cells)} cells of {experiment} take {len(content)} bytes, more than a compact file may have "
            f"({MOST_CELLS} cells, {LARGEST} bytes): keep the cells themselves"
        )
    return content


def _timed(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, without the digits of a clock below a microsecond, which are noise."""
    return {
        name: round(value, 6) if name in ("seconds", "cpu_seconds") and isinstance(value, float) else value
        for name, value in measured.items()
    }


def read_compact(path: Path) -> list[Cell]:
    """Return the cells of a file that somebody may have edited.

    Raises:
        CheckpointError, ValueError, OSError: it is damaged, or something else; the sentence lacks its subject.
    """
    content = files.read_json(path, LARGEST)
    try:
        _FILE("", content)
        if len(content["cells"]) > MOST_CELLS:
            raise CheckpointError(f"holds {len(content['cells'])} cells, expected at most {MOST_CELLS}")
        if len(content["config"]) + len(content["measured"]) > MOST_SHARED:
            raise CheckpointError(f"holds more than {MOST_SHARED} keys that all cells share: it is damaged")
        return [_cell(content, entry) for entry in content["cells"]]
    except RecursionError:
        raise ValueError("holds objects and lists too deep in each other: it is damaged") from None


def _cell(content: Mapping[str, Any], entry: Mapping[str, Any]) -> Cell:
    made = {
        "config": content["config"] | entry["config"],
        "result": _unpacked(entry["result"], content["numbers"]),
        "measured": content["measured"] | entry["measured"],
    }
    cell_checks.check_any(made)
    told = (made["config"].get("experiment"), made["config"].get("scale", ""))
    if told != (content["experiment"], content["scale"]):
        raise CheckpointError(f"holds a cell of another experiment or scale than {content['experiment'][:60]}")
    return Cell(**made)


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _shared(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys that all objects have with one value; 1, 1.0 and true are three."""
    first = {key: _line(value) for key, value in objects[0].items()}
    return {
        key: objects[0][key]
        for key, value in first.items()
        if all(key in one and _line(one[key]) == value for one in objects)
    }


def _without(whole: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in whole.items() if key not in shared}


def _lists(value: Any) -> Iterator[list[float]]:
    """Yield the lists of nothing but floats in ``value``."""
    if isinstance(value, dict):
        for entry in value.values():
            yield from _lists(entry)
    elif isinstance(value, list):
        if _packable(value):
            yield value
        else:
            for entry in value:
                yield from _lists(entry)


def _packable(value: list[Any]) -> bool:
    return len(value) >= _SHORTEST and all(type(entry) is float for entry in value)


def _packed(value: Any, places: Mapping[str, int]) -> Any:
    if isinstance(value, dict):
        if _PLACES in value:
            raise ValueError(f"a result has the key {_PLACES!r}, which stands for places of numbers: name it otherwise")
        return {key: _packed(entry, places) for key, entry in value.items()}
    if not isinstance(value, list):
        return value
    if _packable(value) and all(_line(number) in places for number in value):
        return {_PLACES: [places[_line(number)] for number in value]}
    return [_packed(entry, places) for entry in value]


def _unpacked(value: Any, numbers: Sequence[float]) -> Any:
    if isinstance(value, list):
        return [_unpacked(entry, numbers) for entry in value]
    if not isinstance(value, dict):
        return value
    if _PLACES not in value:
        return {key: _unpacked(entry, numbers) for key, entry in value.items()}
    at = value[_PLACES]
    good = len(value) == 1 and isinstance(at, list)
    if not good or not all(type(place) is int and 0 <= place < len(numbers) for place in at):
        raise CheckpointError("holds places of numbers that are not there: it is damaged")
    return [numbers[place] for place in at]
