"""The check of every entry: gradients and Jacobians of tensors that are small enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.acceptance import compare_all
from uanref.gradcheck.claims import Claim, Slope, separate, weighted
from uanref.gradcheck.comparison import Comparison
from uanref.gradcheck.probe import Probe
from uanref.gradcheck.report import Report

JACOBIAN_ENTRIES = 1024  # "auto" takes the full Jacobian up to here


def check_entries(probe: Probe, jacobian: bool | Literal["auto"], report: Report) -> None:
    """Compare every entry of the gradients for dy, and of the Jacobians: the gradients for each unit vector dy."""
    outputs = list(np.ndindex(probe.y.shape))
    names = [
        name
        for name, value in probe.point.items()
        if jacobian is True or (jacobian == "auto" and value.size * len(outputs) <= JACOBIAN_ENTRIES)
    ]
    if not names:
        return
    # 1. One backward pass per output gives one row of every analytic Jacobian.
    rows: list[dict[str, Array]] = []
    for output in outputs:
        gradients, _ = probe.pull_back(_unit(probe.y, output))
        rows.append({name: gradients[name] for name in names})
    # 2. One line along each axis gives one column of the numerical Jacobian, and one entry of the gradient.
    for name in names:
        value, gradient = probe.point[name], probe.gradients[name]
        compared: list[Comparison] = []
        for index in np.ndindex(value.shape):
            claims = [
                Claim(
                    name,
                    "gradient",
                    float(gradient[index]),
                    probe.scale,
                    probe.unit,
                    value.size,
                    probe.noise,
                    index=index,
                )
            ]
            claims += [
                Claim(
                    name,
                    "jacobian",
                    float(row[name][index]),
                    probe.variation,
                    probe.unit / probe.norm_dy,
                    value.size,
                    float(probe.rounding[output]),
                    index=(*output, *index),
                )
                for output, row in zip(outputs, rows, strict=True)
            ]
            axis = _unit(value, index)

            def measure(h: float, name: str = name, axis: Array = axis) -> list[Slope]:
                each = probe.slopes(name, axis, h)
                return [weighted(each, probe.dy), *separate(each)]

            compared += compare_all(claims, measure)
        for method in ("gradient", "jacobian"):
            report.rows.append(_worst([row for row in compared if row.method == method], probe.problems.get(name, "")))


def _unit(like: Array, index: tuple[int, ...]) -> Array:
    unit = np.zeros_like(like)
    unit[index] = 1.0
    return unit


def _worst(rows: list[Comparison], problem: str) -> Comparison:
    """Return the worst row: a failure before a kink before an accepted one."""
    rank = {"ok": 0, "kink": 1, "not resolvable": 2, "FAIL": 3}
    worst = max(rows, key=lambda row: (rank[row.status], row.relative))
    kinks = sum(row.status == "kink" for row in rows)
    note = problem or (f"{kinks} of {len(rows)} entries at kinks" if kinks else worst.note)
    return replace(worst, entries=len(rows), note=note)
