"""A derivation drawn from top to bottom: where each node's box stands and which way each edge runs.

Layered drawing, after Sugiyama, Tagawa & Toda 1981: every node stands in the row just above its first user, an edge
over several rows holds a place in each of them, rows are ordered by the mean place of their neighbours until few edges
cross, and places become coordinates by least squares. Pure geometry, in units of a CSS pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from uanref.derivations.staged import Derivation, Step

WIDTH, HEIGHT = 84.0, 38.0
"""Of a node's box."""
LANE, GAP, ROW_GAP, MARGIN, PORT = 12.0, 12.0, 30.0, 8.0, 12.0
"""The width of an edge that passes a row; between neighbours; between rows; around all; between two edges' ends."""

SWEEPS, RELAXATIONS = 12, 60

Place = tuple[str, int]
"""A place of a row: a node, or the edges of a node that pass the row (row of the node < row of the place)."""


@dataclass(frozen=True)
class Box:
    """Where a node stands: its centre across, its upper edge down."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Edge:
    """A value on its way from the node that computes it to one that uses it.

    Attributes:
        source, target: names.
        path: of an SVG ``<path>``, from the source's lower edge to the target's upper one.
    """

    source: str
    target: str
    path: str


@dataclass(frozen=True)
class Layout:
    """A drawn derivation.

    Attributes:
        width, height: of the whole drawing.
        boxes: by name.
        edges: in the order of the steps and of their inputs.
    """

    width: float
    height: float
    boxes: Mapping[str, Box]
    edges: tuple[Edge, ...]


def layout(derivation: Derivation) -> Layout:
    """Return the drawing of a derivation: inputs above their first user, the output in the last row."""
    users = _users(derivation)
    row_of = _rows(derivation, users)
    rows, above, below = _places(row_of, users)
    _untangle(rows, above, below)
    x = _coordinates(rows, above, below)
    left = min(x[place] - _width(place, row_of) / 2 for row in rows for place in row)
    right = max(x[place] + _width(place, row_of) / 2 for row in rows for place in row)
    x = {place: at - left + MARGIN for place, at in x.items()}

    def top(row: int) -> float:
        return MARGIN + row * (HEIGHT + ROW_GAP)

    boxes = {name: Box(name, x[name, row], top(row)) for name, row in row_of.items()}
    edges = []
    for step in derivation.steps:
        ends = sorted((x[source, row_of[step.name] - 1], source) for source in step.inputs)
        for place, (_, source) in enumerate(ends):
            end = boxes[step.name].x + PORT * (place - (len(ends) - 1) / 2)
            points = [(x[source, row], top(row)) for row in range(row_of[source], row_of[step.name])]
            edges.append(Edge(source, step.name, _path(points, (end, top(row_of[step.name])))))
    return Layout(right - left + 2 * MARGIN, top(len(rows)) - ROW_GAP + MARGIN, boxes, tuple(edges))


def _users(derivation: Derivation) -> dict[str, list[Step]]:
    return {node.name: [step for step in derivation.steps if node.name in step.inputs] for node in derivation.nodes}


def _rows(derivation: Derivation, users: Mapping[str, list[Step]]) -> dict[str, int]:
    """Return every node's row, the output in the last: just above the first of its users."""
    height: dict[str, int] = {}
    for node in reversed(derivation.nodes):
        height[node.name] = 1 + max((height[step.name] for step in users[node.name]), default=-1)
    most = max(height.values())
    return {node.name: most - height[node.name] for node in derivation.nodes}


def _places(
    row_of: Mapping[str, int], users: Mapping[str, list[Step]]
) -> tuple[list[list[Place]], dict[Place, list[Place]], dict[Place, list[Place]]]:
    """Return the rows, and each place's neighbours in the row above and in the row below."""
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


def _untangle(rows: list[list[Place]], above: Mapping[Place, list[Place]], below: Mapping[Place, list[Place]]) -> None:
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


def _coordinates(
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
            _settle(row, [goal(place) for place in row], x, lambda place: _width(place, row_of))
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


def _width(place: Place, row_of: Mapping[str, int]) -> float:
    name, row = place
    return WIDTH if row_of[name] == row else LANE


def _path(points: Sequence[tuple[float, float]], end: tuple[float, float]) -> str:
    """Return the way from below the first point, straight down past the others' rows, to the end."""
    x, y = points[0][0], points[0][1] + HEIGHT
    parts = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in (*points[1:], end):
        middle = (y + to_y) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
        if (to_x, to_y) != end:
            y += HEIGHT
            parts.append(f"V{y:.1f}")
    return "".join(parts)
