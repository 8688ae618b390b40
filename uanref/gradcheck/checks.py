"""What a user calls: ``check`` and ``assert_ok``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.gradcheck.analytic import check_complex_step
from uanref.gradcheck.directions import check_directions
from uanref.gradcheck.entries import check_entries
from uanref.gradcheck.points import POINTS, drawn, same_values, settled
from uanref.gradcheck.probe import Probe
from uanref.gradcheck.report import Report
from uanref.layers.base import Layer, choice, count


@backend.quiet_underflow()
def check(
    layer: Layer,
    x: Array,
    *,
    seed: int = 0,
    directions: int = 3,
    jacobian: bool | Literal["auto"] = "auto",
    complex_step: bool = False,
    at: Literal["drawn", "given"] = "drawn",
) -> Report:
    """Compare a layer's backward pass with numerical derivatives of its forward pass, in the mode it is in.

    Args:
        layer: in float64; the check works on a deep copy and leaves it as it was found. In train mode one forward
            pass first settles data-dependent starts; from then on the state is put back before every evaluation,
            so that EM, running averages and dropout are one function.
        x: the input, float64, any shape the layer takes; never changed.
        seed: of the upstream gradient (:func:`~uanref.gradcheck.numerical.upstream`) and the directions.
        directions: random directions per tensor, >= 0.
        jacobian: whether to compare every entry; ``"auto"`` does so at the first point for tensors with
            ``size * y.size <= 1024``.
        complex_step: whether to take the complex step too, on a copy converted to complex128. The default is
            not to: only the caller knows that the layer's code is analytic.
        at: ``"drawn"``: at two points drawn around the layer's values (:func:`~uanref.gradcheck.points.drawn`);
            ``"given"``: at those values.

    Returns:
        A :class:`Report`; ``report.ok`` tells, ``print(report)`` explains.

    Raises:
        TypeError: the layer or x is not in float64.
        ValueError: a negative number of directions, nothing left to compare, or an unknown ``at``.
        RuntimeError: the forward pass gives different outputs from the same state.
        ImaginaryPartLost: the complex step was asked for and the code dropped the imaginary part.
    """
    _require_float64(layer, x)
    count("directions", directions, 0)
    choice("at", at, ("drawn", "given"))
    mode = "train" if layer.training else "eval"
    report = Report(f"{type(layer).__name__} ({mode} mode)", tuple(x.shape), seed)
    layer = settled(layer, x)
    points = [drawn(layer, seed, point) for point in range(POINTS)] if at == "drawn" else []
    if not points or same_values(points[0], layer):  # nothing to draw: a ReLU has one point
        _check_point(Probe(layer, x, seed), directions, jacobian, complex_step, report)
        points = []
    for point, twin in enumerate(points):
        found = Report(report.subject, report.shape, seed)
        entries = jacobian if point == 0 or jacobian is True else False  # a second time, directions are enough
        probe = Probe(twin, x, seed)
        _check_point(probe, directions, entries, complex_step, found)
        outside = "" if np.isfinite(probe.y).all() else "y is not finite at this point: define draw(rng), or at='given'"
        report.rows += [replace(row, point=point, note=row.note or outside) for row in found.rows]
        report.retakes += found.retakes
    if not report.rows:
        raise ValueError("gradcheck.check compared nothing: give directions >= 1 or jacobian=True")
    return report


def _check_point(
    probe: Probe, directions: int, jacobian: bool | Literal["auto"], complex_step: bool, report: Report
) -> None:
    lines = [(name, (report.seed, number, k)) for number, name in enumerate(probe.point) for k in range(directions)]
    check_directions(probe, lines, report)
    check_entries(probe, jacobian, report)
    if complex_step:
        check_complex_step(probe, lines, report)


def assert_ok(layer: Layer, x: Array, **options: Any) -> None:
    """Run :func:`check` with the same arguments and raise AssertionError with the whole report if it is not ok."""
    report = check(layer, x, **options)
    if not report.ok:
        raise AssertionError(str(report))


def _require_float64(layer: Layer, x: Array) -> None:
    backend.name_of(x)
    if x.dtype != np.float64:
        raise TypeError(f"a gradient check needs float64, got x of {x.dtype}: use x.astype('float64')")
    for path, module in layer.modules():
        if module.dtype is not None and module.dtype != np.float64:
            raise TypeError(
                f"a gradient check needs float64, but {path or type(layer).__name__} holds {module.dtype}: "
                "use layer.to('float64')"
            )
