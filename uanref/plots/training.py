"""Loss and accuracy over the epochs: of one training, and of an experiment's many."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from uanref.backend import Array
from uanref.plots.saving import save
from uanref.plots.style import COLORS, GREY, finish, grid, line_style, shown, whole_ticks

if TYPE_CHECKING:
    from uanref.training.history import History

MANY = 5
"""Lines that one panel of :func:`curves` holds."""
ACROSS = 4  # panels side by side, where there are more
MEASURED = (("train_loss", 1.0, "training loss (nats)"), ("validation_accuracy", 100.0, "validation accuracy (%)"))
PARTS: dict[str, dict[str, Any]] = {
    "train": {"color": COLORS["bn"], "linestyle": "--"},
    "validation": {"color": COLORS["uan"], "linestyle": "-"},
}


def history(history: History, path: str | os.PathLike[str] | None = None, *, title: str = "") -> Figure:
    """Draw one training: loss and accuracy of training and validation over the epochs.

    Args:
        history: of a trainer, with at least one epoch; numbers that are not finite leave a gap.
        path: where to write the picture, too, as a PNG.
        title: above both panels.

    Returns:
        Two panels, one line each for training (as it went, in train mode) and validation (after the epoch).

    Raises:
        ValueError: no epoch ended yet.
        OSError: the file cannot be written.
    """
    if not history.epochs:
        raise ValueError("the history holds no epoch yet: train at least one to the end")
    figure, [[left, right]] = grid(1, 2, width=9.0, row_height=3.3)
    epochs = np.array(history.curve("epoch"))
    marker = "o" if len(epochs) == 1 else None
    for part, style in PARTS.items():
        losses, accuracies = (np.array(history.curve(f"{part}_{what}"), float) for what in ("loss", "accuracy"))
        left.plot(epochs, np.where(losses > 0, losses, np.nan), linewidth=1.6, marker=marker, **style)
        right.plot(epochs, 100 * accuracies, linewidth=1.6, marker=marker, **style)
    left.set_yscale("log")
    left.set_ylabel("loss (nats)")
    right.set_ylabel("accuracy (%)")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        whole_ticks(axis)
    _zoom_accuracy(right)
    finish(
        figure,
        title,
        [Line2D([], [], label="training" if part == "train" else part, **style) for part, style in PARTS.items()],
    )
    if path is not None:
        save(figure, Path(path))
    return figure


def curves(histories: Mapping[str, Mapping[str, Sequence[Mapping[str, Array]]]], title: str) -> Figure:
    """Draw training loss and validation accuracy over the epochs.

    Args:
        histories: by row title (one row a learning rate), then by norm: one mapping per seed with
            the arrays ``"train_loss"`` and ``"validation_accuracy"``, ``(epochs,)`` each.
        title: above everything.

    Returns:
        Two panels a row: the line is the mean over the seeds, the band reaches from the lowest to the highest. More
        than :data:`MANY` norms would cross in them; then each norm has panels of its own, with the others in grey.
    """
    norms = list(dict.fromkeys(norm for by_norm in histories.values() for norm in by_norm))
    if len(norms) > MANY:
        return _one_panel_each(histories, norms, title)
    figure, axes = grid(len(histories), 2, width=9.0, row_height=3.3)
    for (row, by_norm), (left, right) in zip(histories.items(), axes, strict=True):
        for norm, runs in by_norm.items():
            style = line_style(norm, norms)
            _mean_and_range(left, [np.asarray(run["train_loss"]) for run in runs], style)
            _mean_and_range(right, [100 * np.asarray(run["validation_accuracy"]) for run in runs], style)
        left.set_yscale("log")
        left.set_ylabel("training loss (nats)")
        right.set_ylabel("validation accuracy (%)")
        _zoom_accuracy(right)
        for axis in (left, right):
            axis.set_xlabel("epoch")
            whole_ticks(axis)
            if len(histories) > 1:
                axis.set_title(row, fontsize=10)
    handles: list[Line2D | Patch] = [Line2D([], [], label=shown(norm), **line_style(norm, norms)) for norm in norms]
    handles.append(Patch(color=GREY, alpha=0.3, label="lowest to highest seed"))
    finish(figure, title, handles)
    return figure


def _one_panel_each(
    histories: Mapping[str, Mapping[str, Sequence[Mapping[str, Array]]]], norms: Sequence[str], title: str
) -> Figure:
    """Draw small multiples: one panel a norm, the means of the others in grey behind its own line and band."""
    high = -(-len(norms) // ACROSS)  # rows of panels for one quantity
    figure, axes = grid(len(histories) * len(MEASURED) * high, ACROSS, width=9.0, row_height=1.7)
    blocks = iter(axes.reshape(-1, high * ACROSS))
    for row, by_norm in histories.items():
        for field, factor, label in MEASURED:
            panels = next(blocks)
            lines = {norm: [factor * np.asarray(run[field]) for run in runs] for norm, runs in by_norm.items()}
            for at, (axis, norm) in enumerate(zip(panels, norms, strict=False)):
                _among_others(axis, lines, norm, line_style(norm, norms)["color"])
                axis.set_title(f"{shown(norm)}, {row}" if len(histories) > 1 else shown(norm), fontsize=9)
                axis.set_yscale("log" if field == "train_loss" else "linear")
                axis.set_ylabel(label if at % ACROSS == 0 else "", fontsize=8)
            drawn = panels[: len(norms)]
            if field == "validation_accuracy":
                _zoom_accuracy(drawn[0])
            for axis in drawn:
                axis.set_ylim(drawn[0].get_ylim())  # each panel holds every line: one scale serves all
                axis.set_xlabel("epoch", fontsize=8)
                whole_ticks(axis)
            for axis in panels[len(norms) :]:
                axis.set_axis_off()
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=COLORS["bn"], label="the panel's norm: mean"),
        Patch(color=COLORS["bn"], alpha=0.3, label="lowest to highest seed"),
        Line2D([], [], color=GREY, linewidth=0.7, label="the other norms' means"),
    ]
    finish(figure, title, handles)
    return figure


def _among_others(axis: Axes, lines: Mapping[str, Sequence[Array]], norm: str, color: str) -> None:
    """Draw the lines of one norm in its colour, after those of the others."""
    for other, theirs in lines.items():
        if other != norm:
            _mean_and_range(axis, theirs, {"color": GREY, "alpha": 0.6, "zorder": 1}, width=0.7, band=False)
    _mean_and_range(axis, lines.get(norm, ()), {"color": color}, width=1.8)


def _mean_and_range(
    axis: Axes, lines: Sequence[Array], style: Mapping[str, Any], *, width: float = 1.6, band: bool = True
) -> None:
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
    axis.plot(epochs, np.nanmean(table, axis=0), linewidth=width, marker=marker, **style)
    if band and len(lines) > 1:
        lowest, highest = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        axis.fill_between(epochs, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)


def _zoom_accuracy(axis: Axes) -> None:
    """Show the top: curves that end near 100 % may enter from below the panel."""
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in axis.lines]
    low, _ = axis.get_ylim()
    axis.set_ylim(max(low, 0.0, min(80.0, *ends) - 10.0 if ends else 0.0), 100.5)
