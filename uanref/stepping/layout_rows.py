"""Which row each node of a drawn derivation stands in, and the order in each row in which few edges cross."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from uanref.derivations import Derivation, Step

SWEEPS = 12

Place = tuple[str, int]
"""A place of a row: a node, or the edges of a node that pass the row (row of the node < row of the place)."""


def rows_of(derivation: Derivation) -> dict[str, int]:
    """Return every node's row, the output in the last: just above the first of its users."""
    users = _users(derivation)
    height: dict[str, int] = {}
    for node in reversed(derivation.nodes):
        height[node.name] = 1 + max((height[step.name] for step in users[node.name]), default=-1)
    most = max(height.values())
    return {node.name: most - height[node.name] for node in derivation.nodes}


def places(
    derivation: Derivation, row_of: Mapping[str, int]
) -> tuple[list[list[Place]], dict[Place, list[Place]], dict[Place, list[Place]]]:
    """Return the rows, and each place's neighbours in the row above and in the row below."""
    users = _users(derivation)
    rows: list[list[Place]] = [[] for _ in range(max(row_of.values()) + 1)]
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for name, row in row_of.items():
        last = max((row_of[step.name] for step in users[name]), default=row)
        for at in range(row, max(last, row + 1)):  # all edges of a node share one lane until they leave it
            rows[at].append((name, at))
            above.setdefault((name, at), [])
            below.setdefault((name, at), [])
    for name, row in row_of.items():
        for at in range(row + 1, len(rows)):
            if (name, at) in above:
                _join((name, at - 1), (name, at), above, below)
        for step in users[name]:
            _join((name, row_of[step.name] - 1), (step.name, row_of[step.name]), above, below)
    return rows, above, below


def _join(upper: Place, lower: Place, above: Mapping[Place, list[Place]], below: Mapping[Place, list[Place]]) -> None:
    below[upper].append(lower)
    above[lower].append(upper)


def untangle(rows: list[list[Place]], above: Mapping[Place, list[Place]], below: Mapping[Place, list[Place]]) -> None:
    """Order each row so that few edges cross; the best of some sweeps stays."""
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = {place: i for i, place in enumerate(rows[at - 1 if down else at + 1])}
            neighbours = above if down else below
            mean = {
                place: sum(fixed[other] for other in neighbours[place]) / len(neighbours[place])
                if neighbours[place]
                else i * max(len(fixed) - 1, 1) / max(len(rows[at]) - 1, 1)
                for i, place in enumerate(rows[at])
            }
            rows[at].sort(key=mean.__getitem__)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best


def _crossings(rows: Sequence[Sequence[Place]], below: Mapping[Place, list[Place]]) -> int:
    found = 0
    for upper, lower in itertools.pairwise(rows):
        at = {place: i for i, place in enumerate(lower)}
        ends = [(i, at[other]) for i, place in enumerate(upper) for other in below[place]]
        found += sum(1 for i, a in ends for j, b in ends if i < j and a > b)
    return found


def _users(derivation: Derivation) -> dict[str, list[Step]]:
    return {node.name: [step for step in derivation.steps if node.name in step.inputs] for node in derivation.nodes}
