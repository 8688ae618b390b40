"""Losses are checked as layers with one output."""

from __future__ import annotations

from typing import Any

from uanref.backend import Array, Generator
from uanref.gradcheck.checks import check
from uanref.gradcheck.report import Report
from uanref.layers.base import Layer


def check_loss(loss: Any, prediction: Array, target: Any, **options: Any) -> Report:
    """Compare a loss's gradient with respect to its prediction with numerical derivatives.

    Args:
        loss: has ``forward(prediction, target)``, which returns a scalar, and ``backward()``, which returns its
            gradient with respect to the prediction. Left as it was found.
        prediction: float64, any shape the loss takes.
        target: held fixed.
        options: as for :func:`check`.

    Returns:
        A :class:`Report` whose only tensor is ``"x"``, the prediction.
    """
    report = check(LossLayer(loss, target), prediction, **options)
    report.subject = type(loss).__name__
    return report


class LossLayer(Layer):
    """A loss as a layer with one output: ``y = (loss,)``, ``dx = dy dloss/dprediction``. The target is a buffer.

    Args:
        loss: has ``forward(prediction, target)``, which returns a scalar, and ``backward()``.
        target: what ``forward`` takes as its second argument; moves with ``to``.
    """

    def __init__(self, loss: Any, target: Array) -> None:
        super().__init__()
        self.buffer_names = ("target",)
        self.loss, self.target = loss, target

    def draw(self, rng: Generator) -> None:
        """Keep the target where a gradient check draws points: labels and probabilities have no noise."""

    def forward(self, x: Array) -> Array:
        """Return the loss of prediction ``x``, shape (1,)."""
        self.loss.clear()  # passes that were never followed by a backward
        y: Array = self.loss.forward(x, self.target).reshape(1)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` (1,) times the loss's gradient, of the prediction's shape."""
        dx: Array = self.loss.backward() * dy
        return dx
