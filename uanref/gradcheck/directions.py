"""The check along random directions; where kinks disturb one, it is taken again without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.acceptance import compare_all
from uanref.gradcheck.claims import Claim, weighted
from uanref.gradcheck.comparison import Comparison
from uanref.gradcheck.kinks import kinked_entries, only
from uanref.gradcheck.numerical import direction
from uanref.gradcheck.probe import Probe
from uanref.gradcheck.report import Report

RETAKES = 2


def check_directions(probe: Probe, lines: Iterable[tuple[str, tuple[int, ...]]], report: Report) -> None:
    """Compare along each line, given as the tensor's name and the direction's seed."""
    # Entries on a kink are met by every direction: they are reported once, and left out from then on.
    known = {name: np.zeros(value.shape, dtype=bool) for name, value in probe.point.items()}
    for name, seed in lines:
        along = np.where(known[name], 0.0, direction(known[name].shape, seed))
        for attempt in range(RETAKES + 1):
            if not along.any():  # every entry sits on a kink: nothing is left to compare
                break
            row = _compare(probe, probe.claim(name, "direction", along, seed), along)
            if row.slopes is None or attempt == RETAKES:
                report.rows.append(row)
                break
            for group in kinked_entries(along, partial(_meets_kink, probe, name)):
                report.rows.append(_kink(probe, name, along, group))
                known[name].reshape(-1)[group] = True
            along = np.where(known[name], 0.0, along)
            report.retakes += 1


def _compare(probe: Probe, claim: Claim, along: Array) -> Comparison:
    [row] = compare_all([claim], lambda h: [weighted(probe.slopes(claim.tensor, along, h), probe.dy)])
    return replace(row, note=probe.problems.get(claim.tensor, row.note))


def _meets_kink(probe: Probe, name: str, along: Array) -> bool:
    return _compare(probe, probe.claim(name, "kink", along), along).slopes is not None


def _kink(probe: Probe, name: str, along: Array, group: Array) -> Comparison:
    part = only(along, group)
    row = _compare(probe, probe.claim(name, "kink", part), part)
    if group.size > 1:
        return replace(row, entries=int(group.size), note="several entries meet at kinks")
    return replace(row, index=tuple(int(i) for i in np.unravel_index(int(group[0]), along.shape)))
