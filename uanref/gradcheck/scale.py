"""How far rounding moves an output, and how much of an output is more than its level."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from uanref.backend import Array

ROUNDINGS = 3  # how often all tensors are moved by a last digit


class Evaluated(Protocol):
    """A function of tensors at a point: :class:`uanref.gradcheck.probe.Function`."""

    point: dict[str, Array]

    def evaluate_at(self, values: dict[str, Array]) -> Array:
        """Return y with some tensors replaced."""
        ...


def rounding(function: Evaluated, y: Array) -> Array:
    """Return how far rounding moves each entry of y: by its own last digit, and by those of x and the parameters.

    The second part is measured: each entry of each tensor goes one digit up or down. It says what x = 1e6 + noise
    costs a layer that takes the level of x out, which its output does not show.
    """
    eps = float(np.finfo("float64").eps)
    drawn = np.random.default_rng(0)
    moved = np.zeros(y.shape)
    with np.errstate(all="ignore"):
        for _ in range(ROUNDINGS):
            values = {
                name: value * (1.0 + eps * drawn.choice((-1.0, 1.0), size=value.shape))
                for name, value in function.point.items()
            }
            moved = np.maximum(moved, abs(function.evaluate_at(values) - y))
        found: Array = moved + eps * abs(y)
    return found


def variation(function: Evaluated, y: Array, noise: Array) -> float:
    """Return the length of what varies in y, its level taken out: the scale of the acceptance rule.

    A level says nothing of a gradient. It is what y's entries have in common: all of them, or those along one axis (a
    level per channel is the same for all samples). Of these means the one that leaves least is taken out. A level
    that is no mean shows when all tensors move by about 1: what varies is no longer than that change. Where there is
    nothing beside one level (one output, a constant) the change itself is the scale, or y where y is larger, or unit
    scale where both are.
    """
    change = _change(function, y)
    axes: list[int | None] = [None, *(axis for axis, length in enumerate(y.shape) if length > 1)]
    lengths = [norm(y - y.mean(axis=axis, keepdims=True)) for axis in axes] if y.size > 1 else []
    lengths = [length for length in lengths if length > 100.0 * norm(noise)]
    return min([*lengths, change]) if lengths else min(math.sqrt(y.size), max(norm(y), change))


def _change(function: Evaluated, y: Array) -> float:
    """Return how far y goes when every tensor moves by about 1; infinite where that leaves the layer's domain."""
    drawn = np.random.default_rng(1)
    values = {name: value + drawn.standard_normal(value.shape) for name, value in function.point.items()}
    with np.errstate(all="ignore"):
        try:
            change = norm(function.evaluate_at(values) - y)
        except (ArithmeticError, ValueError):
            return math.inf
    return change if math.isfinite(change) else math.inf


def norm(array: Array) -> float:
    """Return the Euclidean norm of all entries."""
    with np.errstate(all="ignore"):
        return math.sqrt(float((array * array).sum()))
