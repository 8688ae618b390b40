"""What the batch-size runs say: accuracies, gaps, what is lost at the smallest batch, and four claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from uanref.experiments.experiment import Cell, Result
from uanref.experiments.statistics import Paired, choose, counted, paired, summary
from uanref.experiments.verdicts import NOT_TESTABLE, Verdict, judge

DROP_MARGIN = 0.02  # what BN has to lose at the smallest batch: two points
LESS_MARGIN = 0.01  # how much less another norm has to lose than BN: one point
CONTROL = "ln"  # has no statistics of the batch: what it loses, too, is not their doing
BySeed = dict[int, float]


def accuracy(result: Result) -> float:
    """Return the test accuracy, that of guessing from a diverged run."""
    return counted(result["test_accuracy"], result["classes"])


def mode_gap(result: Result) -> float | None:
    """Return train mode minus eval mode on the training data; None from a diverged run."""
    return None if result["diverged"] else result["train_mode"] - result["train_accuracy"]


def generalization_gap(result: Result) -> float | None:
    """Return training minus validation accuracy, both in eval mode; None from a diverged run."""
    return None if result["diverged"] else result["train_accuracy"] - result["validation_accuracy"]


QUANTITIES: dict[str, Callable[[Result], float | None]] = {
    "test accuracy": accuracy,
    "mode gap": mode_gap,
    "generalization gap": generalization_gap,
}
TOLD = {
    "test accuracy": "Test accuracy (%) by batch size: mean and sd",
    "mode gap": "Mode gap (points): train mode minus eval mode, training data",
    "generalization gap": "Generalization gap (points): training minus validation, eval mode",
}


def of(cells: Sequence[Cell], norm: str, size: int, quantity: Callable[[Result], float | None]) -> BySeed:
    """Return a quantity by seed; runs that do not have it are left out."""
    found = {c.config["seed"]: quantity(c.result) for c in cells if _is(c, norm, size)}
    return {seed: value for seed, value in found.items() if value is not None}


def drops(cells: Sequence[Cell]) -> dict[str, BySeed]:
    """Return, by norm and seed, the test accuracy at the norm's best batch size minus that at the smallest."""
    found = {}
    for (norm,), best in choose(cells, among="batch_size").items():
        high, low = (of(cells, norm, size, accuracy) for size in (best, _sizes(cells)[0]))
        found[norm] = {seed: high[seed] - low[seed] for seed in high.keys() & low.keys()}
    return found


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return accuracy and both gaps at every batch size, and the drops."""
    return [_by_size(cells, name) for name in QUANTITIES] + [_drops(cells)]


def _by_size(cells: Sequence[Cell], name: str) -> Table:
    made = Table(title=TOLD[name])
    made.add_column("norm  \\ B")
    for size in _sizes(cells):
        made.add_column(f"{size}", justify="right")
    for norm in _norms(cells):
        shown = []
        for size in _sizes(cells):
            found = summary(100 * value for value in of(cells, norm, size, QUANTITIES[name]).values())
            lines = [f"{found.mean:.1f}" if found.count else "", f"±{found.sd:.1f}" if found.count > 1 else ""]
            if lost := sum(c.result["diverged"] for c in cells if _is(c, norm, size)):
                lines.append(f"{lost} div.")
            shown.append("\n".join(filter(None, lines)))
        made.add_row(norm, *shown)
    return made


def _drops(cells: Sequence[Cell]) -> Table:
    smallest = _sizes(cells)[0] if cells else 0
    made = Table(
        title=f"What a batch of {smallest} costs (points of test accuracy)",
        caption="Best B: by mean validation accuracy. Means with 95 % intervals, paired by seed.",
    )
    for heading in ("norm", "best B", "drop", "drop of BN minus this one"):
        made.add_column(heading, justify="left" if heading == "norm" else "right")
    found, best = drops(cells), choose(cells, among="batch_size")
    for norm, line in found.items():
        beside = paired(found["bn"], line) if "bn" in found and norm != "bn" else None
        drop = _told(paired(line, dict.fromkeys(line, 0.0)))
        made.add_row(norm, str(best[norm,]), drop, "" if beside is None else _told(beside))
    return made


def _told(pair: Paired) -> str:
    if not pair.count:
        return ""
    low, high = 100 * pair.low, 100 * pair.high
    return f"{100 * pair.mean:+.1f}" + (f" ({low:+.1f} to {high:+.1f})" if math.isfinite(low) else "")


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw accuracy and gaps over the batch size, and the drops."""
    from uanref.plots.curves import curves
    from uanref.plots.intervals import intervals

    if not cells:
        return []
    setting = cells[0].config
    about = f"{setting['dataset']}, {setting['model']}, {setting['epochs']} epochs"
    curves(
        {name: {norm: _line(cells, norm, quantity) for norm in _norms(cells)} for name, quantity in QUANTITIES.items()},
        folder / "batch-size.png",
        x_label="batch size",
        y_label="% or points",
        title=f"{about}: mean, lowest and highest seed",
        x_log=True,
        share=False,
    )
    rows = []
    for norm, line in drops(cells).items():
        pair = paired(line, dict.fromkeys(line, 0.0))
        if pair.count:
            rows.append((norm, 100 * pair.mean, 100 * pair.low, 100 * pair.high))
    if not rows:
        return ["batch-size.png"]
    intervals(
        rows,
        folder / "drops.png",
        x_label=f"points of test accuracy lost at a batch of {_sizes(cells)[0]}",
        title=about,
        margin=100 * DROP_MARGIN,
    )
    return ["batch-size.png", "drops.png"]


