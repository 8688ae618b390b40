"""A forest plot: one interval a row, beside 0 and a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uanref.plots.saving import save
from uanref.plots.style import BLACK, COLORS, GREY, finish, grid, shown


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    path: Path,
    *,
    x_label: str,
    title: str = "",
    margin: float | None = None,
) -> None:
    """Draw means with their intervals, from the top down, as a PNG.

    An end that is not finite is drawn to the edge; a row whose mean is not finite keeps its label and has no point.

    Args:
        rows: label, mean, low, high.
        path: the file.
        x_label: what the numbers are, with their unit.
        title: above everything.
        margin: a dashed line; an interval that lies right of it carries its claim.

    Raises:
        OSError: it cannot be written.
    """
    save(_figure(rows, x_label, title, margin), path)


def _figure(rows: Sequence[tuple[str, float, float, float]], x_label: str, title: str, margin: float | None) -> Figure:
    figure, axes = grid(1, 1, width=6.4, row_height=0.6 + 0.28 * len(rows))
    axis = axes[0, 0]
    axis.axvline(0.0, color=GREY, linewidth=1.0)
    handles = [Line2D([], [], color=BLACK, marker="o", markersize=4, label="mean and 95 % interval")]
    if margin is not None:
        axis.axvline(margin, color=COLORS["uan"], linewidth=1.2, linestyle="--")
        handles.append(Line2D([], [], color=COLORS["uan"], linestyle="--", label=f"margin, {margin:g}"))
    for _, *numbers in rows:  # what is finite gives the limits
        axis.plot([x for x in numbers if math.isfinite(x)], [0] * sum(map(math.isfinite, numbers)), alpha=0.0)
    left, right = axis.get_xlim()
    for place, (_, mean, low, high) in enumerate(rows):
        if math.isfinite(mean):
            ends = (low if math.isfinite(low) else left, high if math.isfinite(high) else right)
            axis.plot(ends, [place, place], color=BLACK, linewidth=1.4)
            axis.plot([mean], [place], color=BLACK, marker="o", markersize=4)
    axis.set_xlim(left, right)
    axis.set_yticks(range(len(rows)), [shown(label) for label, *_ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(shown(x_label))
    finish(figure, title, handles)
    return figure
