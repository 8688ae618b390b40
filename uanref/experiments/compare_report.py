"""What a comparison tells in numbers: the printed table, and the content of ``results.json``."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from uanref import machine
from uanref.experiments.compare import Comparison, Run

TARGET = 0.95  # the validation accuracy that "epochs to 95 %" waits for


def table(comparison: Comparison) -> Table:
    """Return the printed table: a row for each norm and learning rate. 80 columns hold it."""
    settings = comparison.settings
    grid = len(settings.lrs) > 1
    made = Table(
        caption=Text(caption(comparison)), caption_justify="left", caption_style="", show_edge=False, pad_edge=False
    )
    made.add_column("norm", no_wrap=not settings.factories, overflow="fold")
    if grid:
        made.add_column("lr", justify="right", no_wrap=True)
    for title in ("test accuracy (%)", "epochs to 95 %", "s/epoch", "parameters"):
        made.add_column(title, justify="right")
    for norm, lr in itertools.product(settings.norms, settings.lrs):
        if runs := comparison.of(norm, lr):
            made.add_row(Text(norm), *([f"{lr:g}"] if grid else []), *_cells(runs))
    return made


def caption(comparison: Comparison) -> str:
    """Return what a reader needs to know about the numbers."""
    settings = comparison.settings
    seeds = "Seed 0" if settings.seeds == 1 else f"Each seed (0 to {settings.seeds - 1})"
    sentences = [
        f"{comparison.split} {seeds} draws split, weights and batches, alike for all norms.",
        f"Accuracy: mean ± sd over the seeds. Epochs to 95 %: median of the first epoch with "
        f"{100 * TARGET:g} % on validation, where a run that never had it counts as infinite.",
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

    arrived = [run.history.epochs_to(TARGET) for run in runs]
    middle = statistics.median(math.inf if epoch is None else float(epoch) for epoch in arrived)
    epochs = "not reached" if math.isinf(middle) else f"{middle:g}"
    if 0 < (reached := len(runs) - arrived.count(None)) < len(runs):
        epochs += f"\n({reached} of {len(runs)} runs)"

    timed = [seconds for run in runs if math.isfinite(seconds := run.history.seconds_per_epoch())]
    return accuracy, epochs, f"{statistics.mean(timed):.3f}" if timed else "", f"{runs[0].parameters:,}"


def results(comparison: Comparison, command: str) -> dict[str, Any]:
    """Return what ``results.json`` holds.

    Args:
        comparison: with at least one run.
        command: what was asked for.
    """
    found: dict[str, Any] = {"command": command, "versions": machine.versions()}
    if comparison.settings.backend == "cupy":
        found["device"] = machine.device()
    if comparison.note:
        found["note"] = comparison.note
    if comparison.settings.factories:
        found["factories"] = {label: norm.digest for label, norm in comparison.settings.factories.items()}
    found["runs"] = [run.to_dict() for run in comparison.runs]
    return found
