"""Which moments should UAN normalize with when it is used? ``uanref experiment inference``.

In training the batch's moments normalize. In eval mode that is left to running averages of them
(``inference="running"``), or to the mixture's own means and variances (``inference="mixture"``), as two later public
releases of the authors do. A network is trained once for each update, start and seed, and then evaluated both ways:
each pair of accuracies is of the same weights. Of two starts, "paper" leaves the components where they were drawn,
"data" places them on the first batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from uanref.experiments import recipe, trial
from uanref.experiments.experiment import Cell, Config, Experiment, Result
from uanref.experiments.statistics import FEWEST, Paired, counted, paired, summary
from uanref.experiments.verdicts import Verdict, judge
from uanref.layers.base import Layer
from uanref.norms.uan import UAN

INFERENCES = ("running", "mixture")
UPDATES, STARTS = ("backprop", "em"), ("paper", "data")
SEEDS = {"tiny": 3, "small": 5, "paper": 5}
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {"epochs": 2},
    "small": {},
    "paper": {
        "dataset": "fashion",
        "model": "shallow",
        "optimizer": "adamw",
        "weight_decay": 1e-4,
        "lr": 0.001,
        "batch_size": 256,
        "epochs": 100,
    },
}
MARGIN = 0.5  # percentage points
CLASSES = 10


def plan(scale: str, seeds: int | None) -> list[Config]:
    """Return every update with every start and seed."""
    base = trial.BASE | {"norm": "uan"} | SCALES[scale]
    count = SEEDS[scale] if seeds is None else seeds
    return [
        base | {"norm_options": {"update": update, "start": start}, "seed": seed}
        for update, start, seed in itertools.product(UPDATES, STARTS, range(count))
    ]


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and evaluate it both ways; the standard accuracies are those of running moments."""
    trained = trial.train(config)
    splits, found = trained.splits, {}
    for inference in INFERENCES:
        switch(trained.model, inference)
        for name, dataset in (("validation", splits.validation), ("test", splits.test)):
            found[f"{inference}_{name}_accuracy"] = None if trained.diverged else trained.accuracy(dataset)
    result = {
        "validation_accuracy": found["running_validation_accuracy"],
        "test_accuracy": found["running_test_accuracy"],
        "diverged": trained.diverged,
        "parameters": recipe.size(trained.model),
    }
    return result | found, {}


def switch(model: Layer, inference: str) -> None:
    """Make every UAN of ``model`` normalize with ``inference`` in eval mode."""
    for _, layer in model.modules():
        if isinstance(layer, UAN):
            layer.inference = inference


def methods(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by update and start, "backprop, paper" and its like."""
    found: dict[str, list[Cell]] = {}
    for update, start in itertools.product(UPDATES, STARTS):
        runs = [cell for cell in cells if cell.config["norm_options"] == {"update": update, "start": start}]
        if runs:
            found[f"{update}, {start}"] = runs
    return found


def difference(runs: Sequence[Cell]) -> Paired:
    """Return what mixture minus running says, in percentage points of test accuracy.

    A run that diverged is no pair: both of its accuracies are that of guessing, and a difference of 0 would speak for
    the claim.
    """
    alive = [run for run in runs if not run.result["diverged"]]
    return paired(*({run.config["seed"]: _percent(run, inference) for run in alive} for inference in INFERENCES[::-1]))


def _percent(run: Cell, inference: str) -> float:
    return 100.0 * counted(run.result[f"{inference}_test_accuracy"], CLASSES)


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return one table: a row for each update and start."""
    made = Table(show_edge=False, pad_edge=False, caption_justify="left", caption_style="")
    made.add_column("update, start")
    for title in ("running (%)", "mixture (%)", "difference", "95 % interval"):
        made.add_column(title, justify="right")
    lost = 0
    for name, runs in methods(cells).items():
        accuracies = [summary(_percent(run, inference) for run in runs) for inference in INFERENCES]
        pair = difference(runs)
        lost += sum(run.result["diverged"] for run in runs)
        made.add_row(
            name,
            *(f"{one.mean:.2f} ± {one.sd:.2f}" if one.count > 1 else f"{one.mean:.2f}" for one in accuracies),
            f"{pair.mean:+.2f}" if pair.count else "",
            f"{pair.low:+.2f} to {pair.high:+.2f}" if pair.count >= FEWEST else "",
        )
    text = (
        "Test accuracy of the same networks in eval mode, normalized with running moments or with the mixture's own: "
        "mean ± sd over the seeds; difference: mixture minus running, percentage points."
    )
    told = f" Runs that diverged, which count as guessing and are in no difference: {lost}." if lost else ""
    made.caption = Text(text + told)
    return [made]


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the differences with their intervals."""
    from uanref.plots.intervals import intervals

    pairs = {name: difference(runs) for name, runs in methods(cells).items()}
    if not pairs:
        return []
    intervals(
        [(f"{name} start", pair.mean, pair.low, pair.high) for name, pair in pairs.items()],
        folder / "differences.png",
        x_label="test accuracy, mixture minus running (percentage points)",
        title="Eval mode with the mixture's own moments, against running moments",
        margin=-MARGIN,
    )
    return ["differences.png"]


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge, for each update and start, that the mixture's own moments are not worse than running ones.

    Not worse: by no more than 0.5 percentage points, stated before the runs.
    """
    return [
        judge(
            f"In eval mode the mixture's own moments serve as well as running ones ({name} start).",
            f"The 95 % interval of the paired difference of test accuracies lies above -{MARGIN:g} percentage points.",
            difference(runs),
            -MARGIN,
        )
        for name, runs in methods(cells).items()
    ]


EXPERIMENT = Experiment(
    name="inference",
    question="Running moments or the mixture's own: which should normalize when the network is used?",
    plan=plan,
    compute=compute,
    tables=tables,
    pictures=pictures,
    verdicts=verdicts,
)
