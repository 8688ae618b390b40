"""Curves with a band, panel beside panel: what most experiments draw."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uanref.backend import Array
from uanref.plots.saving import save
from uanref.plots.style import finish, grid, line_style, plain, shown

PANELS = 3  # side by side
FEW = 16  # points up to which a line gets a marker at each
TICKS = 8  # places up to which a logarithmic x axis names each
MARKERS = "osD^vP*Xd<>"

Point = tuple[float, float, float, float]


def curves(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | os.PathLike[str],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    x_log: bool = False,
    y_log: bool = False,
    share: bool = True,
) -> Figure:
    """Draw small multiples: one panel a title, one line a label, with a band around it.

    Norms have the colours and line styles that they have in every picture, other labels take turns. Line styles and,
    where points are few, markers tell the lines apart without colour.

    Args:
        panels: by panel title, then by label: points ``(x, middle, low, high)``. A middle that is infinite, such as the
            time to a target that the median run does not reach, is an open marker at the top of its panel; an infinite
            end of a band reaches to the edge; NaN leaves a gap, as does what a logarithm does not know.
        path: where the PNG is written.
        x_label: below the panels.
        y_label: at the left of each row.
        title: above everything.
        x_log: whether x is on a logarithmic axis.
        y_log: whether y is.
        share: whether all panels have the same y axis.

    Raises:
        ValueError: no panel.
        OSError: the file cannot be written.
    """
    if not panels:
        raise ValueError("curves got no panel to draw: give at least one title with its lines")
    columns = 2 if len(panels) == 4 else min(PANELS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = grid(rows, columns, width=max(3.1 * columns, 5.6), row_height=2.9, share=share)
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    ends = {name: _ends(list(lines.values()), y_log) for name, lines in panels.items()}
    if share:
        both = min(low for low, _ in ends.values()), max(high for _, high in ends.values())
        ends = dict.fromkeys(panels, both)
    for axis, (name, lines) in zip(axes.flat, panels.items(), strict=False):
        axis.set_xscale("log" if x_log else "linear")
        axis.set_yscale("log" if y_log else "linear")
        for label, points in lines.items():
            _draw(axis, np.array(points, float).reshape(-1, 4), label, labels, ends[name], y_log)
        axis.set_ylim(*ends[name])
        places = sorted({point[0] for points in lines.values() for point in points if point[0] > 0})
        if x_log and len(places) <= TICKS:  # a logarithm's own labels run into one another where a decade is all
            axis.set_xticks(places, [f"{x:g}" for x in places])
            axis.set_xticks([], minor=True)
        axis.set_title(plain(name), fontsize=10)
        axis.set_xlabel(plain(x_label))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(plain(y_label))
    few = any(len(points) <= FEW for lines in panels.values() for points in lines.values())
    handles = [
        Line2D([], [], label=shown(label), marker=_marker(label, labels) if few else "", markersize=4)
        for label in labels
    ]
    for handle, label in zip(handles, labels, strict=True):
        handle.set(**line_style(label, labels))
    finish(figure, title, handles)
    save(figure, Path(path))
    return figure


def _ends(lines: Sequence[Sequence[Point]], log: bool) -> tuple[float, float]:
    """Return where the y axis of a panel begins and ends: around every finite number, with room for open markers."""
    points = [np.array(line, float).reshape(-1, 4)[:, 1:] for line in lines]
    values = np.concatenate([np.ravel(line) for line in points]) if points else np.zeros(0)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)
    if log:
        room = max((high / low) ** 0.08, 1.1)
        return low / room, high * room
    room = 0.07 * (high - low) if high > low else 0.05 * max(abs(high), 1.0)
    return low - room, high + room


def _draw(axis: Axes, points: Array, label: str, labels: Sequence[str], ends: tuple[float, float], y_log: bool) -> None:
    """Draw one line ``(P, 4)`` and its band."""
    x, middle, low, high = points.T
    style = line_style(label, labels)
    marker = _marker(label, labels) if len(x) <= FEW else ""
    positive = (middle > 0) | (not y_log)
    axis.plot(x, np.where(np.isfinite(middle) & positive, middle, np.nan), marker=marker, markersize=4, **style)
    low, high = (np.clip(end, *ends) for end in (low, high))
    axis.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0)
    beyond = x[middle == np.inf]
    if len(beyond):
        (line,) = axis.plot(beyond, np.full(len(beyond), ends[1]), linestyle="none", color=style["color"])
        line.set(marker=_marker(label, labels), markersize=7, markerfacecolor="none", clip_on=False)


def _marker(label: str, labels: Sequence[str]) -> str:
    return MARKERS[labels.index(label) % len(MARKERS)]
