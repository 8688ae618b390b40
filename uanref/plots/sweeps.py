"""The picture of a sweep over sizes: the cost per element along each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uanref.plots.style import COMPONENT_COLORS, finish, grid

RED = "#cc0000"


def sweep(lines: Mapping[str, Mapping[str, Sequence[tuple[float, float, bool]]]], title: str) -> Figure:
    """Draw the cost per element over the number of elements.

    Args:
        lines: by layer (one panel each), then by axis: elements, nanoseconds per element, and whether that is a cliff.
        title: above everything.

    Returns:
        One panel a layer, both axes logarithmic; a line that stays level means a cost that grows linearly. Cliffs are
        ringed.
    """
    columns = max(1, len(lines))
    figure, axes = grid(1, columns, width=3.2 * columns + 0.8, row_height=3.3)
    names = list(dict.fromkeys(name for by_axis in lines.values() for name in by_axis))
    colors = {name: COMPONENT_COLORS[i % len(COMPONENT_COLORS)] for i, name in enumerate(names)}
    markers = {name: "osD^v"[i % 5] for i, name in enumerate(names)}
    for (layer, by_axis), axis in zip(lines.items(), axes[0], strict=False):
        for name, points in by_axis.items():
            x, y, _ = zip(*points, strict=True)
            axis.plot(x, y, color=colors[name], marker=markers[name], markersize=4, linewidth=1.4)
            cliffs = [(x, y) for x, y, cliff in points if cliff]
            if cliffs:
                axis.plot(*zip(*cliffs, strict=True), "o", markersize=12, markerfacecolor="none", color=RED)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(layer, fontsize=10)
        axis.set_xlabel("elements")
    axes[0, 0].set_ylabel("ns per element")
    handles = [Line2D([], [], label=name, color=colors[name], marker=markers[name], markersize=4) for name in names]
    handles.append(
        Line2D([], [], label="cliff", color=RED, marker="o", markersize=10, markerfacecolor="none", linestyle="none")
    )
    finish(figure, title, handles)
    return figure
