"""The pictures of the convergence experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uanref.experiments.convergence_times import is_of, norms_of, own_rates, rates_of, times
from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import survival


def draw(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the curves at every rate, the times against the rate, and who is not there yet at each norm's own rate."""
    from uanref.plots.curves import curves

    if not cells:
        return []
    setting = cells[0].config
    norms, rates = norms_of(cells), rates_of(cells)
    about = f"{setting['dataset']}, {setting['model']}"
    target = f"{100 * setting['target']:g} %"
    curves(
        {f"lr {rate:g}": {norm: _band(cells, norm, rate) for norm in norms} for rate in rates},
        folder / "curves.png",
        x_label="updates",
        y_label="validation accuracy (%)",
        title=f"{about}: the median run, and the quartiles around it",
    )
    shares: dict[str, list[tuple[float, float, float, float]]] = {norm: [] for norm in norms}
    for norm in norms:
        for rate in rates:
            if found := times(cells, norm, rate):
                share = 100 * (1 - survival(found.values(), [setting["updates"]])[0])
                shares[norm].append((rate, share, share, share))
    curves(
        {"": shares},
        folder / "rates.png",
        x_label="learning rate",
        y_label=f"runs that reach {target} (%)",
        title=f"{about}: which rates are tolerated",
        x_log=True,
    )
    own = {norm: times(cells, norm, rate).values() for norm, rate in own_rates(cells).items()}
    if not own:
        return ["curves.png", "rates.png"]
    last = min(setting["updates"], 1.25 * max(time for found in own.values() for time in found))
    counts = [float(n) for n in range(0, int(last) + 1, setting["every"])]
    lines = {
        norm: [(t, share, share, share) for t, share in zip(counts, survival(found, counts), strict=True)]
        for norm, found in own.items()
    }
    curves(
        {"": lines},
        folder / "survival.png",
        x_label="updates",
        y_label=f"share of runs not yet at {target}",
        title=f"{about}: each norm at its own rate",
    )
    return ["curves.png", "rates.png", "survival.png"]


def _band(cells: Sequence[Cell], norm: str, rate: float) -> list[tuple[float, float, float, float]]:
    """Return quartiles of the accuracy over the runs; a run that diverged is at 0 from then on."""
    runs = [c for c in cells if is_of(c, norm, rate)]
    if not runs:
        return []
    every = runs[0].config["every"]
    longest = runs[0].config["updates"] // every
    table = np.zeros((len(runs), longest))
    for row, run in zip(table, runs, strict=True):
        row[: len(run.result["curve"])] = run.result["curve"]
    low, median, high = 100 * np.quantile(table, (0.25, 0.5, 0.75), axis=0)
    return [(float(every * (i + 1)), median[i], low[i], high[i]) for i in range(longest)]
