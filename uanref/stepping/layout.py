"""A derivation drawn from top to bottom: where each node's box stands and which way each edge runs.

Layered drawing, after Sugiyama, Tagawa & Toda 1981: every node stands in the row just above its first user, an edge
over several rows holds a place in each of them, rows are ordered by the mean place of their neighbours until few edges
cross (:mod:`uanref.stepping.layout_rows`), and places become coordinates by least squares
(:mod:`uanref.stepping.layout_columns`). Pure geometry, in units of a CSS pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uanref.derivations import Derivation
from uanref.stepping.layout_columns import coordinates, width_of
from uanref.stepping.layout_rows import places, rows_of, untangle

HEIGHT = 38.0
"""Of a node's box."""
ROW_GAP, MARGIN, PORT = 30.0, 8.0, 12.0
"""Between rows; around all; between two edges' ends."""


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
    row_of = rows_of(derivation)
    rows, above, below = places(derivation, row_of)
    untangle(rows, above, below)
    x = coordinates(rows, above, below)
    left = min(x[place] - width_of(place, row_of) / 2 for row in rows for place in row)
    right = max(x[place] + width_of(place, row_of) / 2 for row in rows for place in row)
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


def below(drawn: Layout, source: str, name: str) -> Layout:
    """Return the drawing with one more node straight below ``source``, and the edge between them.

    Args:
        drawn: whose last row ``source`` stands in.
        source: name of the node.
        name: of the new one.
    """
    box = drawn.boxes[source]
    under = Box(name, box.x, box.y + HEIGHT + ROW_GAP)
    edge = Edge(source, name, _path([(box.x, box.y)], (under.x, under.y)))
    height = max(drawn.height, under.y + HEIGHT + MARGIN)
    return Layout(drawn.width, height, {**drawn.boxes, name: under}, (*drawn.edges, edge))


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
