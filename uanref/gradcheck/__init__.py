"""Numerical gradients: is a hand-derived backward pass the derivative of its forward pass?

A layer is a function ``y = f(x, parameters)``. For a random upstream gradient ``dy`` its backward
pass claims the gradient ``g`` of the scalar ``<dy, f>`` with respect to the input and to every
parameter. :func:`check` holds three numbers against that claim, for each tensor by itself:

1. **Directions.** ``<g, u>`` against ``d/dt <dy, f(v + t u)>`` at t = 0 by fourth-order central
   differences, for a few directions u with random entries in [-1, 1].
2. **The full Jacobian**, where it is small: every entry of ``g``, and every entry of
   ``J[j, i] = dy_j / dv_i`` (one backward pass per output) against differences along each axis.
3. **The complex step**, on request: ``Im <dy, f(v + i h u)> / h`` with h = 1e-30, which subtracts
   nothing and is exact to rounding. It needs analytic code: no comparison, no absolute value,
   no maximum, no real buffer on the way from the perturbed tensor to y. Which layers of this
   package are analytic is stated case by case in ``uanref.verify.catalogue.cases``.

The upstream gradient is standard normal, never ones: a normalized output sums to a constant, so
ones would make every gradient of a normalization layer 0 and hide any mistake in it.

**Points.** Where a layer starts, too much is special: with gamma = 1 a backward pass that forgets gamma is right, with
uniform priors one that puts 1/K for lambda. So :func:`check` looks at two points drawn around the layer's values
(:func:`drawn`): parameters and buffers get noise, variances a log-normal factor, integers and booleans stay. A layer
for which that leaves the domain defines ``draw(rng)``. ``at="given"`` stays where the layer is.

**Acceptance.** With a the analytic and n the numerical value,

.. math:: |a - n| <= 10^{-7} max(|a|, |n|, 10^{-2} ||dy|| ||y|| / sqrt(size)).

``size`` is the number of entries of the whole tensor that is perturbed (x, or one parameter), for
directions and for single entries alike; ``dy`` is the upstream gradient in use, which for row j of
the Jacobian is the j-th unit vector. The last term is one hundredth of the length that ``g`` would
have if x and y had unit scale. It is there because some gradients are exactly 0 (the input of a
normalization over two samples) and cannot be met in relative terms. ``||y||`` is the length of what varies in y, its
level taken out: a level of 1e6 must not make room for wrong claims
(:func:`uanref.gradcheck.scale.variation` says what a level is).

**Rounding.** A quotient is known to about noise / h, where noise is what rounding does to ``<dy, y>``: eps ``|y|``,
and what the last digits of x and the parameters change, which is measured. Four times that much is always accepted,
but only where it is below 1e-7 of an ordinary gradient (or below the floor of an output of unit scale). Where it is
more at every step, the check can refute a claim, not confirm it: the status is then ``FAIL`` or ``not resolvable``,
and neither is ok. Take the level out of y, or move x near 0.

**Steps.** The differences take h = 1e-3 first and, where that disagrees, 1e-4 and 1e-5; the value
nearest to the analytic one is reported, with its step. This cannot excuse a wrong gradient: near
a smooth point all three agree with each other to much less than any mistake worth the name. The
steps are absolute: check a layer where its input has about unit scale.

**Kinks.** Where the slopes to the left and to the right differ (ReLU at 0, a tie in max pooling) there is no
derivative to compare with. The slopes of each output bound what ``<dy, .>`` may claim,

.. math:: sum_j min(dy_j l_j, dy_j r_j) <= a <= sum_j max(dy_j l_j, dy_j r_j).

A value inside is reported with the status ``kink`` and both bounds, a value outside is a failure. Where a kink is
not at the point but within reach of the smallest step, the slope on one side is still the derivative: a value that
agrees with it to the bound above is reported as a kink, too. The kinked
entries are found by bisection, at most 256 trials per direction, and the direction is then taken again
without them, at most twice, so that a mistake elsewhere still shows.

**The contract.** :func:`check` sees one plain call. :func:`check_layer` adds what a layer promises to whoever uses it:
float32, arrays in any order of memory, later and pending calls, parameters that are assigned before and after forward,
kept results, accumulation, arguments that nobody writes to.
"""

from uanref.gradcheck.acceptance import FLOOR, NOISE
from uanref.gradcheck.checks import assert_ok, check
from uanref.gradcheck.comparison import TOLERANCE, Comparison
from uanref.gradcheck.contract import LayerReport, check_layer
from uanref.gradcheck.directions import RETAKES
from uanref.gradcheck.entries import JACOBIAN_ENTRIES
from uanref.gradcheck.kinks import KINK_TRIALS
from uanref.gradcheck.loss import LossLayer, check_loss
from uanref.gradcheck.numerical import (
    COMPLEX_STEP,
    STEPS,
    ImaginaryPartLost,
    central_difference,
    complex_step,
    direction,
    upstream,
)
from uanref.gradcheck.points import POINTS, SPREAD, drawn
from uanref.gradcheck.report import Report

__all__ = [
    "COMPLEX_STEP",
    "FLOOR",
    "JACOBIAN_ENTRIES",
    "KINK_TRIALS",
    "NOISE",
    "POINTS",
    "RETAKES",
    "SPREAD",
    "STEPS",
    "TOLERANCE",
    "Comparison",
    "ImaginaryPartLost",
    "LayerReport",
    "LossLayer",
    "Report",
    "assert_ok",
    "central_difference",
    "check",
    "check_layer",
    "check_loss",
    "complex_step",
    "direction",
    "drawn",
    "upstream",
]
