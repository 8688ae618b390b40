"""What a check found, in an order that a reader needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from uanref import backend
from uanref.gradcheck.comparison import Comparison


@dataclass
class Report:
    """All comparisons of one check.

    ``print(report)`` is one line for a check that passed; else it shows every comparison that did not, with what is
    needed to repeat it, and one line for each tensor that is right. All of them are in ``rows``.

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
        """True if nothing failed and nothing is unresolved; kinks are not failures, see :attr:`kinks`."""
        return not self.failures and not self.unresolved

    @property
    def failures(self) -> list[Comparison]:
        """The comparisons outside the bound."""
        return [row for row in self.rows if row.status == "FAIL"]

    @property
    def unresolved(self) -> list[Comparison]:
        """The comparisons that rounding hides: they neither passed nor failed."""
        return [row for row in self.rows if row.status == "not resolvable"]

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

    @property
    def verdict(self) -> str:
        """``"passed"``, or in how many comparisons it failed or saw nothing for rounding."""
        if self.failures:
            return f"FAILED in {len(self.failures)} of {len(self.rows)} comparisons"
        if self.unresolved:
            return (
                f"not resolvable here: rounding hides {len(self.unresolved)} of {len(self.rows)} comparisons "
                "(take the level out of y, move x near 0)"
            )
        return "passed"

    def __str__(self) -> str:
        head = (
            f"gradient check of {self.subject} {self.verdict}: x {backend.shape_text(self.shape)}, seed {self.seed}, "
            f"{len(self.tensors)} tensors, {len(self.kinks)} kinks, {self.retakes} directions retaken"
        )
        if self.ok:  # one line; what met a kink is worth a word
            notes = dict.fromkeys(row.note for row in self.kinks if row.note)
            return f"{head}{': ' if notes else ''}{'; '.join(notes)}"
        order = {"FAIL": 0, "not resolvable": 1, "kink": 2}
        rows = sorted((row for row in self.rows if row.status != "ok"), key=lambda row: order[row.status])
        for tensor in self.tensors:  # and of a tensor that is right, the comparison that came nearest to the bound
            own = [row for row in self.rows if row.tensor == tensor]
            if all(row.status == "ok" for row in own):
                rows.append(max(own, key=lambda row: row.relative))
        return "\n".join([head, *(f"  {row}" for row in rows)])
