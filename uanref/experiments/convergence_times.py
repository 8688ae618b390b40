"""When the runs of the convergence experiment arrive, and how two norms' times are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import Paired, choose, middle, paired

FASTER = 0.9  # at most this share of the other's updates counts as faster
Times = dict[int, float]  # by seed


def times(cells: Sequence[Cell], norm: str, rate: float) -> Times:
    """Return the updates to the target by seed; infinite where it was not reached."""
    found = {c.config["seed"]: c.result["updates_to_target"] for c in cells if is_of(c, norm, rate)}
    return {seed: math.inf if value is None else float(value) for seed, value in found.items()}


def own_rates(cells: Sequence[Cell]) -> dict[str, float]:
    """Return the rate at which each norm is fastest on validation, of the same grid for all."""
    return {norm: rate for (norm,), rate in choose(cells, score="speed").items()}


def faster(a: float, b: float) -> float:
    """Return 1 where ``a`` is at least a tenth fewer updates than ``b``, 0 the other way round, else 1/2."""
    if a == b:  # also where both are infinite
        return 0.5
    return 1.0 if a <= FASTER * b else 0.0 if b <= FASTER * a else 0.5


def compared(a: Times, b: Times) -> Paired:
    """Return how much more often than every second time ``a`` is faster, over the seeds that both have."""
    seeds = sorted(a.keys() & b.keys())
    return paired({seed: faster(a[seed], b[seed]) for seed in seeds}, dict.fromkeys(seeds, 0.5))


def at_equal_rates(cells: Sequence[Cell], a: str, b: str) -> Paired:
    """Return the same with a seed's mean score over the rates at which one of the two arrives (1/2 where none does)."""
    scores: dict[int, list[float]] = {}
    for rate in rates_of(cells):
        first, second = times(cells, a, rate), times(cells, b, rate)
        for seed in first.keys() & second.keys():
            arrived = scores.setdefault(seed, [])
            if min(first[seed], second[seed]) < math.inf:
                arrived.append(faster(first[seed], second[seed]))
    means = {seed: sum(values) / len(values) if values else 0.5 for seed, values in scores.items()}
    return paired(means, dict.fromkeys(means, 0.5))


def tolerated(cells: Sequence[Cell], norm: str) -> Times:
    """Return, by seed, log10 of the largest rate at which the run arrives; seeds that lack a rate are left out."""
    rates = rates_of(cells)
    by_rate = {rate: times(cells, norm, rate) for rate in rates}
    complete = set.intersection(*(set(found) for found in by_rate.values())) if by_rate else set()
    below = rates[0] ** 2 / rates[1] if len(rates) > 1 else rates[0] / 10 if rates else 0.0
    return {
        seed: math.log10(max([rate for rate in rates if by_rate[rate][seed] < math.inf], default=below))
        for seed in sorted(complete)
    }


def highest(cells: Sequence[Cell], norm: str) -> float | None:
    """Return the largest rate at which the median run arrives; None if it never does."""
    reached = [rate for rate in rates_of(cells) if middle(times(cells, norm, rate).values()) < math.inf]
    return max(reached, default=None)


def is_of(cell: Cell, norm: str, rate: float) -> bool:
    """Return whether a cell is one of ``norm`` at ``rate``."""
    return bool(cell.config["norm"] == norm and cell.config["lr"] == rate)


def norms_of(cells: Sequence[Cell]) -> list[str]:
    """Return the norms in the order of the cells."""
    return list(dict.fromkeys(cell.config["norm"] for cell in cells))


def rates_of(cells: Sequence[Cell]) -> list[float]:
    """Return the learning rates, from the lowest up."""
    return sorted({cell.config["lr"] for cell in cells})
