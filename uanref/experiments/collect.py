"""Cells out of several folders, perhaps of several machines and versions: what ``uanref report`` reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from uanref.experiments import cell_checks, cells, compact, registry
from uanref.experiments.experiment import SCALES, Cell, Config
from uanref.reasons import reason


class Group(NamedTuple):
    """Which cells are reported together: the same seed on another backend is no second seed."""

    experiment: str
    scale: str  # empty for a comparison, which has none
    backend: str  # empty for comparisons: each is of one anyhow

    @property
    def kind(self) -> str:
        """The scale, and the backend where it is not NumPy: for titles and folders."""
        return self.scale if self.backend in ("", "numpy") else f"{self.scale}-{self.backend}"


@dataclass
class Collected:
    """What was found.

    Attributes:
        groups: cells by experiment, scale and backend, in the order of their plan.
        files: of each cell, by the config as JSON has it.
        notes: a sentence on all that a reader should know: cells that could not be read, that say different things.
        damaged: how many files could not be read.
    """

    groups: dict[Group, list[Cell]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damaged: int = 0


def read(places: Sequence[Path]) -> Collected:
    """Read all cells of some folders and compact files; of those with one config the first counts.

    Raises:
        FileNotFoundError: a folder or file is missing, or a folder has no cells.
        OSError: it cannot be read.
        ValueError: a file is no compact file of cells.
    """
    found = Collected()
    by_config: dict[str, Cell] = {}
    refused: list[str] = []
    twice, differing = 0, []
    for place in places:
        for file, cell in _cells(place, refused):
            key = json.dumps(cell.config, sort_keys=True)
            if key in by_config:
                twice += 1
                if by_config[key].result != cell.result:
                    differing.append(file)
                continue
            by_config[key], found.files[key] = cell, file
    for cell in by_config.values():
        found.groups.setdefault(_group(cell.config), []).append(cell)
    for group in sorted(found.groups, key=lambda group: (_position(group.experiment), group.kind)):
        found.groups[group] = _ordered(group.experiment, group.scale, found.groups.pop(group))
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


def _cells(place: Path, refused: list[str]) -> Iterator[tuple[Path, Cell]]:
    """Yield the cells of a folder or of a compact file, and add a sentence to ``refused`` on each unreadable one."""
    if place.suffix == ".json" and not place.is_dir():
        try:
            found = compact.read_compact(place)
            for cell in found:
                _check(cell)
        except OSError as error:
            raise type(error)(f"{place} cannot be read ({reason(error)}): name another file") from None
        except ValueError as error:
            raise ValueError(f"{place} {reason(error)}: name a file that --page wrote") from None
        yield from ((place, cell) for cell in found)
        return
    for file in _files(place):
        try:
            cell = cells.read(file)
            _check(cell)
        except (OSError, ValueError) as error:
            refused.append(f"{file}: it {cells.fault(error)}")
        else:
            yield file, cell


def _files(folder: Path) -> list[Path]:
    """Return the cells' files of a folder of results, or of the folder of cells itself."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name folders of uanref experiment or uanref compare")
    place = folder.parent if folder.name == cells.FOLDER else folder
    found = [file for file in cells.ours(place) if file.suffix == ".json"]
    if not found:
        raise FileNotFoundError(f"{folder} holds no cells: name folders of uanref experiment or uanref compare")
    return found


def _check(cell: Cell) -> None:
    """Refuse a cell of something unknown; of what it says, scale and backend name folders.

    Raises:
        ValueError: it is; the sentence lacks its subject, the file.
    """
    config = cell.config
    if config.get("experiment") == registry.COMPARE:
        cell_checks.check({"config": config, "result": cell.result, "measured": cell.measured})
        return
    if config.get("experiment") not in registry.NAMES or config.get("scale") not in SCALES:
        raise ValueError("is of an experiment or a scale that this uanref does not know")
    if config.get("backend", "numpy") not in ("numpy", "cupy"):
        raise ValueError("is of a backend that this uanref does not know")


def _group(config: Config) -> Group:
    if config["experiment"] == registry.COMPARE:
        return Group(registry.COMPARE, "", "")
    return Group(config["experiment"], config["scale"], config.get("backend", "numpy"))


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
