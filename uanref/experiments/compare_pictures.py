"""The pictures of a comparison. They come last, and each may fail alone: nothing else is lost with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from uanref import files
from uanref.backend import Array
from uanref.experiments import pictures
from uanref.experiments.compare import Comparison, Run
from uanref.reasons import reason

NAMES = ("curves.png", "gradients.png", "activations.png")

Summary = TypeVar("Summary")


def draw(comparison: Comparison, folder: Path) -> tuple[list[str], list[str]]:
    """Draw all pictures into ``folder``.

    They are drawn in a hidden folder and moved together.

    Args:
        comparison: with at least one run.
        folder: created where it is missing.

    Returns:
        The names of those that stand there, and a sentence on each of the others.
    """
    from uanref import plots

    drawn: list[str] = []
    failed: list[str] = []
    try:
        with pictures.staged(folder) as place:
            for name, make in _pictures(comparison).items():
                try:
                    plots.save(make(), place / name)
                    drawn.append(name)
                except Exception as error:
                    failed.append(f"{name} could not be drawn ({reason(error, 160)})")
            for name in drawn:
                files.move(place / name, folder / name)
    except OSError as error:
        return [], [f"the pictures could not be written ({reason(error, 160)})"]
    return drawn, failed


def _pictures(comparison: Comparison) -> dict[str, Callable[[], Any]]:
    from uanref import plots

    settings = comparison.settings
    title = f"{settings.dataset}, {settings.model}"
    made: dict[str, Callable[[], Any]] = {
        "curves.png": lambda: plots.curves(_by_rate(comparison, _curves), f"{title}: training and validation"),
        "gradients.png": lambda: plots.gradients(
            _by_rate(comparison, _mean_gradients), f"{title}: gradient norms of the weights (mean over the seeds)"
        ),
    }
    if shown := [run.activations for run in comparison.runs if run.activations is not None]:
        about = f"{title}: inputs of the first norm layer after training (seed 0, lr {settings.lrs[0]:g})"
        made["activations.png"] = lambda: plots.activations(shown, about)
    return made


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
