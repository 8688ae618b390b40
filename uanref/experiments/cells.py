"""Cells: a file for each finished run, written as it finishes, so that nothing that comes later can lose it.

``cells/NAME.json`` holds three objects: ``config``, what was asked for; ``result``, a function of ``config`` alone;
``measured``, what another machine or day would change. The name is a digest of ``config``. Arrays of a run that are
drawn stand beside it in ``cells/NAME.npz``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uanref import files, machine, npz
from uanref.experiments.activations import Activations
from uanref.experiments.run import Run
from uanref.experiments.settings import Settings
from uanref.training.history import History

FOLDER = "cells"
PATTERN = re.compile(r"[0-9a-f]{32}\.(json|npz)")
_ARRAYS = ("channels", "samples", "weights", "means", "variances")
_LARGEST = 2**28  # bytes; a file that claims more is none of ours


def config(settings: Settings, norm: str, lr: float, seed: int) -> dict[str, Any]:
    """Return all that the result of one run depends on, as numbers and strings."""
    asked = {
        "dataset": settings.dataset,
        "model": settings.model,
        "norm": norm,
        "components": settings.components,
        "optimizer": settings.optimizer,
        "lr": lr,
        "schedule": "cosine",
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "seed": seed,
        "activations": seed == 0 and lr == settings.lrs[0],  # whether they are kept
        "backend": settings.backend,
    }
    if norm in settings.factories:  # of the reader's own code
        asked["norm_digest"] = settings.factories[norm].identity
    return asked


def name(content: Mapping[str, Any]) -> str:
    """Return the name of the cell of one ``config``: 32 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write(folder: Path, settings: Settings, run: Run) -> None:
    """Write the cell of ``run`` into ``folder / "cells"``, which is created where it is missing.

    Raises:
        OSError: it cannot be written.
    """
    asked = config(settings, run.norm, run.lr, run.seed)
    path = folder / FOLDER / f"{name(asked)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if (shown := run.activations) is not None:
        npz.write(path.with_suffix(".npz"), {part: np.asarray(getattr(shown, part)) for part in _ARRAYS})
    history = run.history.to_dict()
    seconds = [epoch.pop("seconds") for epoch in history["epochs"]]
    result = {
        "test_accuracy": None if run.diverged else run.test_accuracy,
        "parameters": run.parameters,
        "layers": run.layers,
        "history": history,
        "activations": shown is not None,
    }
    measured = {**run.measured, "epoch_seconds": seconds}
    files.write_json(path, {"config": asked, "result": result, "measured": measured})


def exists(folder: Path, settings: Settings, run: Run) -> bool:
    """Return whether the cell of ``run`` stands in ``folder``."""
    return (folder / FOLDER / f"{name(config(settings, run.norm, run.lr, run.seed))}.json").is_file()


def kept(folder: Path, settings: Settings, what: str) -> list[Run]:
    """Return the runs of ``settings`` whose cells an earlier, unfinished comparison left in ``folder``.

    A cell that is damaged, or was made with other versions, does not count: its run is trained again.

    Args:
        folder: of the results.
        settings: what is compared.
        what: names the folder in the sentence.

    Raises:
        FileExistsError: the folder has cells of another comparison.
    """
    plans = {name(config(settings, *task)): task for task in settings.runs()}
    found = [path for path in ours(folder) if path.suffix == ".json"]
    if any(path.stem not in plans for path in found):
        raise FileExistsError(f"{what} holds runs of another comparison: name another folder or add --force")
    runs = [_read(path, settings, *plans[path.stem]) for path in found]
    return [run for run in runs if run is not None]


def ours(folder: Path) -> list[Path]:
    """Return the files of ``folder / "cells"`` that have a cell's name."""
    cells = folder / FOLDER
    if cells.is_symlink() or not cells.is_dir():
        return []
    return sorted(path for path in cells.iterdir() if PATTERN.fullmatch(path.name) and not path.is_dir())


def _read(path: Path, settings: Settings, norm: str, lr: float, seed: int) -> Run | None:
    try:
        cell = json.loads(_bytes(path))
        asked, result, measured = cell["config"], cell["result"], cell["measured"]
        if asked != config(settings, norm, lr, seed) or measured["versions"] != machine.versions():
            return None
        seconds = measured.pop("epoch_seconds")
        epochs = [{**epoch, "seconds": time} for epoch, time in zip(result["history"]["epochs"], seconds, strict=True)]
        history = History.from_dict({**result["history"], "epochs": epochs})
        accuracy = result["test_accuracy"]
        return Run(
            norm=norm,
            lr=lr,
            seed=seed,
            test_accuracy=float("nan") if accuracy is None else float(accuracy),
            parameters=int(result["parameters"]),
            history=history,
            layers={str(key): str(value) for key, value in result["layers"].items()},
            activations=_activations(path.with_suffix(".npz"), norm) if result["activations"] else None,
            measured=dict(measured),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError):
        return None


def _activations(path: Path, norm: str) -> Activations:
    arrays = npz.read(path)
    channels, *rest = (arrays[part] for part in _ARRAYS)
    return Activations(norm, tuple(int(c) for c in channels), *rest)


def _bytes(path: Path) -> bytes:
    with files.open_plain(path) as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{path} is no cell")
    return content
