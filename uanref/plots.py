"""The pictures of an experiment, drawn without any global state: each function returns a Figure.

Colours are those of Okabe and Ito (2008), which stay apart for all common forms of colour
blindness; where many lines share a panel, line styles tell them apart as well.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from uanref.backend import Array

DPI = 150
PANELS = 4  # side by side
BLACK, GREY = "#222222", "#9a9a9a"
COLORS = {
    "none": "#6b6b6b",
    "bn": "#0072b2",
    "ln": "#e69f00",
    "gn": "#56b4e9",
    "in": "#a89c00",
    "uan": "#d55e00",
    "uan-learned": "#009e73",
    "uan-joint": "#cc79a7",
    "mn": "#882255",
    "mode": "#332288",
    "uan-public": "#000000",
}
COMPONENT_COLORS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES: dict[str, Any] = {
    "none": "-",
    "bn": "--",
    "ln": (0, (1, 1)),
    "gn": (0, (3, 1, 1, 1)),
    "in": (0, (6, 2)),
    "uan": "-.",
    "uan-learned": ":",
    "uan-joint": (0, (5, 1, 1, 1, 1, 1)),
    "mn": (0, (8, 1)),
    "mode": (0, (2, 2)),
    "uan-public": (0, (1, 3)),
}
DEPTH_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Activations:
    """One mini-batch's inputs of a norm layer, and the densities that the layer sees in them.

    Attributes:
        norm: the norm's name, the row's title.
        channels: which channels were kept, C of them.
        samples: ``(C, M)``.
        weights: lambda, ``(K, C)``; K = 1 for batch normalization.
        means: mu, ``(K, C)``.
        variances: sigma^2, ``(K, C)``.
    """

    norm: str
    channels: tuple[int, ...]
    samples: Array
    weights: Array
    means: Array
    variances: Array

    @property
    def is_mixture(self) -> bool:
        """Whether the densities are a learned mixture rather than the batch's own Gaussian."""
        return self.norm != "bn"


# --- the three pictures ---------------------------------------------------------------------------


def curves(histories: Mapping[str, Mapping[str, Sequence[Mapping[str, Array]]]], title: str) -> Figure:
    """Draw training loss and validation accuracy over the epochs.

    Args:
        histories: by row title (one row a learning rate), then by norm: one mapping per seed with
            the arrays ``"train_loss"`` and ``"validation_accuracy"``, ``(epochs,)`` each.
        title: above everything.

    Returns:
        Two panels a row: the line is the mean over the seeds, the band reaches from the lowest to the highest.
    """
    figure, axes = _grid(len(histories), 2, width=9.0, row_height=3.3)
    norms = list(dict.fromkeys(norm for by_norm in histories.values() for norm in by_norm))
    for (row, by_norm), (left, right) in zip(histories.items(), axes, strict=True):
        for norm, runs in by_norm.items():
            style = {"color": COLORS[norm], "linestyle": STYLES[norm]}
            _mean_and_range(left, [np.asarray(run["train_loss"]) for run in runs], style)
            _mean_and_range(right, [100 * np.asarray(run["validation_accuracy"]) for run in runs], style)
        left.set_yscale("log")
        left.set_ylabel("training loss (nats)")
        right.set_ylabel("validation accuracy (%)")
        _zoom_accuracy(right)
        for axis in (left, right):
            axis.set_xlabel("epoch")
            _whole_ticks(axis)
            if len(histories) > 1:
                axis.set_title(row, fontsize=10)
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=COLORS[norm], linestyle=STYLES[norm], label=norm) for norm in norms
    ]
    handles.append(Patch(color=GREY, alpha=0.3, label="lowest to highest seed"))
    _finish(figure, title, handles)
    return figure


def activations(rows: Sequence[Activations], title: str) -> Figure:
    """Draw what the first norm layer receives, and the densities that it models it with.

    Args:
        rows: one row of panels a norm, one panel a channel; a UAN's row shows each component
            ``lambda_k N(mu_k, sigma_k^2)``, their sum, and the single Gaussian that BN would use.
        title: above everything.
    """
    columns = max((len(row.channels) for row in rows), default=1)
    figure, axes = _grid(len(rows), columns, width=2.7 * max(columns, 3), row_height=2.5)
    most = 1
    for row, panels in zip(rows, axes, strict=True):
        for j, axis in enumerate(panels):
            if j >= len(row.channels):
                axis.set_axis_off()
                continue
            _histogram_and_densities(axis, row, j)
            axis.set_title(f"channel {row.channels[j]}", fontsize=9)
            axis.set_xlabel("activation before the norm" if row is rows[-1] else "")
        if row.is_mixture:
            most = max(most, len(row.weights))
        panels[0].set_ylabel(f"{row.norm}\ndensity")
    handles: list[Line2D | Patch] = [
        Patch(color=GREY, alpha=0.45, label="one mini-batch"),
        Line2D([], [], color=COLORS["bn"], linestyle="--", label="Gaussian of the batch (BN's view)"),
    ]
    if any(row.is_mixture for row in rows):
        handles += [
            Line2D([], [], color=_component_color(k), linewidth=1.2, label=_component_label(k + 1))
            for k in range(min(most, len(COMPONENT_COLORS)))
        ]
        if most > len(COMPONENT_COLORS):
            handles.append(Line2D([], [], color=GREY, linewidth=0, label="... (colours repeat)"))
        handles.append(Line2D([], [], color=BLACK, label="their sum: the learned mixture"))
    _finish(figure, title, handles)
    return figure


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
    figure, axes = _grid(len(rows), columns, width=max(2.6 * columns, 5.2), row_height=3.0, share=True)
    layers = list(dict.fromkeys(layer for by_norm in norms.values() for lines in by_norm.values() for layer in lines))
    for (row, part), panels in zip(rows, axes, strict=True):
        for axis, (norm, lines) in zip(panels, part, strict=False):
            for layer, (times, values) in lines.items():
                axis.plot(times, values, **_depth_style(layers.index(layer), len(layers)))
            axis.set_yscale("log")
            axis.set_title(norm if len(norms) == 1 else f"{norm}, {row}", fontsize=10)
            axis.set_xlabel("epoch")
            _whole_ticks(axis)
        for axis in panels[len(part) :]:
            axis.set_axis_off()
        panels[0].set_ylabel(r"gradient norm $\Vert\partial L/\partial W\Vert_2$")
    handles = [Line2D([], [], label=layer, **_depth_style(i, len(layers))) for i, layer in enumerate(layers)]
    _finish(figure, title, handles)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG: to a temporary name beside ``path`` first, so that no half picture stays.

    Raises:
        OSError: the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=DPI)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


