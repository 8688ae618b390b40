"""What is told of costs: medians over the seeds, and verdicts on what UAN is said to spare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import middle, paired
from uanref.experiments.verdicts import Verdict, judge

TITLES = {"components": "K", "channels": "channels", "batch_size": "batch"}
UNITS = {"step_seconds": ("ms a step", 1e3), "peak_bytes": ("MiB at the peak of a step", 2.0**-20)}
"""What is measured, how tables call it, and by what they multiply it."""
MARGIN = round(math.log(1.1), 3)
"""Of logarithms: a tenth more."""

CLAIMS = (
    ("UAN, which has no separate EM fit, takes less time a step than mixture normalization.", "step_seconds"),
    ("UAN needs less memory at its peak than mixture normalization.", "peak_bytes"),
)
"""Joint posterior against joint posterior, at the middle of the plan."""


def label(cell: Cell) -> str:
    """Return how tables call a norm with its options."""
    options = cell.config["norm_options"]
    return str(cell.config["norm"]) + "".join(f" {value}" for value in options.values())


def centre(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the middle of the plan: of each factor the value that most cells have; of no cells nothing."""
    found = {}
    for axis in TITLES if cells else ():
        values = [cell.config[axis] for cell in cells]
        found[axis] = max(sorted(set(values)), key=values.count)
    return found


def along(cells: Sequence[Cell], axis: str) -> list[Cell]:
    """Return the cells that differ from the middle in ``axis`` alone, the middle among them."""
    return _at(cells, {key: value for key, value in centre(cells).items() if key != axis})


def _at(cells: Sequence[Cell], fixed: dict[str, Any]) -> list[Cell]:
    return [cell for cell in cells if all(cell.config[key] == value for key, value in fixed.items())]


def medians(cells: Sequence[Cell], axis: str, measured: str) -> dict[str, dict[int, list[float]]]:
    """Return by label and by value of ``axis`` what was ``measured`` in each seed."""
    found: dict[str, dict[int, list[float]]] = {}
    for cell in along(cells, axis):
        found.setdefault(label(cell), {}).setdefault(cell.config[axis], []).append(cell.measured[measured])
    return found


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return tables of times and of memory against each factor, and one of all that is counted at the middle."""
    if not cells:
        return []
    against = [_against(cells, axis, measured) for measured in UNITS for axis in TITLES]
    return [*against, _at_the_middle(cells)]


def _against(cells: Sequence[Cell], axis: str, measured: str) -> Table:
    found, (unit, factor) = medians(cells, axis, measured), UNITS[measured]
    values = sorted({value for line in found.values() for value in line})
    others = ", ".join(f"{TITLES[key]} {value}" for key, value in centre(cells).items() if key != axis)
    table = _table(f"{unit} against {TITLES[axis]}", f"{others}; median over the seeds", list(map(str, values)))
    for name, line in found.items():
        if len(line) > 1 or axis != "components":  # a norm without components has no row against K
            told = (f"{factor * middle(line[value]):.3g}" if value in line else "" for value in values)
            table.add_row(Text(name), *told)
    return table


def _at_the_middle(cells: Sequence[Cell]) -> Table:
    at = centre(cells)
    caption = ", ".join(f"{TITLES[key]} {value}" for key, value in at.items())
    caption += (
        ". Kept between the passes, and the peak of a step, as multiples of the input's bytes; time as one of bn's."
    )
    table = _table("At the middle", caption, ["parameters", "kept (x)", "peak (x)", "time (bn)"])
    groups: dict[str, list[Cell]] = {}
    for cell in _at(cells, at):
        groups.setdefault(label(cell), []).append(cell)
    seconds = {name: middle([cell.measured["step_seconds"] for cell in group]) for name, group in groups.items()}
    for name, group in groups.items():
        result, peak = group[0].result, middle([cell.measured["peak_bytes"] for cell in group])
        beside = f"{seconds[name] / seconds['bn']:.2f}" if "bn" in seconds else ""
        kept, peaks = (f"{value / result['input_bytes']:.2f}" for value in (result["kept_bytes"], peak))
        table.add_row(Text(name), f"{result['parameters']:,}", kept, peaks, beside)
    return table


def _table(title: str, caption: str, columns: Sequence[str]) -> Table:
    table = Table(title=Text(title), caption=Text(caption), caption_justify="left", show_edge=False, pad_edge=False)
    table.add_column("norm", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Return a verdict on each of :data:`CLAIMS`."""
    at, made = centre(cells), []
    for claim, measured in CLAIMS:
        logs: dict[str, dict[int, float]] = {"mn": {}, "uan-joint": {}}
        for cell in _at(cells, at):
            norm, value = cell.config["norm"], cell.measured[measured]
            if norm in logs and value > 0:
                logs[norm][cell.config["seed"]] = math.log(value)
        rule = (
            f"The 95 % interval of the mean of log(mn / uan-joint), both with a joint posterior, lies above {MARGIN}: "
            "a tenth more for mn, which takes two iterations of EM a batch here."
        )
        made.append(judge(claim, rule, paired(logs["mn"], logs["uan-joint"]), MARGIN))
    return made


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the times against each factor, with the range over the seeds."""
    from uanref.plots.curves import curves  # Matplotlib only where it is needed

    panels = {}
    for axis, title in TITLES.items():
        lines = {
            name: [(x, 1e3 * middle(ms), 1e3 * min(ms), 1e3 * max(ms)) for x, ms in sorted(times.items())]
            for name, times in medians(cells, axis, "step_seconds").items()
            if len(times) > 1
        }
        if lines:
            panels[title] = lines
    if not panels:
        return []
    curves(
        panels,
        folder / "cost.png",
        x_label="value",
        y_label="ms a step",
        title="Cost of a norm",
        x_log=True,
        y_log=True,
    )
    return ["cost.png"]
