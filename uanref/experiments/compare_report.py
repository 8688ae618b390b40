"""What a comparison leaves: the printed table, ``results.json`` and the pictures."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.table import Table
from rich.text import Text

from uanref.backend import Array
from uanref.experiments import files, info
from uanref.experiments.compare import Comparison, Run

TARGET = 0.95  # the validation accuracy that "epochs to 95 %" waits for

Summary = TypeVar("Summary")


# --- the table ------------------------------------------------------------------------------------


def table(comparison: Comparison) -> Table:
    """Return the printed table: a row for each norm and learning rate. 80 columns hold it."""
    settings = comparison.settings
    grid = len(settings.lrs) > 1
    made = Table(
        caption=Text(caption(comparison)), caption_justify="left", caption_style="", show_edge=False, pad_edge=False
    )
    made.add_column("norm", no_wrap=True)
    if grid:
        made.add_column("lr", justify="right", no_wrap=True)
    for title in ("test accuracy (%)", "epochs to 95 %", "s/epoch", "parameters"):
        made.add_column(title, justify="right")
    for norm, lr in itertools.product(settings.norms, settings.lrs):
        if runs := comparison.of(norm, lr):
            made.add_row(norm, *([f"{lr:g}"] if grid else []), *_cells(runs))
    return made


def caption(comparison: Comparison) -> str:
    """Return what a reader needs to know about the numbers."""
    settings = comparison.settings
    seeds = "Seed 0" if settings.seeds == 1 else f"Each seed (0 to {settings.seeds - 1})"
    sentences = [
        f"{comparison.split} {seeds} draws split, weights and batches, alike for all norms.",
        f"Accuracy: mean ± sd over the seeds. Epochs to 95 %: mean of the first epoch with "
        f"{100 * TARGET:g} % on validation.",
        f"{settings.model}, {settings.epochs} epochs, batches of {settings.batch_size}, {settings.optimizer}, "
        f"lr {', '.join(f'{lr:g}' for lr in settings.lrs)} falling along a cosine, K = {settings.components}.",
    ]
    return " ".join(sentences) + (f" ({comparison.note})" if comparison.note else "")


def _cells(runs: Sequence[Run]) -> tuple[str, str, str, str]:
    """Return test accuracy, epochs to the target, seconds an epoch and parameters of one row."""
    scored = [100 * run.test_accuracy for run in runs if not run.diverged]
    accuracy = f"{statistics.mean(scored):.2f}" if scored else ""
    if len(scored) > 1:
        accuracy += f" ± {statistics.stdev(scored):.2f}"
    if lost := len(runs) - len(scored):
        accuracy = "\n".join(filter(None, [accuracy, f"{lost} of {len(runs)} diverged"]))

    reached = [epoch for run in runs if (epoch := run.history.epochs_to(TARGET)) is not None]
    epochs = f"{statistics.mean(reached):.1f}" if reached else "not reached"
    if reached and len(reached) < len(runs):
        epochs += f"\n({len(reached)} of {len(runs)} runs)"

    timed = [seconds for run in runs if math.isfinite(seconds := run.history.seconds_per_epoch())]
    return accuracy, epochs, f"{statistics.mean(timed):.3f}" if timed else "", f"{runs[0].parameters:,}"


# --- files ----------------------------------------------------------------------------------------


def write(comparison: Comparison, folder: Path, command: str) -> list[Path]:
    """Write ``results.json`` and the pictures into ``folder`` and return their paths.

    Each is written under a temporary name first; ``results.json`` comes last, so that
    a folder that has it has everything.

    Args:
        comparison: with at least one run.
        folder: where to.
        command: what was asked for, to be written into ``results.json``.

    Raises:
        OSError: the folder is not writable.
    """
    from uanref import plots

    settings = comparison.settings
    title = f"{settings.dataset}, {settings.model}"
    pictures = {
        "curves.png": plots.curves(_by_rate(comparison, _curves), f"{title}: training and validation"),
        "gradients.png": plots.gradients(
            _by_rate(comparison, _mean_gradients), f"{title}: gradient norms of the weights (mean over the seeds)"
        ),
    }
    if shown := [run.activations for run in comparison.runs if run.activations is not None]:
        pictures["activations.png"] = plots.activations(
            shown, f"{title}: inputs of the first norm layer after training (seed 0, lr {settings.lrs[0]:g})"
        )
    for name, figure in pictures.items():
        plots.save(figure, folder / name)
    results: dict[str, Any] = {"command": command, "versions": info.versions()}
    if settings.backend == "cupy":
        results["device"] = info.device()
    if comparison.note:
        results["note"] = comparison.note
    results["runs"] = [run.to_dict() for run in comparison.runs]
    files.write_json(folder / "results.json", results)
    return [folder / name for name in ("results.json", *pictures)]


def _by_rate(comparison: Comparison, summary: Callable[[list[Run]], Summary]) -> dict[str, dict[str, Summary]]:
    """Return a summary of the runs for each learning rate and norm that has any: rows of a picture."""
    found: dict[str, dict[str, Summary]] = {}
    for lr, norm in itertools.product(comparison.settings.lrs, comparison.settings.norms):
        if runs := comparison.of(norm, lr):
            found.setdefault(f"lr {lr:g}", {})[norm] = summary(runs)
    return found


def _curves(runs: Sequence[Run]) -> list[dict[str, Array]]:
    names = ("train_loss", "validation_accuracy")
    return [{name: np.array(run.history.curve(name)) for name in names} for run in runs]


def _mean_gradients(runs: Sequence[Run]) -> dict[str, tuple[Array, Array]]:
    """Average the gradient norms of one norm's runs, over as many reports as all of them have."""
    reports = min(len(run.history.steps) for run in runs)
    found = {}
    for name, label in runs[0].layers.items():
        norms = np.array([run.history.gradient_norms.get(name, [])[:reports] for run in runs])
        found[label] = (np.arange(1, norms.shape[1] + 1), norms.mean(axis=0))
    return found
