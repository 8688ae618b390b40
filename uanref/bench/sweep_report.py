"""What ``uanref bench --sweep`` prints: the cost per element along each axis."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref.bench.report import number
from uanref.bench.sweep import CLIFF, Point


def report(points: Sequence[Point]) -> Group:
    """Lay the points out: one table for each layer, and whether there is a cliff."""
    parts = [part for layer in dict.fromkeys(p.layer for p in points) for part in (table(points, layer), Text())]
    return Group(*parts, Text(verdict(points)))


def table(points: Sequence[Point], layer: str) -> Table:
    """Return nanoseconds per element of one layer; a cliff is red."""
    made = Table(title=f"{layer}: ns per element, forward + backward", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column("axis", no_wrap=True)
    made.add_column("size: ns per element")
    for axis in dict.fromkeys(point.axis for point in points if point.layer == layer):
        cells = [cell(point) for point in points if (point.layer, point.axis) == (layer, axis)]
        made.add_row(axis, "  ".join(cells))
    return made


def cell(point: Point) -> str:
    """Return a size and its cost."""
    text = f"{point.size.replace(' ', '')}: {number(point.ns)}"
    return f"[red]{text} cliff[/]" if point.cliff else text


def verdict(points: Sequence[Point]) -> str:
    """Say where the cost per element jumps."""
    jumps = [f"{point.layer} at {point.axis} = {point.size}" for point in points if point.cliff]
    if not jumps:
        return f"No cliff: no doubling multiplies the cost per element by more than {CLIFF}."
    return f"Cliffs, where the cost per element grows more than {CLIFF} times from one size to the next: " + (
        ", ".join(jumps) + "."
    )
