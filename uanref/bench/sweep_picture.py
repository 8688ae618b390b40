"""The picture of a sweep, from its points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uanref.bench.sweep import CLIFF, Point


def draw(points: Sequence[Point], path: Path) -> None:
    """Write the picture as a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from uanref import plots

    lines: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    for point in points:
        along = lines.setdefault(point.layer, {}).setdefault(point.axis, [])
        along.append((point.elements, point.ns, point.cliff))
    title = f"forward and backward pass: cost per element; a cliff is a step of more than {CLIFF} times"
    plots.save(plots.sweep(lines, title), path)
