"""Cells: a file for each finished piece of work, written as it finishes, so that nothing that comes later loses it.

``cells/NAME.json`` holds three objects: ``config``, what was asked for; ``result``, a function of ``config`` alone;
``measured``, what another machine or day would change. The name is a digest of ``config`` (which has the digest of a
reader's own norm, where there is one) and of this package's version. Arrays that are drawn may stand beside it in
``cells/NAME.npz``, and what a training looked like inside in ``cells/NAME.replay.npz``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import uanref
from uanref import files, machine, npz
from uanref.backend import Array
from uanref.experiments import cell_checks
from uanref.experiments.experiment import Cell, Config
from uanref.reasons import reason

FOLDER = "cells"
PATTERN = re.compile(r"[0-9a-f]{32}\.(json|npz|replay\.npz)")
RECORDING = ".replay.npz"
_LARGEST = 2**28  # bytes; a file that claims more is none of ours

Found = TypeVar("Found")


def name(config: Mapping[str, Any], version: str = uanref.__version__) -> str:
    """Return the name of the cell of one config: 32 hexadecimal digits.

    Args:
        config: all that the result depends on.
        version: of this package.

    Raises:
        ValueError, TypeError: ``config`` is not what JSON can say.
    """
    identity = {"config": config, "uanref": version}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def path(folder: Path, config: Mapping[str, Any]) -> Path:
    """Return the file of a config's cell below ``folder``."""
    return folder / FOLDER / f"{name(config)}.json"


def recording_path(folder: Path, config: Mapping[str, Any]) -> Path:
    """Return the file of what was recorded of a config's training."""
    return path(folder, config).with_suffix(RECORDING)


def write(folder: Path, cell: Cell, arrays: Mapping[str, Array] | None = None) -> None:
    """Write a cell into ``folder / "cells"``, which is created where it is missing; its arrays first.

    Raises:
        OSError: it cannot be written.
        ValueError, TypeError: it holds what JSON cannot say, NaN say.
    """
    file = path(folder, cell.config)
    file.parent.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        npz.write(file.with_suffix(".npz"), dict(arrays))
    files.write_json(file, {"config": cell.config, "result": cell.result, "measured": cell.measured})


def ours(folder: Path) -> list[Path]:
    """Return the files of ``folder / "cells"`` that have a cell's name."""
    cells = folder / FOLDER
    if cells.is_symlink() or not cells.is_dir():
        return []
    return sorted(path for path in cells.iterdir() if PATTERN.fullmatch(path.name) and not path.is_dir())


def read(file: Path) -> Cell:
    """Return what a file says that may be of any version, and that somebody may have edited.

    Raises:
        ValueError, OSError: it is damaged, or holds what no cell holds; the sentence lacks its subject, the file.
    """
    content = files.read_json(file, _LARGEST)
    cell_checks.check_any(content)
    cell = Cell(content["config"], content["result"], content["measured"])
    if name(cell.config, cell.measured["versions"].get("uanref")) != file.stem:
        raise ValueError("holds another config than its name says")
    return cell


def kept(
    folder: Path,
    plan: list[Config],
    what: str,
    tell: Callable[[str], object] = lambda sentence: None,
    use: Callable[[Path, Cell], Found] = lambda file, cell: cell,  # type: ignore[assignment, return-value]
) -> list[Found]:
    """Return those cells of ``plan`` that earlier work left in ``folder``; their files are not touched.

    A damaged cell does not count: it is computed again.

    Args:
        folder: of the results.
        plan: all configs.
        what: names the folder in the sentence.
        tell: gets a sentence where cells do not count, with the first of them and its reason.
        use: makes of file and cell what is returned; a ValueError or OSError says that the cell is damaged.

    Raises:
        FileExistsError: the folder has cells of another plan, or of other versions of this package, Python, NumPy or
            SciPy (and CuPy, for a GPU): their numbers may be others.
    """
    names = {name(config) for config in plan}
    files_there = [file for file in ours(folder) if file.suffix == ".json"]
    found, refused = [], []
    for file in files_there:
        try:
            cell = read(file)
        except (OSError, ValueError) as error:
            if file.stem not in names:
                raise FileExistsError(f"{what} holds cells of another plan: {_ELSEWHERE}") from error
            refused.append(f"{file}: it {fault(error)}")
            continue
        if others := other_versions(cell):
            raise FileExistsError(f"{what} holds cells made with {others}: {_ELSEWHERE}")
        if file.stem not in names:
            raise FileExistsError(f"{what} holds cells of another plan: {_ELSEWHERE}")
        try:
            found.append(use(file, cell))
        except (OSError, ValueError) as error:
            refused.append(f"{file}: it {fault(error)}")
    if refused:
        cells = "one kept cell is" if len(refused) == 1 else f"{len(refused)} kept cells are"
        tell(f"{cells} not usable and computed again: {refused[0]}")
    return found


def fault(error: Exception) -> str:
    """Return why a cell does not count, to be put behind "it": the system's words are no end of a sentence."""
    why = reason(error)
    return f"cannot be read ({why})" if isinstance(error, OSError) else why


_ELSEWHERE = "name another folder or add --force"


def other_versions(cell: Cell) -> str:
    """Return which packages that numbers depend on had other versions than here, in words; empty if none had."""
    packages = ["uanref", "python", "numpy", "scipy"] + ["cupy"] * (cell.config.get("backend") == "cupy")
    then, now = cell.measured["versions"], machine.versions()
    return ", ".join(
        f"{package} {then.get(package)}, which is {now[package]} here"
        for package in packages
        if then.get(package) != now[package]
    )
