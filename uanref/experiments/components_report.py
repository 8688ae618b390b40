"""What the experiment on components says of its cells: tables, pictures, verdicts."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from uanref.experiments.experiment import Cell
from uanref.experiments.mixture_measures import LIVE, MEASURES
from uanref.experiments.statistics import counted, middle, paired, summary
from uanref.experiments.verdicts import Verdict, judge

LEVELS: dict[str, Any] = {
    "components": 3,
    "start": "paper",
    "posterior": "channel",
    "update": "backprop",
    "prior": "channel",
}
"""What the base has of each factor."""
NAMES = {"components": "K"}  # how a factor is called
PICTURES = {
    "accuracy": "validation accuracy (%)",
    "live": "live components",
    "entropy": "entropy of the posterior / log K",
    "distance": "distance of components, in sigma",
    "bent": "bent: 1 - R² of output over input",
}
"""What is drawn, and the name of its axis."""
DRAWN = (1, 2, 4, 8)  # K whose training is drawn
ACCURACY_MARGIN = 0.5
APART_MARGIN = 2.0
BENT_MARGIN = 0.05
CLASSES = 10


def levels(cells: Sequence[Cell]) -> dict[str, dict[Any, list[Cell]]]:
    """Return the cells by factor and level; the base stands under every factor, and a factor has two levels or more."""
    found: dict[str, dict[Any, list[Cell]]] = {}
    for factor in LEVELS:
        others = [other for other in LEVELS if other != factor]
        by_level: dict[Any, list[Cell]] = {}
        for cell in cells:
            if all(cell.config[other] == LEVELS[other] for other in others):
                by_level.setdefault(cell.config[factor], []).append(cell)
        first = LEVELS[factor]
        order = sorted(by_level, key=lambda level: level if factor == "components" else level != first)
        if len(order) > 1:
            found[factor] = {level: by_level[level] for level in order}
    return found


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return one table: a row for each level of each factor, with the state at the end of training."""
    made = Table(show_edge=False, pad_edge=False, caption_justify="left", caption_style="")
    made.add_column("one factor changed")
    for title in ("test accuracy (%)", "live", "entropy", "distance", "ratio", "bent"):
        made.add_column(title, justify="right")
    for factor, by_level in levels(cells).items():
        for level, runs in by_level.items():
            ends = [_number(statistics.fmean(values)) if (values := at_end(runs, name)) else "" for name in MEASURES]
            made.add_row(_label(factor, level), accuracy(runs), *ends)
        made.add_section()
    made.caption = Text(
        "Accuracy: mean ± sd over the seeds; a diverged run counts as guessing. The rest, without diverged runs: mean "
        "over seeds, layers and channels after the last epoch. "
        f"live: components with more than {100 * LIVE:g} % of the samples; entropy: of the posterior, by log K; "
        "distance: of two means, in standard deviations; ratio: of two variances; "
        "bent: 1 - R² of a line through a layer's outputs over its inputs, 0 for BN times a constant."
    )
    return [made]


def accuracy(runs: Sequence[Cell]) -> str:
    """Return mean and standard deviation of the test accuracy in percent, and how many runs diverged (guessing)."""
    found, lost = summary(_percent(runs).values()), sum(run.result["diverged"] for run in runs)
    text = f"{found.mean:.2f}" + (f" ± {found.sd:.2f}" if found.count > 1 else "")
    return text + (f"\n{lost} of {len(runs)} diverged" if lost else "")


def at_end(runs: Sequence[Cell], name: str) -> list[float]:
    """Return a measure after the last epoch, the mean over the layers, of every run that has it."""
    found = [layers_mean(run.result["over_training"][name][-1]) for run in runs if not run.result["diverged"]]
    return [value for value in found if math.isfinite(value)]


