"""One claimed value beside its numerical one, and what became of it: a row of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "FAIL", "kink", "not resolvable"]

TOLERANCE = 1e-7


@dataclass(frozen=True)
class Comparison:
    """One analytic value beside its numerical one: a direction, the worst entry of a Jacobian, or a kinked entry.

    Attributes:
        tensor: ``"x"`` or the parameter's dotted name.
        method: ``"direction"``, ``"gradient"`` (single entries), ``"jacobian"``, ``"complex step"`` or ``"kink"``.
        seed: seed of the direction, for :func:`~uanref.gradcheck.numerical.direction`; None where an axis was taken.
        index: the entry (Jacobian: output indices, then the tensor's), None for a direction.
        analytic: value from the backward pass, ``<g, u>`` or one entry.
        numerical: value from differences or the complex step.
        error: ``|analytic - numerical|``.
        bound: what the error may be; where it is not resolvable, what rounding alone explains.
        step: h of the numerical value.
        status: ``"ok"``, ``"FAIL"``, ``"kink"`` or ``"not resolvable"``.
        slopes: at a kink, the bounds that the one-sided slopes give.
        entries: how many numbers were compared (more than one for a Jacobian: the worst is shown).
        along: the first entries of the direction.
        note: what else there is to say.
        point: the number of the drawn point (:func:`~uanref.gradcheck.points.drawn`); None at the layer's own values.
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
    point: int | None = None

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
        if self.point is not None:
            where = f"point {self.point}, {where}"
        text = (
            f"{self.status:4} {self.tensor}, {self.method}, {where}: analytic {self.analytic:.12e}, "
            f"numerical {self.numerical:.12e} (h = {self.step:g}), error {self.error:.3e}, bound {self.bound:.3e}"
        )
        if self.slopes is not None:
            text += f", one-sided slopes give {self.slopes[0]:.6e} to {self.slopes[1]:.6e}"
        return text + (f"; {self.note}" if self.note else "")
