"""An edit of one number: what a reader types, and what it did to the loss and to the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array
from uanref.derivations import Trace

MOST = 3
"""How many gradients an edit names."""


@dataclass(frozen=True)
class Edit:
    """What an edit did.

    Attributes:
        entry: the entry as it was typed, ``"x 0 1"``.
        old, new: its number before and after.
        loss: the value of L before and after; None where there is no loss.
        moved: the gradients that moved most, by the largest change of an entry, largest first.
    """

    entry: str
    old: float
    new: float
    loss: tuple[float, float] | None
    moved: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        told = [f"{self.entry}: {self.old:.6g} -> {self.new:.6g}"]
        if self.loss is not None:
            told.append(f"L: {self.loss[0]:.6g} -> {self.loss[1]:.6g}")
            told.append(
                "moved most: " + (", ".join(f"d{name} by {by:.3g}" for name, by in self.moved) or "no gradient")
            )
        return "; ".join(told)


def parsed(text: str, arrays: Mapping[str, Array]) -> tuple[str, tuple[int, ...], float]:
    """Return the name, the index and the number that ``"x 0 1 = 2.5"`` names.

    Raises:
        ValueError: the text is none such, the entry does not exist, or the number is not finite.
    """
    place, equals, number = text.partition("=")
    name, *index = place.split() or [""]
    if not equals or name not in arrays:
        raise ValueError(f"expected a name, an index and a number, such as 'x 0 1 = 2.5'; names: {', '.join(arrays)}")
    array = arrays[name]
    try:
        entry, value = tuple(int(part) for part in index), float(number)
    except ValueError:
        raise ValueError(f"{text.strip()!r} has an index or a value that is no number, try '{name} 0 = 2.5'") from None
    if len(entry) != array.ndim or not all(0 <= i < size for i, size in zip(entry, array.shape, strict=True)):
        ranges = " ".join(f"0-{size - 1}" for size in array.shape) or "no index"
        raise ValueError(f"{name} has the indices {ranges}, got {' '.join(index) or 'none'}")
    if not np.isfinite(value):
        raise ValueError(f"the new value must be a finite number, got {number.strip()}")
    return name, entry, value


def moved(before: Trace, after: Trace) -> tuple[tuple[str, float], ...]:
    """Return the values whose gradient differs between two traces, and by how much in one entry; the most first."""
    found = []
    for name, node in after.nodes.items():
        old = before[name].gradient
        if node.gradient is not None and old is not None:
            found.append((name, float(np.abs(node.gradient - old).max())))
    return tuple(sorted((pair for pair in found if pair[1] > 0), key=lambda pair: -pair[1])[:MOST])
