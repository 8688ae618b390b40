"""The training loop: forward, loss, backward, step; everything it measures stays on the device until a report."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from uanref import backend
from uanref.backend import Array
from uanref.data.batches import Batches
from uanref.data.sets import Dataset, Splits
from uanref.layers.base import Layer, Sequential, choice, count, number
from uanref.training.history import Epoch, History
from uanref.training.optimizers import Optimizer, clip_grad_norm

PROGRESS = ("auto", "bar", "lines", "none")


class Loss(Protocol):
    """What the trainer asks of a loss: the mean over a batch, and its gradient."""

    def forward(self, logits: Array, labels: Array) -> Array:
        """Return the loss, a 0-d array on the device of ``logits``."""

    def backward(self) -> Array:
        """Return dL/dlogits of the latest forward."""


class NonFiniteError(ArithmeticError):
    """A loss, a layer's output or a gradient became NaN or infinite; the message names the first one."""


class Trainer:
    """Trains a classifier and keeps a :class:`History`.

    Args:
        model: any layer from a batch of images to logits ``(N, classes)``.
        loss: such as ``SoftmaxCrossEntropy()``.
        optimizer: made from ``model.parameters()``.
        splits: from ``data.load``; trained on ``splits.train``, validated on ``splits.validation``.
        batch_size: samples per step, >= 1.
        schedule: step (0, 1, ...) -> learning rate; None keeps the optimizer's.
        clip_norm: largest norm of all gradients together, None does not clip.
        augment: applied to training batches, see ``data.augment``.
        seed: of shuffling and augmentation, >= 0; the same seed gives the same batches for every model.
        report_every: steps between reports, which read the device; None reports once per epoch.
            Every epoch ends with one. Non-finite numbers are noticed at a report.
        progress: ``"bar"``, ``"lines"`` (one per epoch), ``"none"``, or ``"auto"``: a bar on a terminal, else lines.
        console: where progress goes; standard error if None.

    Attributes:
        history: what was measured so far.
        epoch: how many epochs are finished.
        rng: the generator that shuffles and augments.

    Raises:
        ValueError: a number out of range, an unknown ``progress``.
        TypeError: something that is no number.
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        splits: Splits,
        *,
        batch_size: int = 64,
        schedule: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        augment: Callable[..., Array] | None = None,
        seed: int = 0,
        report_every: int | None = None,
        progress: str = "auto",
        console: Console | None = None,
    ) -> None:
        self.model, self.loss, self.optimizer, self.splits = model, loss, optimizer, splits
        self.batch_size = count("batch_size", batch_size)
        self.schedule = schedule
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0.0, open_low=True)
        self.augment = augment
        self.seed = count("seed", seed, least=0)
        self.report_every = None if report_every is None else count("report_every", report_every)
        self.console = Console(stderr=True) if console is None else console
        self.progress = choice("progress", progress, PROGRESS)
        if progress == "auto":
            self.progress = "bar" if self.console.is_terminal else "lines"
        self.history = History()
        self.epoch = 0
        self.rng = backend.module("numpy").random.default_rng(self.seed)
        self.batches = Batches(splits.train, self.batch_size, rng=self.rng, shuffle=True, augment=augment)

    def fit(self, epochs: int) -> History:
        """Train ``epochs`` more epochs and return the history.

        Ctrl-C ends it cleanly with ``history.stopped == "interrupted"``: finished epochs stay measured, the steps of
        the unfinished one stay in the weights, and another ``fit`` starts that epoch anew.

        Raises:
            NonFiniteError: training diverged; ``history`` keeps the epochs before and ``history.stopped`` the reason.
        """
        raise NotImplementedError

    def evaluate(self, dataset: Dataset, batch_size: int = 256) -> tuple[float, float]:
        """Return the mean loss and the accuracy on ``dataset``, see :func:`evaluate`."""
        return evaluate(self.model, self.loss, dataset, batch_size)


def evaluate(model: Layer, loss: Loss, dataset: Dataset, batch_size: int = 256) -> tuple[float, float]:
    """Return the mean loss and the accuracy (a fraction) of ``model`` on ``dataset``.

    Runs in eval mode and keeps nothing for a backward pass; every layer gets its mode back.
    """
    raise NotImplementedError
