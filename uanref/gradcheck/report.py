"""What a check found, in an order that a reader needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from uanref import backend
from uanref.gradcheck.comparison import Comparison


@dataclass
class Report:
    """All comparisons of one check; ``print(report)`` shows what is needed to repeat it.

    Attributes:
        subject: the layer's class and mode.
        shape: shape of x.
        seed: seed of the upstream gradient and, with numbers appended, of every direction.
        rows: the comparisons, tensor by tensor.
        retakes: directions that were taken again without their kinked entries.
    """

    subject: str
    shape: tuple[int, ...]
    seed: int
    rows: list[Comparison] = field(default_factory=list)
    retakes: int = 0

    @property
    def ok(self) -> bool:
        """True if nothing failed; kinks are not failures, see :attr:`kinks`."""
        return not self.failures

    @property
    def failures(self) -> list[Comparison]:
        """The comparisons outside the bound."""
        return [row for row in self.rows if row.status == "FAIL"]

    @property
    def kinks(self) -> list[Comparison]:
        """The non-smooth entries: nothing could be compared there."""
        return [row for row in self.rows if row.status == "kink"]

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest error in units of its bound, kinks left out; None if there is none."""
        return max((row for row in self.rows if row.status != "kink"), key=lambda row: row.relative, default=None)

    @property
    def tensors(self) -> list[str]:
        """Names of the checked tensors: ``"x"`` and the parameters."""
        return list(dict.fromkeys(row.tensor for row in self.rows))

    def __str__(self) -> str:
        verdict = "passed" if self.ok else f"FAILED in {len(self.failures)} of {len(self.rows)} comparisons"
        head = (
            f"gradient check of {self.subject} {verdict}: x {backend.shape_text(self.shape)}, seed {self.seed}, "
            f"{len(self.tensors)} tensors, {len(self.kinks)} kinks, {self.retakes} directions retaken"
        )
        order = {"FAIL": 0, "kink": 1, "ok": 2}
        rows = sorted(self.rows, key=lambda row: order[row.status])
        return "\n".join([head, *(f"  {row}" for row in rows)])
