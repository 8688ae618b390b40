"""What a training run measured: a plain record that turns into JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """The numbers of one epoch.

    ``train_loss`` and ``train_accuracy`` are means over the epoch's batches as they were
    trained on (train mode, augmented, weights moving); the validation numbers come
    from one pass in eval mode after the epoch. Accuracies are fractions in [0, 1].

    Attributes:
        epoch: 1 for the first.
        seconds: wall time of the training steps alone, without the validation pass.
        lr: learning rate of the epoch's last step.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    lr: float


@dataclass
class History:
    """All epochs of a run, and the norm of every parameter's gradient over time.

    Attributes:
        epochs: one :class:`Epoch` each, in order.
        steps: the number of training steps done at each report (by default one report per epoch).
        gradient_norms: by dotted parameter name, one number per report: the mean of
            ``||dL/dparameter||_2`` over the steps since the report before. Measured before clipping.
        stopped: why training ended early (``"interrupted"``, or the sentence of a
            ``NonFiniteError``), empty if it did not.
    """

    epochs: list[Epoch] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    gradient_norms: dict[str, list[float]] = field(default_factory=dict)
    stopped: str = ""

    def __len__(self) -> int:
        return len(self.epochs)

    def add_report(self, step: int, norms: Mapping[str, float]) -> None:
        """Append one report: the steps done so far and each parameter's mean gradient norm."""
        self.steps.append(step)
        for name, norm in norms.items():
            self.gradient_norms.setdefault(name, []).append(norm)

    def cut(self, epochs: int, reports: int) -> None:
        """Keep the first ``epochs`` epochs and ``reports`` reports: the rest is of an epoch that did not end."""
        del self.epochs[epochs:], self.steps[reports:]
        for norms in self.gradient_norms.values():
            del norms[reports:]
        if reports == 0:
            self.gradient_norms.clear()

    def epochs_to(self, accuracy: float, which: str = "validation") -> int | None:
        """Return the first epoch (1, 2, ...) whose accuracy reached ``accuracy``, None if none did.

        Args:
            accuracy: a fraction in [0, 1].
            which: ``"validation"`` or ``"train"``.

        Raises:
            ValueError: another ``which``.
        """
        if which not in ("train", "validation"):
            raise ValueError(f"which must be 'train' or 'validation', got {which!r}")
        for epoch in self.epochs:
            if getattr(epoch, f"{which}_accuracy") >= accuracy:
                return epoch.epoch
        return None

    def curve(self, name: str) -> list[float]:
        """Return one field of every epoch, such as ``curve("validation_accuracy")``.

        Raises:
            AttributeError: :class:`Epoch` has no such field.
        """
        return [getattr(epoch, name) for epoch in self.epochs]

    def seconds_per_epoch(self) -> float:
        """Return the mean training time of an epoch, NaN before the first."""
        return math.fsum(self.curve("seconds")) / len(self) if self.epochs else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists, strings and numbers alone; NaN and infinity, which JSON lacks, become None."""
        return {
            "epochs": [{name: _to_json(value) for name, value in asdict(epoch).items()} for epoch in self.epochs],
            "steps": list(self.steps),
            "gradient_norms": {name: [_to_json(v) for v in norms] for name, norms in self.gradient_norms.items()},
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        try:
            return cls(
                epochs=[
                    Epoch(**{name: _from_json(value) for name, value in epoch.items()}) for epoch in data["epochs"]
                ],
                steps=[int(step) for step in data["steps"]],
                gradient_norms={
                    str(name): [float(_from_json(v)) for v in norms] for name, norms in data["gradient_norms"].items()
                },
                stopped=str(data["stopped"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a training history: {error}") from error


def _to_json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _from_json(value: Any) -> Any:
    return math.nan if value is None else value
