"""The settings of some cells in words: what all share, what varies, with what they were made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from uanref.experiments.experiment import Cell

_ADDED = ("experiment", "scale", "backend")  # by the sweep
_MOST_VALUES = 12  # of one setting, named one by one


def settings(cells: Sequence[Cell]) -> str:
    """Return what all runs share and what varies, in words, with versions and time."""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.config if key not in _ADDED))
    same, varied = [], []
    for key in keys:
        values = _values(cell.config.get(key, "not set") for cell in cells)
        if len(values) == 1:
            same.append(f"{_spaced(key)} {values[0]}")
        elif key == "seed" and len(values) > 2:
            varied.append(f"seed ({len(values)} of them)")
        else:
            shown = ", ".join(values[:_MOST_VALUES]) + (", ..." if len(values) > _MOST_VALUES else "")
            varied.append(f"{_spaced(key)} ({shown})")
    scales = _values(cell.config.get("scale", "") for cell in cells)
    text = f"{len(cells)} runs, scale {', '.join(scales)}, backend {', '.join(_values(_backends(cells)))}."
    if varied:
        text += f" Varied: {'; '.join(varied)}."
    if same:
        text += f" All: {'; '.join(same)}."
    return f"{text} {_measured(cells)}"


def _backends(cells: Sequence[Cell]) -> Iterator[Any]:
    return (cell.config.get("backend", "numpy") for cell in cells)


def _measured(cells: Sequence[Cell]) -> str:
    packages = ("uanref", "python", "numpy", "scipy")
    versions = [
        f"{package} {', '.join(found)}"
        for package in packages
        if (found := _values(version for cell in cells if (version := cell.measured["versions"].get(package))))
    ]
    seconds = [value for cell in cells if isinstance(value := cell.measured.get("seconds"), int | float)]
    time = f" {math.fsum(seconds) / 60:.1f} minutes of work in all." if seconds else ""
    return f"Made with {', '.join(versions)}.{time}"


def _values(values: Iterator[Any]) -> list[str]:
    """Return what the values are, each once, in the order in which they come."""
    return list(dict.fromkeys(map(_told, values)))


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if value == {}:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _spaced(key: str) -> str:
    return {"lr": "learning rate"}.get(key, key.replace("_", " "))
