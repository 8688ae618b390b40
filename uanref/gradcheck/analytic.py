"""The check by the complex step, for layers whose code is analytic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from uanref.backend import Array
from uanref.gradcheck.acceptance import compare
from uanref.gradcheck.claims import Slope
from uanref.gradcheck.numerical import COMPLEX_STEP, ImaginaryPartLost, complex_step, direction
from uanref.gradcheck.probe import Probe
from uanref.gradcheck.report import Report


def check_complex_step(probe: Probe, lines: Iterable[tuple[str, tuple[int, ...]]], report: Report) -> None:
    """Compare along each line, given as the tensor's name and the direction's seed, on a copy in complex128.

    Raises:
        ImaginaryPartLost: the layer's code dropped the imaginary part.
    """
    twin = probe.in_complex()
    for name, seed in lines:

        def upstream(value: Array, name: str = name) -> Array:
            total: Array = (probe.dy * twin.evaluate(name, value)).sum()
            return total

        point = probe.point[name]
        along = direction(point.shape, seed)
        numerical = float(complex_step(upstream, point, along))
        slope = Slope(COMPLEX_STEP, numerical, sides=(numerical, numerical), bounds=(numerical, numerical))
        claim = replace(probe.claim(name, "complex step", along, seed), noise=0.0)  # nothing is subtracted
        row = compare(claim, [slope])
        if numerical == 0.0 and row.status != "ok":
            raise ImaginaryPartLost(
                f"the complex step of {report.subject} along {name} came back exactly real although backward "
                f"claims {row.analytic:.6g}: some buffer on the way is real"
            )
        report.rows.append(replace(row, note=probe.problems.get(name, "")))
