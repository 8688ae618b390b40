"""What is compared: a value that the backward pass claims, and the slope that is measured in its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.numerical import Slopes


@dataclass(frozen=True)
class Claim:
    """What the backward pass says of the derivative of ``<dy, y>`` along one line.

    Attributes:
        tensor: the perturbed tensor, see :class:`~uanref.gradcheck.comparison.Comparison`; so are ``method``, ``seed``,
            ``index`` and ``along``.
        analytic: the claimed value.
        scale: ``||dy|| s``, with the length s of what varies in y: :func:`uanref.gradcheck.scale.variation`.
        unit: ``||dy||`` times the length of y, but no more than unit scale has.
        size: entries of the whole tensor.
        noise: how far rounding moves ``<dy, y>`` from one evaluation to the next; a quotient with step h is known to
            about ``noise / h``. 0 where nothing is subtracted (the complex step).
    """

    tensor: str
    method: str
    analytic: float
    scale: float
    unit: float
    size: int
    noise: float
    seed: tuple[int, ...] | None = None
    index: tuple[int, ...] | None = None
    along: tuple[float, ...] = ()


@dataclass(frozen=True)
class Slope:
    """The derivative of ``<dy, y>`` along one line as measured with one step.

    Attributes:
        step: h.
        value: by the central difference, or by the complex step.
        sides: the slopes on the left and on the right.
        bounds: what may be claimed at a kink; wider than ``sides`` where one output bends up and another down.
    """

    step: float
    value: float
    sides: tuple[float, float]
    bounds: tuple[float, float]

    @property
    def jump(self) -> float:
        """The width of the bounds: 0 where the function is smooth, but for rounding and curvature."""
        return self.bounds[1] - self.bounds[0]


# --- from the slopes of all outputs to those of <dy, y> -------------------------------------------------


def weighted(each: Slopes, dy: Array) -> Slope:
    """Return the slope of ``<dy, y>``, and the bounds that the outputs' one-sided slopes give."""
    left, right = dy * each.left, dy * each.right
    sides = float(left.sum()), float(right.sum())
    bounds = float(np.minimum(left, right).sum()), float(np.maximum(left, right).sum())
    return Slope(each.step, float((dy * each.central).sum()), sides, bounds)


def separate(each: Slopes) -> list[Slope]:
    """Return the slopes of the single outputs: what :func:`weighted` gives for every unit vector dy."""
    lists = (array.reshape(-1).tolist() for array in (each.central, each.left, each.right))
    return [
        Slope(each.step, value, (left, right), (min(left, right), max(left, right)))
        for value, left, right in zip(*lists, strict=True)
    ]
