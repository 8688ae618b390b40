"""The cells of a comparison: what one says of a run, and the run that one tells of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uanref import npz
from uanref.backend import Array
from uanref.experiments import cell_checks, cells, registry
from uanref.experiments.activations import Activations
from uanref.experiments.experiment import Cell
from uanref.experiments.run import Run
from uanref.experiments.settings import Settings
from uanref.reasons import reason
from uanref.training.history import History


def config(settings: Settings, norm: str, lr: float, seed: int) -> dict[str, Any]:
    """Return all that the result of one run depends on, as numbers and strings."""
    asked = {
        "experiment": registry.COMPARE,
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


def cell(settings: Settings, run: Run) -> tuple[Cell, dict[str, Array] | None]:
    """Return the cell of ``run``, and the arrays that stand beside it where there are any."""
    history = run.history.to_dict()
    seconds = [epoch.pop("seconds") for epoch in history["epochs"]]
    shown = run.activations
    result = {
        "test_accuracy": None if run.diverged else run.test_accuracy,
        "parameters": run.parameters,
        "layers": run.layers,
        "history": history,
        "activations": shown is not None,
    }
    arrays = None if shown is None else {part: np.asarray(getattr(shown, part)) for part in cell_checks.ARRAYS}
    asked = config(settings, run.norm, run.lr, run.seed)
    return Cell(asked, result, {**run.measured, "epoch_seconds": seconds}), arrays


def kept(
    folder: Path, settings: Settings, what: str, tell: Callable[[str], object] = lambda sentence: None
) -> list[Run]:
    """Return the runs of ``settings`` whose cells an earlier, unfinished comparison left in ``folder``.

    Args:
        folder: of the results.
        settings: what is compared.
        what: names the folder in the sentence.
        tell: gets a sentence where cells do not count, and one where runs cannot be gone on with by another process.

    Raises:
        FileExistsError: the folder has cells of another comparison, or made with other versions.
    """
    if unnamed := [label for label, norm in settings.factories.items() if norm.digest is None]:
        tell(f"{', '.join(unnamed)} comes from no file: if this process ends early, no other can go on with its runs")
    plan = [config(settings, *task) for task in settings.runs()]
    return cells.kept(folder, plan, what, tell, lambda file, cell: run_of(cell, file.with_suffix(".npz")))


def run_of(cell: Cell, arrays: Path | None = None) -> Run:
    """Return the run of a cell.

    Args:
        cell: that passed :func:`cell_checks.check_any`.
        arrays: the file beside it; None leaves activations out.

    Raises:
        ValueError, OSError: it is damaged; the sentence lacks its subject, the file.
    """
    cell_checks.check({"config": cell.config, "result": cell.result, "measured": cell.measured})
    asked, result, measured = cell.config, cell.result, dict(cell.measured)
    seconds = measured.pop("epoch_seconds")
    epochs = [{**epoch, "seconds": time} for epoch, time in zip(result["history"]["epochs"], seconds, strict=True)]
    accuracy = result["test_accuracy"]
    return Run(
        norm=asked["norm"],
        lr=asked["lr"],
        seed=asked["seed"],
        test_accuracy=float("nan") if accuracy is None else float(accuracy),
        parameters=result["parameters"],
        history=History.from_dict({**result["history"], "epochs": epochs}),
        layers=result["layers"],
        activations=_activations(arrays, asked["norm"]) if result["activations"] and arrays is not None else None,
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
