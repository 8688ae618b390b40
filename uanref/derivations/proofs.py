"""The numerical gradient of every value of a derivation: it is moved a little, the rest of the list is run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from uanref.backend import Array
from uanref.derivations.primitives import Named
from uanref.derivations.steps import Input, Step, is_constant

if TYPE_CHECKING:
    from uanref.derivations.derivation import Derivation

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Relative sizes of the numerical derivative's steps: central differences of fourth order. Large steps bend, small
ones round: each entry takes the smaller one of the two neighbouring steps that agree best (after Ridders 1982)."""

FINE = (1e-7, 1e-8, 1e-9)
"""More steps, for entries on which no two of :data:`STEPS` agree: a variance of 0 that only epsilon keeps inside the
root's domain."""

OWN = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""For these and for entries below :data:`TINY` steps relative to the entry itself: a component that has hardly any
sample, whose weight is small and divides. The steps of the others would jump over 0, and agree on what lies there."""

TINY = 1e-2
"""Relative to the value's largest entry."""

AGREEMENT = 1e-7
"""Two steps agree if their slopes differ by at most this, relative to the slope (at least 1e-3)."""

ROUNDING = 2.0**-53
"""Of a float64, relative: so much of the loss every slope may be off for each step of 1."""

DOUBT = 4.0
"""Such an entry may be off by this many times the gap of the two steps that agree best. A weight of 1e-12 moves the
output by less than its last digits: no step gives its slope to six of them, and none says anything at 1e-16."""

UNTOLD = 0.1
"""Steps that agree no better than this, relative to the slope (at least 1e-3), tell no slope."""

PROBED = 1 << 21
"""How many numbers a value may have while it is probed: more entries are moved in turns, so that memory stays small."""


def proofs(
    derivation: Derivation, values: Mapping[str, Named], sizes: Mapping[str, int], dy: Named
) -> dict[str, tuple[Array, Array]]:
    """Return dL/d(node) for every node by central differences of fourth order, L = sum(dy * output).

    With each comes its doubt, see :class:`~uanref.derivations.traces.Node`.
    """
    largest = max(values[node.name].array.size for node in derivation.nodes)
    found = {}
    for node in derivation.nodes:
        if is_constant(node):
            continue
        value = values[node.name].along(node.axes)
        size = np.abs(value).ravel()
        scale = max(1.0, float(size.max(initial=0.0)))
        noise = ROUNDING * float(np.abs(dy.array * values[derivation.output.name].along(dy.axes)).sum())

        def agreeing(steps: Array, entries: Array) -> tuple[Array, Array]:
            slopes = _all_slopes(derivation, node, entries, steps, values, sizes, dy, largest)  # noqa: B023
            return _agreeing(slopes, noise / steps)  # noqa: B023

        # 1. Steps of the value's size, for all entries.
        every = np.arange(size.size)
        slope, gap = agreeing(np.multiply.outer(STEPS, np.full(size.size, scale)), every)
        doubt = np.zeros(size.size)
        # 2. Finer ones where these do not agree.
        apart = ~(gap <= AGREEMENT * np.maximum(np.abs(slope), 1e-3))
        if apart.any():
            fine = np.multiply.outer((*STEPS, *FINE), np.full(apart.sum(), scale))
            slope[apart], gap[apart] = agreeing(fine, every[apart])
            doubt[apart] = DOUBT * gap[apart]
        # 3. Steps of the entry's own size: they decide where they tell another slope, and where they agree better.
        #    Where they tell none, the steps before may have jumped over 0: nothing is known of the entry.
        own = (apart | (size < TINY * scale)) & (size > 0)
        if own.any():
            other, other_gap = agreeing(np.multiply.outer(OWN, size[own]), every[own])
            wins = (np.abs(other - slope[own]) > DOUBT * other_gap) | (apart[own] & (other_gap < gap[own]))
            slope[own] = np.where(wins, other, slope[own])
            told = other_gap <= UNTOLD * np.maximum(np.abs(other), 1e-3)
            doubt[own] = np.where(told, DOUBT * other_gap, np.inf)
        found[node.name] = slope.reshape(value.shape), doubt.reshape(value.shape)
    return found


def _all_slopes(
    derivation: Derivation,
    node: Input | Step,
    entries: Array,
    steps: Array,
    values: Mapping[str, Named],
    sizes: Mapping[str, int],
    dy: Named,
    largest: int,
) -> Array:
    """Return dL/d(entry) of some entries of a node, flat, for each step of theirs: ``(steps, entries)``."""
    at_once = max(1, PROBED // (4 * len(steps) * largest))
    parts = [slice(first, first + at_once) for first in range(0, len(entries), at_once)]
    pieces = [_slopes(derivation, node, entries[part], steps[:, part], values, sizes, dy) for part in parts]
    return np.concatenate(pieces, axis=1)


def _slopes(
    derivation: Derivation,
    node: Input | Step,
    entries: Array,
    steps: Array,
    values: Mapping[str, Named],
    sizes: Mapping[str, int],
    dy: Named,
) -> Array:
    """Return dL/d(entry) of some entries of a node, flat, for each step of theirs: ``(steps, entries)``."""
    value = values[node.name].along(node.axes)
    moves = np.zeros((len(entries), value.size))
    moves[np.arange(len(entries)), entries] = 1.0
    # One extra axis holds every entry's two moves either way; it spreads through the list by itderivation.
    shifts = np.multiply.outer(steps, (-2.0, -1.0, 1.0, 2.0)).swapaxes(1, 2)  # (steps, 4, entries)
    probes = (value.ravel() + shifts[..., None] * moves).reshape(-1, *value.shape)
    # A step too large may leave a root's domain: the slope is then nan, and another step is taken.
    moved = derivation.forward({**values, node.name: Named(("probe", *node.axes), probes)}, sizes, node.name)
    y = moved[derivation.output.name].along(("probe", *derivation.output.axes))
    base = values[derivation.output.name].along(derivation.output.axes)
    # Where nothing that is moved reaches the output, y has no probes: every loss is the same, 0.
    losses = np.broadcast_to(((y - base) * dy.array).reshape(len(y), -1).sum(axis=1), len(probes))
    minus2, minus1, plus1, plus2 = losses.reshape(len(steps), 4, -1).swapaxes(0, 1)
    slopes: Array = (8.0 * (plus1 - minus1) - (plus2 - minus2)) / (12.0 * steps)
    return slopes


def _agreeing(slopes: Array, noise: Array) -> tuple[Array, Array]:
    """Return, of the two neighbouring steps that agree best, the smaller one's slope, and how far they are apart.

    ``noise``: how far a step's slope may be off by rounding alone; what agrees better than that does so by chance.
    """
    gaps = np.abs(np.diff(slopes, axis=0))
    gaps = np.where(np.isfinite(gaps), np.maximum(gaps, noise[1:]), np.inf)
    best = gaps.argmin(axis=0)[None]
    return np.take_along_axis(slopes, best + 1, axis=0)[0], np.take_along_axis(gaps, best, axis=0)[0]
