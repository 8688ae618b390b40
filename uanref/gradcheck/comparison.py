"""One claimed value beside its numerical one: when it is accepted, when it is a kink, when it fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.numerical import STEPS, Slopes

Status = Literal["ok", "FAIL", "kink"]

TOLERANCE = 1e-7
FLOOR = 1e-2


@dataclass(frozen=True)
class Claim:
    """What the backward pass says of the derivative of ``<dy, y>`` along one line.

    Attributes:
        tensor: the perturbed tensor, see :class:`Comparison`; so are ``method``, ``seed``, ``index`` and ``along``.
        analytic: the claimed value.
        scale: ``||dy|| ||y||``, in whose units rounding errors come.
        size: entries of the whole tensor.
    """

    tensor: str
    method: str
    analytic: float
    scale: float
    size: int
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


@dataclass(frozen=True)
class Comparison:
    """One analytic value beside its numerical one: a direction, the worst entry of a Jacobian, or a kinked entry.

    Attributes:
        tensor: ``"x"`` or the parameter's dotted name.
        method: ``"direction"``, ``"gradient"`` (single entries), ``"jacobian"``, ``"complex step"`` or ``"kink"``.
        seed: seed of the direction, for :func:`direction`; None where an axis was taken.
        index: the entry (Jacobian: output indices, then the tensor's), None for a direction.
        analytic: value from the backward pass, ``<g, u>`` or one entry.
        numerical: value from differences or the complex step.
        error: ``|analytic - numerical|``.
        bound: what the error may be.
        step: h of the numerical value.
        status: ``"ok"``, ``"FAIL"`` or ``"kink"``.
        slopes: at a kink, the bounds that the one-sided slopes give.
        entries: how many numbers were compared (more than one for a Jacobian: the worst is shown).
        along: the first entries of the direction.
        note: what else there is to say.
    """

    tensor: str
    method: str
    analytic: float
    numerical: float
    error: float
    bound: float
    step: float
    status: Status
    seed: tuple[int, ...] | None = None
    index: tuple[int, ...] | None = None
    slopes: tuple[float, float] | None = None
    entries: int = 1
    along: tuple[float, ...] = ()
    note: str = ""

    @property
    def relative(self) -> float:
        """The error in units of the larger value or the floor: at most 1e-7 is accepted."""
        if self.error == 0:
            return 0.0
        return self.error / self.bound * TOLERANCE if math.isfinite(self.error) else math.inf

    def __str__(self) -> str:
        if self.seed is not None:
            where = f"direction seed {list(self.seed)} u = ({', '.join(f'{v:+.3f}' for v in self.along)}, ...)"
        elif self.index is not None:
            where = f"entry {self.index}" + (f", worst of {self.entries}" if self.entries > 1 else "")
        else:
            where = f"{self.entries} entries"
        text = (
            f"{self.status:4} {self.tensor}, {self.method}, {where}: analytic {self.analytic:.12e}, "
            f"numerical {self.numerical:.12e} (h = {self.step:g}), error {self.error:.3e}, bound {self.bound:.3e}"
        )
        if self.slopes is not None:
            text += f", one-sided slopes give {self.slopes[0]:.6e} to {self.slopes[1]:.6e}"
        return text + (f"; {self.note}" if self.note else "")


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


# --- comparing ------------------------------------------------------------------------------------


def compare_all(claims: Sequence[Claim], measure: Callable[[float], list[Slope]]) -> list[Comparison]:
    """Compare each claim with its slope, ``measure(h)[i]``, by smaller and smaller steps until all are accepted."""
    tried: list[list[Slope]] = []
    compared: list[Comparison] = []
    for h in STEPS:
        tried.append(measure(h))
        compared = [compare(claim, slopes) for claim, slopes in zip(claims, zip(*tried, strict=True), strict=True)]
        if all(comparison.status == "ok" for comparison in compared):
            break
    return compared


def compare(claim: Claim, tried: Sequence[Slope]) -> Comparison:
    """Compare a claim with the slopes measured so far, from the largest step to the smallest.

    A comparison at a kink has ``slopes``; one that is accepted never has.
    """
    analytic = claim.analytic
    # 1. The acceptance rule, for the value nearest to the analytic one. Infinite is never accepted.
    nearest = min(tried, key=lambda slope: _distance(analytic, slope.value))
    error = abs(analytic - nearest.value)
    floor = FLOOR * claim.scale / math.sqrt(claim.size)
    bound = TOLERANCE * max(abs(analytic), abs(nearest.value), floor)
    accepted = math.isfinite(error) and math.isfinite(bound) and error <= bound
    # 2. Else, is it at a kink, or so near to one that even the smallest step reaches over it? A kink at the point
    #    leaves a range of claims; one nearby leaves the slope of the side that lies away from it.
    status: Status = "ok" if accepted else "FAIL"
    slopes, note = None, ""
    last = tried[-1]
    margin = 10 * bound + 100 * float(np.finfo("float64").eps) * claim.scale / last.step
    one_sided = any(_distance(analytic, side) <= bound < math.inf for side in last.sides)
    if not accepted and (one_sided or _is_kink(tried, margin)):
        slopes = last.bounds
        if slopes[0] - margin <= analytic <= slopes[1] + margin:
            status = "kink"
        else:
            note = "outside the slopes of a kink; if several kinks meet here, move x"
    return Comparison(
        claim.tensor,
        claim.method,
        analytic,
        nearest.value,
        error,
        bound,
        nearest.step,
        status,
        seed=claim.seed,
        index=claim.index,
        slopes=slopes,
        along=claim.along,
        note=note,
    )


def _is_kink(tried: Sequence[Slope], margin: float) -> bool:
    """Tell a kink from the other two reasons for which the slopes measured on the two sides differ.

    Curvature: then they come together as h^3, to one thousandth from one step to the next. Rounding: then they differ
    by no more than the margin allows. At a kink they differ by the same amount, however small the step; 0.03 is the
    geometric mean of one thousandth and that. Where the function jumps they differ ten times more at each step: no
    kink, there every claim is wrong.
    """
    if len(tried) < 2:
        return False
    before, last = tried[-2].jump, tried[-1].jump
    return last > 10 * margin and 0.03 * before < last < 3.0 * before


def _distance(a: float, b: float) -> float:
    return math.inf if math.isnan(a - b) else abs(a - b)
