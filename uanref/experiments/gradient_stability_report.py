"""What the measures of gradients say: a table, a picture a measure, and UAN beside BN and beside no norm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import Paired, counted, paired, summary
from uanref.experiments.verdicts import NOT_TESTABLE, Verdict, judge

MEASURES = {
    "loss": "variance of the loss gradient from update to update",
    "logits": "variance over the entries of the summed logits' gradient",
    "noise": "share of the loss gradient that is noise",
}
MARGIN = 0.1  # decades: a factor of 1.26
SMALLEST = 1e-30  # what a gradient of 0 counts as, whose logarithm there is not
CLASSES = 10
PAIRS = (("uan", "bn"), ("uan", "none"), ("uan-learned", "bn"), ("bn", "none"))


def levels(cells: Sequence[Cell], norm: str, measure: str, over: str) -> dict[int, float]:
    """Return, by seed, the mean over the epochs of the measure's maximum or mean over the layers.

    Args:
        cells: finished ones.
        norm: whose.
        measure: ``"loss"`` or ``"logits"``, whose log10 is averaged, or ``"noise"``.
        over: ``"max"`` or ``"mean"``, of the layers.
    """
    found = {}
    for cell in cells:
        if cell.config["norm"] == norm and not cell.result["diverged"]:
            table = np.array(list(cell.result[measure].values()))  # (layers, epochs)
            line = table.max(axis=0) if over == "max" else table.mean(axis=0)
            found[cell.config["seed"]] = float(
                np.mean(line if measure == "noise" else np.log10(np.maximum(line, SMALLEST)))
            )
    return found


def ratio(cells: Sequence[Cell], a: str, b: str, measure: str, over: str = "max") -> Paired:
    """Return log10 of how much larger the measure is for ``b`` than for ``a``: positive where ``a`` is more stable."""
    return paired(levels(cells, b, measure, over), levels(cells, a, measure, over))


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return the levels of every norm, and the ratios of the pairs that are judged."""
    made = Table(
        title="Gradients over training: log10 of the variance, mean and sd",
        caption="max, mean: over the layers. noise: in [0, 1], mean over the layers. "
        "A difference of 0.3 is a factor of 2. A diverged run counts as guessing, and has no variances.",
    )
    made.add_column("norm")
    headings = {
        ("loss", "max"): "loss\nmax",
        ("loss", "mean"): "loss\nmean",
        ("logits", "max"): "logits\nmax",
        ("logits", "mean"): "logits\nmean",
        ("noise", "mean"): "noise\nmean",
    }
    for heading in (*headings.values(), "test\n(%)"):
        made.add_column(heading, justify="right")
    for norm in _norms(cells):
        shown = []
        for measure, over in headings:
            level = summary(levels(cells, norm, measure, over).values())
            shown.append(_told(level.mean, level.sd))
        runs = [cell.result for cell in cells if cell.config["norm"] == norm]
        scored = summary(100 * counted(run["test_accuracy"], CLASSES) for run in runs)
        lost = sum(run["diverged"] for run in runs)
        made.add_row(norm, *shown, _told(scored.mean, scored.sd, 1) + (f"\n{lost} div." if lost else ""))
    return [made, _ratios(cells)]


def _ratios(cells: Sequence[Cell]) -> Table:
    made = Table(
        title="log10 of the ratio of variances, by pairs of one seed",
        caption=f"Positive: the first varies less. Mean and 95 % interval; margin {MARGIN:g} (a factor of 1.26).",
    )
    for heading in ("pair", "loss, max", "loss, mean", "logits, max", "logits, mean"):
        made.add_column(heading, justify="left" if heading == "pair" else "right")
    for a, b in _pairs(cells):
        pairs = [ratio(cells, a, b, measure, over) for measure in ("loss", "logits") for over in ("max", "mean")]
        made.add_row(f"{a} against {b}", *(f"{p.mean:+.2f}\n({p.low:+.2f} to {p.high:+.2f})" for p in pairs))
    return made


def _told(mean: float, sd: float, digits: int = 2) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f"\n±{sd:.{digits}f}")


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw each measure over the epochs, a panel a layer, and the ratios that are judged."""
    from uanref.plots.curves import curves
    from uanref.plots.intervals import intervals

    alive = [cell for cell in cells if not cell.result["diverged"]]
    if not alive:
        return []
    about = f"{alive[0].config['dataset']}, {alive[0].config['model']}, lr {alive[0].config['lr']:g}"
    for measure, words in MEASURES.items():
        panels = {
            layer: {norm: _band(alive, norm, measure, layer) for norm in _norms(alive)}
            for layer in alive[0].result[measure]
        }
        curves(
            panels,
            folder / f"{measure}.png",
            x_label="epoch",
            y_label=("noise / all" if measure == "noise" else "variance") + ", median and range",
            title=f"{alive[0].config['dataset']}, {alive[0].config['model']}: {words}",
            y_log=measure != "noise",
        )
    rows = [
        (f"{measure}: {a} against {b}", pair.mean, pair.low, pair.high)
        for measure, (a, b) in itertools.product(("loss", "logits"), _pairs(alive))
        if (pair := ratio(alive, a, b, measure)).count
    ]
    names = [f"{measure}.png" for measure in MEASURES]
    if not rows:
        return names
    intervals(
        rows,
        folder / "ratios.png",
        x_label="log10 of the ratio of variances (positive: the first varies less)",
        title=f"{about}: the largest variance of a layer",
        margin=MARGIN,
    )
    return [*names, "ratios.png"]


def _band(cells: Sequence[Cell], norm: str, measure: str, layer: str) -> list[tuple[float, float, float, float]]:
    lines = [cell.result[measure][layer] for cell in cells if cell.config["norm"] == norm]
    columns = [sorted(column) for column in zip(*lines, strict=True)]
    return [(i, float(np.median(column)), column[0], column[-1]) for i, column in enumerate(columns, start=1)]


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge whether UAN's gradients vary less than BN's, and than those without a norm, by both measures.

    Margin: the whole 95 % interval of log10 of the ratio, of the largest variance of a layer, lies above 0.1 decades.
    """
    found = []
    for measure, (a, b) in itertools.product(("loss", "logits"), PAIRS[:2]):
        other = "BN" if b == "bn" else "no normalization"
        claim = f"Gradients vary less with UAN than with {other} ({MEASURES[measure]})"
        rule = (
            "log10 of the ratio of the layers' largest variances, a mean over the epochs, paired by seed: the 95 % "
            "interval lies above 0.1, a factor of 1.26"
        )
        if not {a, b} <= set(_norms(cells)):
            found.append(Verdict(claim, rule, NOT_TESTABLE, "There are no runs of both."))
        else:
            found.append(judge(claim, rule, ratio(cells, a, b, measure), MARGIN))
    return found


def _pairs(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in PAIRS if {a, b} <= set(_norms(cells))]


def _norms(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.config["norm"] for cell in cells))
