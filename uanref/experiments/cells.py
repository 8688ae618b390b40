"""Cells: a file for each finished run, written as it finishes, so that nothing that comes later can lose it.

``cells/NAME.json`` holds three objects: ``config``, what was asked for; ``result``, a function of ``config`` alone;
``measured``, what another machine or day would change. The name is a digest of ``config``. Arrays of a run that are
drawn stand beside it in ``cells/NAME.npz``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uanref import files, machine, npz
from uanref.experiments import cell_checks
from uanref.experiments.activations import Activations
from uanref.experiments.run import Run
from uanref.experiments.settings import Settings
from uanref.reasons import reason
from uanref.training.history import History

FOLDER = "cells"
PATTERN = re.compile(r"[0-9a-f]{32}\.(json|npz)")
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
        npz.write(path.with_suffix(".npz"), {part: np.asarray(getattr(shown, part)) for part in cell_checks.ARRAYS})
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


def kept(
    folder: Path, settings: Settings, what: str, tell: Callable[[str], object] = lambda sentence: None
) -> list[Run]:
    """Return the runs of ``settings`` whose cells an earlier, unfinished comparison left in ``folder``.

    A cell that is damaged, or was made with other versions, does not count: its run is trained again.

    Args:
        folder: of the results.
        settings: what is compared.
        what: names the folder in the sentence.
        tell: gets a sentence where cells do not count, with the first of them and its reason.

    Raises:
        FileExistsError: the folder has cells of another comparison.
    """
    plans = {name(config(settings, *task)): task for task in settings.runs()}
    found = [path for path in ours(folder) if path.suffix == ".json"]
    if any(path.stem not in plans for path in found):
        raise FileExistsError(f"{what} holds runs of another comparison: name another folder or add --force")
    runs, refused = [], []
    for path in found:
        try:
            runs.append(_read(path, settings, *plans[path.stem]))
        except (OSError, ValueError) as error:
            refused.append(f"{path}: it {reason(error)}")
    if refused:
        times = "its run is" if len(refused) == 1 else f"{len(refused)} runs are"
        tell(f"{times} trained again, the kept one is not usable: {refused[0]}")
    return runs


def ours(folder: Path) -> list[Path]:
    """Return the files of ``folder / "cells"`` that have a cell's name."""
    cells = folder / FOLDER
    if cells.is_symlink() or not cells.is_dir():
        return []
    return sorted(path for path in cells.iterdir() if PATTERN.fullmatch(path.name) and not path.is_dir())


def _read(path: Path, settings: Settings, norm: str, lr: float, seed: int) -> Run:
    """Return the run of a cell.

    Raises:
        ValueError, OSError: it is damaged, or of another comparison.
    """
    cell = files.read_json(path, _LARGEST)
    cell_checks.check(cell, settings.epochs)
    asked, result, measured = cell["config"], cell["result"], cell["measured"]
    if asked != config(settings, norm, lr, seed):
        raise ValueError("holds another config than its name says")
    if measured["versions"] != machine.versions():
        raise ValueError("was made with other versions of Python or its packages")
    seconds = measured.pop("epoch_seconds")
    epochs = [{**epoch, "seconds": time} for epoch, time in zip(result["history"]["epochs"], seconds, strict=True)]
    accuracy = result["test_accuracy"]
    return Run(
        norm=norm,
        lr=lr,
        seed=seed,
        test_accuracy=float("nan") if accuracy is None else float(accuracy),
        parameters=result["parameters"],
        history=History.from_dict({**result["history"], "epochs": epochs}),
        layers=result["layers"],
        activations=_activations(path.with_suffix(".npz"), norm) if result["activations"] else None,
        measured=measured,
    )


def _activations(path: Path, norm: str) -> Activations:
    try:
        arrays = npz.read(path, names=cell_checks.ARRAYS, fits=cell_checks.check_shapes)
        cell_checks.check_numbers(arrays)
    except (OSError, npz.NpzError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise ValueError(f"lacks {path.name}" if missing else f"has a {path.name} that {reason(error)}") from error
    channels, *rest = (arrays[part] for part in cell_checks.ARRAYS)
    return Activations(norm, tuple(int(c) for c in channels), *rest)
