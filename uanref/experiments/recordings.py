"""Where the recordings of a run are: in a folder of ``uanref compare``, or beside a checkpoint of ``uanref train``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uanref.experiments import cells
from uanref.models import NORMS
from uanref.training import recording
from uanref.training.recording import RecordingError
from uanref.training.recording_keeping import beside


@dataclass(frozen=True)
class Found:
    """A recording.

    Attributes:
        label: its name among those found with it: ``norm:seed``, and where that is not enough ``norm:seed:lr``, or
            ``norm:seed:file``.
        norm, seed, lr: of its training.
        path: its file.
    """

    label: str
    norm: str
    seed: int
    lr: float
    path: Path


def find(place: Path, tell: Callable[[str], object] = lambda sentence: None) -> list[Found]:
    """Return the recordings of a run, by norm, learning rate and seed.

    Args:
        place: a folder of ``uanref compare``, a folder in which ``uanref train`` saved, a checkpoint, or a recording.
        tell: gets a sentence on each file that is no usable recording where others are.

    Raises:
        RecordingError: there is none; the sentence says what to name.
    """
    if place.is_dir():
        paths = _in_folder(place)
        if not paths:
            raise RecordingError(
                f"{place} holds no recordings: name a folder of uanref compare, or a checkpoint of uanref train --save "
                "(where one still runs, the first recording comes with its first finished run or epoch)"
            )
    else:
        paths = [_of_file(place)]
    found, faults = [], []
    for path in paths:
        try:
            one = recording.read(path)
        except RecordingError as error:
            faults.append(str(error))
        else:
            found.append(Found("", one.norm, one.seed, one.lr, path))
    if not found:
        raise RecordingError(faults[0])
    for fault in faults:
        tell(fault)
    return _labelled(sorted(found, key=_position))


def _in_folder(folder: Path) -> list[Path]:
    results = folder.parent if folder.name == cells.FOLDER else folder
    ours = [path for path in cells.ours(results) if path.name.endswith(cells.RECORDING)]
    return ours + sorted(path for path in folder.glob(beside(Path("*.npz")).name) if not path.is_dir())


def _of_file(path: Path) -> Path:
    """Return the recording that a file is, or that stands beside it, a checkpoint or a cell of ``uanref compare``.

    Raises:
        RecordingError: there is no such file, or a checkpoint alone.
    """
    if beside(path).is_file():
        return beside(path)
    if path.name.endswith((cells.RECORDING, "-replay.npz")):
        return path
    if cells.PATTERN.fullmatch(path.name) and path.with_suffix(cells.RECORDING).is_file():
        return path.with_suffix(cells.RECORDING)
    if not path.exists():
        raise RecordingError(f"{path} does not exist: name a folder of uanref compare, or a checkpoint of uanref train")
    try:
        recording.read(path)
    except RecordingError as error:
        folder = path.parent.parent if path.parent.name == cells.FOLDER else path.parent
        hint = f"the folder {folder} holds some, name that" if _in_folder(folder) else "uanref train --save writes one"
        raise RecordingError(
            f"{path} is no recording, and there is no {beside(path).name} beside it: {hint}"
        ) from error
    return path


def _position(one: Found) -> tuple[int, str, float, int, str]:
    return NORMS.index(one.norm) if one.norm in NORMS else len(NORMS), one.norm, one.lr, one.seed, one.path.name


def _labelled(found: Sequence[Found]) -> list[Found]:
    short = [f"{one.norm}:{one.seed}" for one in found]
    longer = [f"{label}:{one.lr:g}" for label, one in zip(short, found, strict=True)]
    longest = [f"{label}:{one.path.stem}" for label, one in zip(short, found, strict=True)]
    once, twice = Counter(short), Counter(longer)
    return [
        Found(
            short[i] if once[short[i]] == 1 else longer[i] if twice[longer[i]] == 1 else longest[i],
            one.norm,
            one.seed,
            one.lr,
            one.path,
        )
        for i, one in enumerate(found)
    ]