def layers_mean(numbers: Sequence[float | None]) -> float:
    """Return the mean over the layers that have the number; NaN of none."""
    found = [number for number in numbers if number is not None]
    return statistics.fmean(found) if found else math.nan


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the measures over training, a panel for each factor, and over K at the end: medians over the seeds."""
    from uanref.plots.curves import curves

    drawn = []
    for name, axis in PICTURES.items():
        panels: dict[str, dict[str, list[tuple[float, float, float, float]]]] = {}
        for factor, by_level in levels(cells).items():
            shown = {level: runs for level, runs in by_level.items() if factor != "components" or level in DRAWN}
            lines = {_label(factor, level): _points(runs, name) for level, runs in shown.items()}
            if lines := {label: points for label, points in lines.items() if points}:
                panels[NAMES.get(factor, factor)] = lines
        if panels:
            curves(
                panels,
                folder / f"{name}.png",
                x_label="epochs",
                y_label=axis,
                title="One factor at a time: median over the seeds, and their range",
                y_log=name == "distance",
                share=name in ("accuracy", "live", "distance"),
            )
            drawn.append(f"{name}.png")
    if by_k := levels(cells).get("components", {}):
        ends = {
            k: {name: points[-1][1:] for name in PICTURES if (points := _points(runs, name))}
            for k, runs in by_k.items()
        }
        curves(
            {
                axis: {"base": [(float(k), *values[name]) for k, values in ends.items() if name in values]}
                for name, axis in PICTURES.items()
            },
            folder / "number.png",
            x_label="K",
            y_label="after the last epoch",
            title="The number of components: median over the seeds, and their range",
            share=False,
        )
        drawn.append("number.png")
    return drawn


def _points(runs: Sequence[Cell], name: str) -> list[tuple[float, float, float, float]]:
    """Return epoch, median, smallest and largest value over the runs that came so far."""
    read: Callable[[Any], float] = layers_mean
    first = 0
    if name == "accuracy":
        read, first = (lambda value: 100.0 * value), 1
    series = [[read(value) for value in run.result["over_training"][name]] for run in runs]
    points = []
    for epoch in range(max(map(len, series), default=0)):
        values = [one[epoch] for one in series if len(one) > epoch and math.isfinite(one[epoch])]
        if values:
            points.append((float(epoch + first), middle(values), min(values), max(values)))
    return points


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge the base's accuracy, and for every start whether the components stand apart and the layer is no BN.

    The margins were stated before the runs. Accuracy: 0.5 percentage points between K = 3 and K = 1. Distance: 2
    standard deviations, below which two equal Gaussians of equal weight make a single hump. Bent: 0.05, a twentieth of
    the output's variance.
    """
    by_level = levels(cells).get("components", {})
    base, single = by_level.get(LEVELS["components"], []), by_level.get(1, [])
    by_start = levels(cells).get("start", {LEVELS["start"]: base})
    accurate = judge(
        "Three components are more accurate than one, which is batch normalization.",
        f"The 95 % interval of the paired difference of test accuracies lies above {ACCURACY_MARGIN:g} "
        "percentage points.",
        paired(_percent(base), _percent(single)),
        ACCURACY_MARGIN,
    )
    return [accurate, *itertools.chain.from_iterable(_distinct(start, runs) for start, runs in by_start.items())]


def _distinct(start: str, runs: Sequence[Cell]) -> list[Verdict]:
    zeros = {run.config["seed"]: 0.0 for run in runs}
    return [
        judge(
            f"The components of a trained UAN stand apart ({start} start).",
            f"The 95 % interval of the mean distance of two components lies above {APART_MARGIN:g} standard "
            "deviations: nearer ones make a single hump.",
            paired(_ends(runs, "distance"), zeros),
            APART_MARGIN,
        ),
        judge(
            f"A trained UAN layer computes something else than batch normalization times a constant ({start} start).",
            f"The 95 % interval of bent, the part of the output's variance that no multiple of BN explains, lies above "
            f"{BENT_MARGIN:g}.",
            paired(_ends(runs, "bent"), zeros),
            BENT_MARGIN,
        ),
    ]


def _percent(runs: Sequence[Cell]) -> dict[int, float]:
    return {run.config["seed"]: 100.0 * counted(run.result["test_accuracy"], CLASSES) for run in runs}


def _ends(runs: Sequence[Cell], name: str) -> dict[int, float]:
    return {run.config["seed"]: values[0] for run in runs if (values := at_end([run], name))}


def _label(factor: str, level: Any) -> str:
    return f"{NAMES.get(factor, factor)} {level}"


def _number(value: float) -> str:
    return f"{value:.3g}"