def _line(
    cells: Sequence[Cell], norm: str, quantity: Callable[[Result], float | None]
) -> list[tuple[float, float, float, float]]:
    points = []
    for size in _sizes(cells):
        if values := [100 * value for value in of(cells, norm, size, quantity).values()]:
            points.append((float(size), summary(values).mean, min(values), max(values)))
    return points


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge whether BN loses at the smallest batch, more than LN does, and whether UAN, batch and learned, loses less.

    A small batch costs every norm something, as its gradients are noisy. What BN loses beyond layer normalization,
    which knows no batch, is its statistics' doing.

    Margins: BN's drop has to exceed 0.02, two points of test accuracy, and the drops of LN and UAN have to be smaller
    by 0.01, one point; the whole 95 % interval has to lie there.
    """
    found = drops(cells)
    smallest = f"a batch of {_sizes(cells)[0]}" if cells else "the smallest batch"
    claim = f"BN loses accuracy at {smallest}"
    rule = "test accuracy at the best batch size minus that at the smallest: the 95 % interval lies above 0.02"
    if "bn" in found:
        judged = [judge(claim, rule, paired(found["bn"], dict.fromkeys(found["bn"], 0.0)), DROP_MARGIN)]
    else:
        judged = [Verdict(claim, rule, NOT_TESTABLE, "There are no runs of BN.")]
    for norm, name, claim in (
        (CONTROL, "LN", f"BN loses more at {smallest} than LN, which has no statistics of the batch"),
        ("uan", "UAN", f"UAN with batch statistics loses less than BN at {smallest}"),
        ("uan-learned", "UAN", f"UAN with learned statistics loses less than BN at {smallest}"),
    ):
        rule = f"BN's drop minus {name}'s, paired by seed: the 95 % interval lies above 0.01"
        if {"bn", norm} <= found.keys():
            judged.append(judge(claim, rule, paired(found["bn"], found[norm]), LESS_MARGIN))
        else:
            judged.append(Verdict(claim, rule, NOT_TESTABLE, "There are no runs of both."))
    return judged


def _is(cell: Cell, norm: str, size: int) -> bool:
    return bool(cell.config["norm"] == norm and cell.config["batch_size"] == size)


def _norms(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.config["norm"] for cell in cells))


def _sizes(cells: Sequence[Cell]) -> list[int]:
    return sorted({cell.config["batch_size"] for cell in cells})
