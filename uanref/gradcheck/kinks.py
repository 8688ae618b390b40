"""Which entries of a direction sit on kinks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uanref.backend import Array

KINK_TRIALS = 256


def kinked_entries(along: Array, meets_kink: Callable[[Array], bool]) -> list[Array]:
    """Find the entries of a direction that meet a kink, by bisection.

    Args:
        along: a direction that is known to meet one.
        meets_kink: tells it for any direction of the same shape.

    Returns:
        Groups of flat indices, nearly always of one entry each. A group is larger where several kinks show only
        together, or where the trials ran out.
    """
    found: list[Array] = []
    groups, trials = [np.flatnonzero(along)], 0  # each group is known to meet a kink
    while groups and trials < KINK_TRIALS:
        group = groups.pop()
        halves = np.array_split(group, 2) if group.size > 1 else []
        trials += len(halves)
        kinked = [half for half in halves if meets_kink(only(along, half))]
        if kinked:
            groups += kinked
        else:
            found.append(group)
    return found + groups


def only(along: Array, entries: Array) -> Array:
    """Return ``along`` with all but the flat ``entries`` set to 0."""
    kept = np.zeros_like(along)
    kept.reshape(-1)[entries] = along.reshape(-1)[entries]
    return kept
