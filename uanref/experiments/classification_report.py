"""What the experiment on classification says of its cells: tables, pictures, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import FEWEST, Paired, choose, counted, paired, summary
from uanref.experiments.verdicts import Verdict, judge, untestable

MARGIN = 0.5  # percentage points
CLASSES = 10
RIVALS = {"bn": "batch normalization", "mn": "Mixture Normalization"}
ELSEWHERE = (
    "UAN is more accurate than BN and Mixture Normalization on CIFAR-10, CIFAR-100 and Tiny ImageNet, and in "
    "DenseNet-40 and DenseNet-100 on CIFAR-100."
)


@dataclass(frozen=True)
class Row:
    """One method in one setting, at its learning rate.

    Attributes:
        lr: chosen on validation.
        runs: with that rate, by seed.
        accuracies: on the test set, in percent, by seed; a diverged run counts as guessing.
    """

    lr: float
    runs: list[Cell]
    accuracies: dict[int, float]


def settings(cells: Sequence[Cell]) -> dict[tuple[str, str], dict[str, Row]]:
    """Return, for each data set and model, the methods that all have the same learning rates."""
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        grouped.setdefault((cell.config["dataset"], cell.config["model"]), []).append(cell)
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for setting, group in grouped.items():
        rows = {}
        for (method,), lr in choose(group, by=("method",)).items():
            runs = [cell for cell in group if (cell.config["method"], cell.config["lr"]) == (method, lr)]
            accuracies = {run.config["seed"]: 100.0 * counted(run.result["test_accuracy"], CLASSES) for run in runs}
            rows[method] = Row(lr, runs, accuracies)
        found[setting] = rows
    return found


def against(rows: dict[str, Row], method: str, rival: str) -> Paired:
    """Return what ``method`` minus ``rival`` says, in percentage points; of no pairs where one of them is missing."""
    both = [rows[name].accuracies if name in rows else {} for name in (method, rival)]
    return paired(*both)


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return a table for each setting: a row for each method."""
    made = []
    for (dataset, model), rows in settings(cells).items():
        if not rows:
            continue
        table = Table(
            title=f"{dataset}, {model}", show_edge=False, pad_edge=False, caption_justify="left", caption_style=""
        )
        table.add_column("norm")
        for title in ("lr", "test accuracy (%)", "minus bn", "95 % interval", "better in"):
            table.add_column(title, justify="right")
        for method, row in rows.items():
            table.add_row(*_cells(rows, method, row))
        table.caption = Text(_caption(next(iter(rows.values())).runs[0]))
        made.append(table)
    return made


def _cells(rows: dict[str, Row], method: str, row: Row) -> list[str]:
    found, lost = summary(row.accuracies.values()), sum(run.result["diverged"] for run in row.runs)
    accuracy = f"{found.mean:.2f}" + (f" ± {found.sd:.2f}" if found.count > 1 else "")
    accuracy += f"\n{lost} of {len(row.runs)} diverged" if lost else ""
    compared = ["", "", ""]
    pair = against(rows, method, "bn")
    if method != "bn" and pair.count:
        interval = f"{pair.low:+.2f} to {pair.high:+.2f}" if pair.count >= FEWEST else ""
        compared = [f"{pair.mean:+.2f}", interval, f"{100 * pair.improvement:.0f} %"]
    return [method, f"{row.lr:g}", accuracy, *compared]


def _caption(cell: Cell) -> str:
    config = cell.config
    width = config.get("width", 1)
    return (
        f"Epochs: {config['epochs']}, batches of {config['batch_size']}, {config['optimizer']}, weight decay "
        f"{config['weight_decay']:g}, {config['schedule']} rate, K = {config['components']}, width {width:g}. lr: the "
        "better of the grid on validation, for each norm. Accuracy: mean ± sd over the seeds; a diverged run counts as "
        "guessing. minus bn: paired by seed, percentage points; better in: share of the pairs, ties half."
    )


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw, for each setting, what every norm has more than batch normalization."""
    from uanref.plots.intervals import intervals

    drawn = []
    for (dataset, model), rows in settings(cells).items():
        pairs = {method: against(rows, method, "bn") for method in rows if method != "bn"}
        shown = [(method, pair.mean, pair.low, pair.high) for method, pair in pairs.items() if pair.count]
        if shown:
            name = f"{dataset}-{model}.png".replace(":", "-").replace("/", "-")
            intervals(
                shown,
                folder / name,
                x_label="test accuracy minus that of bn (percentage points)",
                title=f"{dataset}, {model}: each norm at its own learning rate, paired by seed",
                margin=MARGIN,
            )
            drawn.append(name)
    return drawn


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge in each setting that UAN (batch statistics) is more accurate than BN, and than Mixture Normalization.

    More accurate: by more than 0.5 percentage points, stated before the runs.
    """
    made = [
        judge(
            f"UAN is more accurate than {RIVALS[rival]} ({dataset}, {model}).",
            f"The 95 % interval of the paired difference of test accuracies, each norm at the learning rate that "
            f"validation chose, lies above {MARGIN:g} percentage points.",
            against(rows, "uan", rival),
            MARGIN,
        )
        for (dataset, model), rows in settings(cells).items()
        for rival in RIVALS
    ]
    return [*made, untestable(ELSEWHERE, "These data sets and DenseNet are not part of this package yet.")]
