"""What a norm layer receives, and the densities that it sees in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from uanref.backend import Array
from uanref.experiments.activations import Activations as Activations  # recorded where nothing is drawn
from uanref.plots.style import BLACK, COLORS, COMPONENT_COLORS, GREY, finish, grid, shown


def activations(rows: Sequence[Activations], title: str) -> Figure:
    """Draw what the first norm layer receives, and the densities that it models it with.

    Args:
        rows: one row of panels a norm, one panel a channel; a UAN's row shows each component
            ``lambda_k N(mu_k, sigma_k^2)``, their sum, and the single Gaussian that BN would use.
        title: above everything.
    """
    columns = max((len(row.channels) for row in rows), default=1)
    figure, axes = grid(len(rows), columns, width=2.7 * max(columns, 3), row_height=2.5)
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
        panels[0].set_ylabel(f"{shown(row.norm)}\ndensity")
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
    finish(figure, title, handles)
    return figure


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
