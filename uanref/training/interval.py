"""The steps between two reports: summed on the device, so that a report is one transfer."""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array


class Interval:
    """What happened since the last report.

    Attributes:
        steps: how many steps were added.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._sums: Array | None = None
        self._first_bad: Array | None = None

    def add(self, step: int, numbers: Array) -> None:
        """Take in one step's numbers, ``(n,)``, on their device."""
        xp = backend.namespace(numbers)
        bad = xp.where(xp.isfinite(numbers), math.inf, float(step))
        self._sums = numbers if self._sums is None else self._sums + numbers
        self._first_bad = bad if self._first_bad is None else xp.minimum(self._first_bad, bad)
        self.steps += 1

    def read(self) -> tuple[list[float], list[float]]:
        """Return the sums, and for every number the first step where it was not finite (or infinity).

        Raises:
            RuntimeError: no step was added.
        """
        if self._sums is None or self._first_bad is None:
            raise RuntimeError("nothing to report: no step was added")
        both = backend.namespace(self._sums).concatenate([self._sums, self._first_bad])
        numbers = [float(v) for v in backend.to_host(both)]
        return numbers[: len(self._sums)], numbers[len(self._sums) :]
