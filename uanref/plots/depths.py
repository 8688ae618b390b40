"""The norm of every layer's gradient over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uanref.backend import Array
from uanref.plots.style import finish, grid, shown, whole_ticks

PANELS = 4  # side by side
DEPTH_STYLES = ("-", "--", "-.", ":")


def gradients(norms: Mapping[str, Mapping[str, Mapping[str, tuple[Array, Array]]]], title: str) -> Figure:
    """Draw the norm of every layer's gradient over training, one panel a norm, at most four side by side.

    Args:
        norms: by row title (one row a learning rate), then by norm, then by layer from the input to
            the output: the epochs and the gradient norms, ``(reports,)`` each.
        title: above everything.
    """
    rows = [
        (row, list(by_norm.items())[i : i + PANELS])
        for row, by_norm in norms.items()
        for i in range(0, len(by_norm), PANELS)
    ]
    columns = max(len(part) for _, part in rows)
    figure, axes = grid(len(rows), columns, width=max(2.6 * columns, 5.2), row_height=3.0, share=True)
    layers = list(dict.fromkeys(layer for by_norm in norms.values() for lines in by_norm.values() for layer in lines))
    for (row, part), panels in zip(rows, axes, strict=True):
        for axis, (norm, lines) in zip(panels, part, strict=False):
            for layer, (times, values) in lines.items():
                axis.plot(times, values, **_depth_style(layers.index(layer), len(layers)))
            axis.set_yscale("log")
            axis.set_title(shown(norm) + ("" if len(norms) == 1 else f", {row}"), fontsize=10)
            axis.set_xlabel("epoch")
            whole_ticks(axis)
        for axis in panels[len(part) :]:
            axis.set_axis_off()
        panels[0].set_ylabel(r"gradient norm $\Vert\partial L/\partial W\Vert_2$")
    handles = [Line2D([], [], label=layer, **_depth_style(i, len(layers))) for i, layer in enumerate(layers)]
    finish(figure, title, handles)
    return figure


def _depth_style(index: int, count: int) -> dict[str, Any]:
    """Return a line style for layer ``index`` of ``count``: dark at the input, light at the output."""
    # Viridis without its lightest quarter, which vanishes on white.
    color = matplotlib.colormaps["viridis"](0.78 * index / max(1, count - 1))
    return {"color": color, "linestyle": DEPTH_STYLES[index % len(DEPTH_STYLES)], "linewidth": 1.5}
