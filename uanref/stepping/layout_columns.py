"""Where in its row each place of a drawn derivation stands: near its neighbours, as far as the boxes allow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from uanref.stepping.layout_rows import Place

WIDTH, LANE, GAP = 84.0, 12.0, 12.0
"""Of a node's box; of an edge that passes a row; between neighbours."""

RELAXATIONS = 60


def coordinates(
    rows: Sequence[Sequence[Place]], above: Mapping[Place, list[Place]], below: Mapping[Place, list[Place]]
) -> dict[Place, float]:
    """Return each place's centre: rows centred at first, then each place near its neighbours, lanes straight."""
    row_of: dict[str, int] = {}
    lanes: dict[str, list[Place]] = {}
    for at, row in enumerate(rows):
        for name, _ in row:
            if row_of.setdefault(name, at) < at:
                lanes.setdefault(name, []).append((name, at))
    x = {place: (i - (len(row) - 1) / 2) * (WIDTH + GAP) for row in rows for i, place in enumerate(row)}

    def goal(place: Place) -> float:
        if row_of[place[0]] < place[1]:  # a lane: where its others are, and a little to where it leads
            lane = [x[other] for other in lanes[place[0]]]
            ends = [x[other] for other in lanes[place[0]] for other in (*above[other], *below[other])]
            return 0.9 * sum(lane) / len(lane) + 0.1 * sum(ends) / len(ends)
        sides = [[x[other] for other in side[place]] for side in (above, below) if side[place]]
        return sum(sum(side) / len(side) for side in sides) / len(sides) if sides else x[place]

    for sweep in range(RELAXATIONS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            _settle(row, [goal(place) for place in row], x, lambda place: width_of(place, row_of))
    return x


def _settle(
    row: Sequence[Place], goals: Sequence[float], x: dict[Place, float], width: Callable[[Place], float]
) -> None:
    """Place a row as near to its goals as the boxes allow: least squares, by pooling neighbours that collide."""
    starts = [0.0]
    for left, right in itertools.pairwise(row):
        starts.append(starts[-1] + (width(left) + width(right)) / 2 + GAP)
    pools: list[tuple[float, int]] = []  # mean of goal - start, and how many places share it
    for goal, start in zip(goals, starts, strict=True):
        mean, members = goal - start, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, members = (mean * members + other * more) / (members + more), members + more
        pools.append((mean, members))
    shifts = [mean for mean, members in pools for _ in range(members)]
    for place, start, shift in zip(row, starts, shifts, strict=True):
        x[place] = start + shift


def width_of(place: Place, row_of: Mapping[str, int]) -> float:
    """Return how much of its row a place takes."""
    name, row = place
    return WIDTH if row_of[name] == row else LANE