# --- parts ----------------------------------------------------------------------------------------


def _grid(rows: int, columns: int, *, width: float, row_height: float, share: bool = False) -> tuple[Figure, Array]:
    # Title and legend take about 1.1 inches whatever the number of rows.
    figure = Figure(figsize=(width, row_height * rows + 1.1), dpi=DPI, layout="constrained")
    axes: Array = figure.subplots(rows, columns, squeeze=False, sharey="all" if share else False)
    for axis in axes.flat:
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(which="both", labelsize=8)
    return figure, axes


def _finish(figure: Figure, title: str, handles: Sequence[Line2D | Patch]) -> None:
    figure.suptitle(title, fontsize=10)
    # One row if it fits, else equal columns: an entry takes about 0.085 inches a character and 0.7 for its sample.
    sizes = [0.7 + 0.085 * len(_shown(str(handle.get_label()))) for handle in handles]
    width = float(figure.get_figwidth())
    columns = len(handles) if sum(sizes) <= width else max(1, int(width / max(sizes)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _shown(label: str) -> str:
    """Return about as many characters as a label with mathematics shows."""
    return re.sub(r"\\[a-z]+|[${}_^\\]", "", label)


def _mean_and_range(axis: Axes, lines: Sequence[Array], style: Mapping[str, Any]) -> None:
    """Draw the mean of lines of unlike lengths (a stopped run is shorter) and the range around it."""
    longest = max((len(line) for line in lines), default=0)
    if longest == 0:
        return
    table = np.full((len(lines), longest), np.nan)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    table = table[:, np.isfinite(table).any(axis=0)]
    if table.shape[1] == 0:
        return
    epochs = np.arange(1, table.shape[1] + 1)
    marker = "o" if len(epochs) == 1 else None
    axis.plot(epochs, np.nanmean(table, axis=0), linewidth=1.6, marker=marker, **style)
    if len(lines) > 1:
        lowest, highest = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        axis.fill_between(epochs, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)


def _zoom_accuracy(axis: Axes) -> None:
    """Show the top: curves that end near 100 % may enter from below the panel."""
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in axis.lines]
    low, _ = axis.get_ylim()
    axis.set_ylim(max(low, 0.0, min(80.0, *ends) - 10.0 if ends else 0.0), 100.5)


def _whole_ticks(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _histogram_and_densities(axis: Axes, row: Activations, j: int) -> None:
    """Draw channel ``j`` of a row.

    The panel is wide enough for the samples and for all components, wherever training left
    them, and at most twice as high as the samples need: a narrow component leaves it at the top.
    """
    samples = row.samples[j]
    center, spread = float(samples.mean()), float(samples.std())
    # Few samples in many bins would be a comb.
    bins = int(np.clip(1.5 * np.sqrt(samples.size), 8, 40))
    heights, _, _ = axis.hist(samples, bins=bins, density=True, color=GREY, alpha=0.45)
    top = float(np.max(heights))
    low, high = axis.get_xlim()
    if row.is_mixture:
        reach = 3 * np.sqrt(row.variances[:, j])
        low = min(low, float((row.means[:, j] - reach).min()))
        high = max(high, float((row.means[:, j] + reach).max()))
    grid = np.linspace(low, high, 2000)
    if spread > 0:  # a channel that is constant has no density to draw
        gaussian = _gaussian(grid, center, spread**2)
        top = max(top, float(gaussian.max()))
        axis.plot(grid, gaussian, color=COLORS["bn"], linestyle="--", linewidth=1.4)
    if row.is_mixture:
        total = np.zeros_like(grid)
        for k in range(len(row.weights)):
            component = row.weights[k, j] * _gaussian(grid, row.means[k, j], row.variances[k, j])
            axis.plot(grid, component, color=_component_color(k), linewidth=1.1)
            total += component
        axis.plot(grid, total, color=BLACK, linewidth=1.4)
        top = max(top, min(float(total.max()), 1.9 * top))
    axis.set_xlim(low, high)
    axis.set_ylim(0, 1.05 * top)


def _gaussian(x: Array, mean: float, variance: float) -> Array:
    density: Array = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return density


def _component_label(k: int) -> str:
    return rf"$\lambda_{k}\,\mathcal{{N}}(\mu_{k},\,\sigma_{k}^2)$"


def _component_color(k: int) -> str:
    return COMPONENT_COLORS[k % len(COMPONENT_COLORS)]


def _depth_style(index: int, count: int) -> dict[str, Any]:
    """Return a line style for layer ``index`` of ``count``: dark at the input, light at the output."""
    # Viridis without its lightest quarter, which vanishes on white.
    color = matplotlib.colormaps["viridis"](0.78 * index / max(1, count - 1))
    return {"color": color, "linestyle": DEPTH_STYLES[index % len(DEPTH_STYLES)], "linewidth": 1.5}
