"""When a claimed value is accepted, when it is a kink, when rounding hides it, and when it fails.

The rule and its reasons: :mod:`uanref.gradcheck`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from uanref.gradcheck.claims import Claim, Slope
from uanref.gradcheck.comparison import TOLERANCE, Comparison, Status
from uanref.gradcheck.numerical import STEPS

FLOOR = 1e-2
NOISE = 4.0


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
    # 1. Which steps see a gradient of ordinary size to the tolerance? With none, rounding decides, not the layer.
    resolved = [slope for slope in tried if _resolves(claim, slope)]
    if not resolved:
        return _unresolved(claim, tried)
    # 2. The acceptance rule, for the value nearest to the analytic one. Infinite is never accepted.
    analytic = claim.analytic
    nearest = min(resolved, key=lambda slope: _distance(analytic, slope.value))
    error = abs(analytic - nearest.value)
    floor = FLOOR * claim.scale / math.sqrt(claim.size)
    bound = max(TOLERANCE * max(abs(analytic), abs(nearest.value), floor), _noise(claim, nearest))
    accepted = math.isfinite(error) and math.isfinite(bound) and error <= bound
    # 3. Else, is it at a kink, or so near to one that even the smallest step reaches over it? A kink at the point
    #    leaves a range of claims; one nearby leaves the slope of the side that lies away from it.
    status: Status = "ok" if accepted else "FAIL"
    slopes, note = None, ""
    last = resolved[-1]
    margin = 10 * bound + 100 * claim.noise / last.step
    one_sided = any(_distance(analytic, side) <= bound < math.inf for side in last.sides)
    if not accepted and (one_sided or _is_kink(resolved, margin)):
        slopes = last.bounds
        if slopes[0] - margin <= analytic <= slopes[1] + margin:
            status = "kink"
        else:
            note = "outside the slopes of a kink; if several kinks meet here, move x"
    return _comparison(claim, nearest, bound, status, slopes=slopes, note=note)


def _comparison(
    claim: Claim,
    slope: Slope,
    bound: float,
    status: Status,
    *,
    slopes: tuple[float, float] | None = None,
    note: str = "",
) -> Comparison:
    return Comparison(
        claim.tensor,
        claim.method,
        claim.analytic,
        slope.value,
        abs(claim.analytic - slope.value),
        bound,
        slope.step,
        status,
        seed=claim.seed,
        index=claim.index,
        slopes=slopes,
        along=claim.along,
        note=note,
    )


def _noise(claim: Claim, slope: Slope) -> float:
    """Return what rounding may do to a slope."""
    return NOISE * claim.noise / slope.step


def _resolves(claim: Claim, slope: Slope) -> bool:
    """Tell whether rounding leaves a gradient of ordinary size to the tolerance. What is not finite fails elsewhere.

    So does what is below the floor of an output of unit scale: a gradient that is 0 there is seen to be 0.
    """
    ordinary = max(abs(claim.analytic), abs(slope.value), claim.scale / math.sqrt(claim.size))
    negligible = FLOOR * claim.unit / math.sqrt(claim.size)
    return not _noise(claim, slope) > TOLERANCE * max(ordinary, negligible)


def _unresolved(claim: Claim, tried: Sequence[Slope]) -> Comparison:
    """Compare where rounding exceeds the tolerance at every step: it may refute a claim there, never confirm one."""
    # The step to trust: little noise, and near to what a neighbouring step says.
    values = [slope.value for slope in tried]

    def doubt(k: int) -> float:
        gaps = [_distance(values[k], values[j]) for j in (k - 1, k + 1) if 0 <= j < len(values)]
        return _noise(claim, tried[k]) + min(gaps, default=0.0)

    slope = tried[min(range(len(tried)), key=doubt)]
    explained = _noise(claim, slope)
    within = _distance(claim.analytic, slope.value) <= explained < math.inf
    return _comparison(
        claim,
        slope,
        explained,
        "not resolvable" if within else "FAIL",
        note="rounding hides more than the tolerance: take the level out of y, move x near 0",
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
