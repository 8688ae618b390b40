"""Cells out of several folders, perhaps of several machines and versions: what ``uanref report`` reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uanref.experiments import cells, registry
from uanref.experiments.experiment import SCALES, Cell, Config
from uanref.reasons import reason


@dataclass
class Collected:
    """What was found.

    Attributes:
        groups: cells by experiment and scale, in the order of their plan; the scale of a comparison is empty.
        files: of each cell, by the config as JSON has it.
        notes: a sentence on all that a reader should know: cells that could not be read, that say different things.
        damaged: how many files could not be read.
    """

    groups: dict[tuple[str, str], list[Cell]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damaged: int = 0


def read(folders: Sequence[Path]) -> Collected:
    """Read all cells of ``folders``; of those with one config the first counts.

    Raises:
        FileNotFoundError: a folder is missing, or has no cells.
        OSError: it cannot be read.
    """
    found = Collected()
    by_config: dict[str, Cell] = {}
    refused: list[str] = []
    twice, differing = 0, []
    for folder in folders:
        for file in _files(folder):
            try:
                cell = cells.read(file)
                _check_names(cell.config)
            except (OSError, ValueError) as error:
                refused.append(f"{file}: it {reason(error)}")
                continue
            key = json.dumps(cell.config, sort_keys=True)
            if key in by_config:
                twice += 1
                if by_config[key].result != cell.result:
                    differing.append(file)
                continue
            by_config[key], found.files[key] = cell, file
    for cell in by_config.values():
        group = str(cell.config["experiment"]), str(cell.config.get("scale", ""))
        found.groups.setdefault(group, []).append(cell)
    for group in sorted(found.groups, key=lambda group: (_position(group[0]), group[1])):
        found.groups[group] = _ordered(*group, found.groups.pop(group))
    found.damaged = len(refused)
    if refused:
        files = "one cell is" if len(refused) == 1 else f"{len(refused)} cells are"
        found.notes.append(f"{files} left out: {refused[0]}")
    if twice:
        those = "one cell is" if twice == 1 else f"{twice} cells are"
        found.notes.append(f"{those} there more than once, the first of each counts")
    if differing:
        found.notes.append(f"{len(differing)} of them hold another result, first {differing[0]}")
    versions = sorted({str(cell.measured["versions"]["uanref"]) for cell in by_config.values()})
    if len(versions) > 1:
        found.notes.append(f"the cells are of several versions of uanref: {', '.join(versions)}")
    return found


def _files(folder: Path) -> list[Path]:
    """Return the cells' files of a folder of results, or of the folder of cells itself."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name folders of uanref experiment or uanref compare")
    place = folder.parent if folder.name == cells.FOLDER else folder
    found = [file for file in cells.ours(place) if file.suffix == ".json"]
    if not found:
        raise FileNotFoundError(f"{folder} holds no cells: name folders of uanref experiment or uanref compare")
    return found


def _check_names(config: Config) -> None:
    name, scale = config.get("experiment"), config.get("scale")
    if name != registry.COMPARE and (name not in registry.NAMES or scale not in SCALES):
        raise ValueError("is of an experiment or a scale that this uanref does not know")


def _position(name: str) -> int:
    return registry.NAMES.index(name) if name in registry.NAMES else -1


def _ordered(name: str, scale: str, found: list[Cell]) -> list[Cell]:
    """Return cells in the order of their experiment's plan; last those that it lacks, of other versions say."""
    if name == registry.COMPARE:
        return found
    seeds = [seed for cell in found if type(seed := cell.config.get("seed")) is int and 0 <= seed < 1000]
    place = {
        json.dumps(config, sort_keys=True): i
        for i, config in enumerate(registry.find(name).plan(scale, max(seeds, default=0) + 1))
    }

    def position(cell: Cell) -> tuple[int, str]:
        planned = {key: value for key, value in cell.config.items() if key not in ("experiment", "scale", "backend")}
        key = json.dumps(planned, sort_keys=True)
        return place.get(key, len(place)), key

    return sorted(found, key=position)
