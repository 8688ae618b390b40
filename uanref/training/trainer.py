"""The training loop: forward, loss, backward, step; everything it measures stays on the device until a report."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from uanref import backend
from uanref.backend import Array, DType
from uanref.blocking import sum_rows
from uanref.data.augment import Augmentation
from uanref.data.batches import Batches
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.base import Layer, Sequential, choice, count, number
from uanref.losses import Loss
from uanref.training.history import Epoch, History
from uanref.training.optimizers import Optimizer, clip_grad_norm

PROGRESS = ("auto", "bar", "lines", "none")
EVALUATION_BATCH = 256


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
        augment: Augmentation | None = None,
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
        self._validation = Batches(splits.validation, EVALUATION_BATCH)

    def fit(self, epochs: int) -> History:
        """Train ``epochs`` more epochs and return the history.

        Ctrl-C ends it cleanly with ``history.stopped == "interrupted"``: finished epochs stay measured, the steps of
        the unfinished one stay in the weights, and another ``fit`` starts that epoch anew.

        Raises:
            NonFiniteError: training diverged; ``history`` keeps the epochs before and ``history.stopped`` the reason.
        """
        last = self.epoch + count("epochs", epochs)
        self.history.stopped = ""
        self.model.train()
        # NumPy would warn of every overflow on the way; the guard says it once, by name.
        with _Progress(self.progress, self.console, last) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                while self.epoch < last:
                    self._train_epoch(progress)
            except KeyboardInterrupt:
                self.history.stopped = "interrupted"
            except NonFiniteError as error:
                self.history.stopped = str(error)
                raise
            finally:
                self.model.clear()
                self.loss.clear()
        return self.history

    def evaluate(self, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
        """Return the mean loss and the accuracy on ``dataset``, see :func:`evaluate`."""
        return evaluate(self.model, self.loss, dataset, batch_size)

    def _train_epoch(self, progress: _Progress) -> None:
        steps = len(self.batches)
        step = self.epoch * steps
        self.history.forget_reports_after(step)  # of an epoch that was interrupted
        loss = correct = 0.0
        interval = _Interval()
        progress.start(self.epoch + 1, steps)
        start = time.perf_counter()
        for i, (x, labels) in enumerate(self.batches, start=1):
            if self.schedule is not None:
                self.optimizer.lr = self.schedule(step)
            step += 1
            interval.add(step, self._train_step(x, labels))
            progress.advance()
            if i == steps or (self.report_every is not None and i % self.report_every == 0):
                sums, first_bad = interval.read()
                self._raise_if_bad(first_bad)
                interval_loss, *norms, interval_correct = sums[-len(self.optimizer.parameters) - 2 :]
                loss, correct = loss + interval_loss, correct + interval_correct
                norms = [norm / interval.steps for norm in norms]
                self.history.add_report(step, dict(zip(self.optimizer.parameters, norms, strict=True)))
                interval = _Interval()
        seconds = time.perf_counter() - start

        samples = len(self.splits.train)
        validation = _evaluate(self.model, self.loss, self._validation)
        self.epoch += 1
        epoch = Epoch(self.epoch, loss / samples, correct / samples, *validation, seconds, self.optimizer.lr)
        self.history.epochs.append(epoch)
        progress.finish(epoch)

    def _train_step(self, x: Array, labels: Array) -> Array:
        """Train on one batch.

        Returns:
            ``(S + 1 + P + 1,)``, float64, on the device: the sum of each of the S layers' outputs, loss x samples,
            the norms of the P gradients, the number of correct answers.
        """
        xp = backend.namespace(x)
        stages = list(_stages(self.model))
        # Written in place: stack would send the addresses of its many small arrays to the device at every step.
        numbers: Array = xp.empty(len(stages) + len(self.optimizer.parameters) + 2, dtype="float64")
        outputs, norms = numbers[: len(stages)], numbers[len(stages) + 1 : -1]

        x = x.astype(_dtype(self.model), copy=False)
        for i, (_, layer) in enumerate(stages):
            x = layer.forward(x)
            outputs[i] = sum_rows(x).sum()  # finite only if every entry is
        numbers[len(stages)] = self.loss.forward(x, labels) * len(labels)
        numbers[-1] = (x.argmax(axis=1) == labels).sum()

        self.model.backward(self.loss.backward())
        for i, parameter in enumerate(self.optimizer.parameters.values()):
            sum_rows(xp.square(parameter.grad, dtype="float64")).sum(out=norms[i, ...])
        xp.sqrt(norms, out=norms)
        if self.clip_norm is not None:
            clip_grad_norm(self.optimizer.parameters, self.clip_norm)
        self.optimizer.step()
        return numbers

    def _watched(self) -> list[str]:
        """Name what :meth:`_train_step` returns, in the order in which a bad number spreads."""
        kinds = {name: type(layer).__name__ for name, layer in self.model.modules()}
        outputs = [f"output of {name or 'the model'} ({kinds[name]})" for name, _ in _stages(self.model)]
        owners = {name: kinds.get(name.rpartition(".")[0], "") for name in self.optimizer.parameters}
        gradients = [f"gradient of {name} ({kind})" for name, kind in owners.items()]
        return [*outputs, "the loss", *gradients, "the number of correct answers"]

    def _raise_if_bad(self, first_bad: list[float]) -> None:
        step = min(first_bad)
        if step < math.inf:
            name = self._watched()[first_bad.index(step)]
            raise NonFiniteError(
                f"training became non-finite at step {step:.0f}: {name}: "
                "lower the learning rate or clip the gradient norm"
            )


def evaluate(model: Layer, loss: Loss, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
    """Return the mean loss and the accuracy (a fraction) of ``model`` on ``dataset``.

    Runs in eval mode and keeps nothing for a backward pass; every layer gets its mode back.
    """
    return _evaluate(model, loss, Batches(dataset, batch_size))


def _evaluate(model: Layer, loss: Loss, batches: Batches) -> tuple[float, float]:
    modes = [(layer, layer.training) for _, layer in model.modules()]
    samples = len(batches.dataset)
    dtype = _dtype(model)
    loss_sum: Any = 0.0
    correct: Any = 0
    model.eval()
    try:
        with backend.inference():
            for x, labels in batches:
                logits = model.forward(x.astype(dtype, copy=False))
                loss_sum = loss_sum + loss.forward(logits, labels) * len(labels)
                correct = correct + (logits.argmax(axis=1) == labels).sum()
    finally:
        for layer, mode in modes:
            layer.training = mode
    both = backend.to_host(backend.namespace(correct).stack([loss_sum, correct]))
    return float(both[0]) / samples, float(both[1]) / samples


def _stages(model: Layer) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that a forward pass goes through one after the other, with their names."""
    if isinstance(model, Sequential):
        yield from model.children()
    else:
        yield "", model


def _dtype(model: Layer) -> DType:
    """Return the dtype that the model computes in: its first parameter's."""
    return next(iter(model.parameters().values())).value.dtype


class _Interval:
    """What happened since the last report: summed on the device, read in one transfer."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: Array | None = None
        self._first_bad: Array | None = None

    def add(self, step: int, numbers: Array) -> None:
        """Take in one step's numbers, ``(n,)``, on their device."""
        xp = backend.namespace(numbers)
        bad = xp.where(xp.isfinite(numbers), math.inf, float(step))
        self._sums = numbers if self._sums is None else self._sums + numbers
        self._first_bad = bad if self._first_bad is None else xp.minimum(self._first_bad, bad)
        self.steps += 1

    def read(self) -> tuple[list[float], list[float]]:
        """Return the sums, and for every number the first step where it was not finite (or infinity)."""
        if self._sums is None or self._first_bad is None:
            raise RuntimeError("nothing to report: no step was added")
        both = backend.namespace(self._sums).concatenate([self._sums, self._first_bad])
        numbers = [float(v) for v in backend.to_host(both)]
        return numbers[: len(self._sums)], numbers[len(self._sums) :]


class _Progress:
    """A bar, a line per epoch, or nothing."""

    def __init__(self, kind: str, console: Console, epochs: int) -> None:
        self._lines = console if kind == "lines" else None
        self._epochs = epochs
        self._task: TaskID | None = None
        self._bar: Progress | None = None
        if kind == "bar":
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, console=console)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=None, note="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, epoch: int, steps: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs}", total=steps, completed=0)

    def advance(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def finish(self, epoch: Epoch) -> None:
        text = (
            f"loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.1%}; "
            f"validation loss {epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.1%}"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=text)
        if self._lines is not None:
            line = f"epoch {epoch.epoch}/{self._epochs}: {text}; {epoch.seconds:.2f} s"
            self._lines.print(line, highlight=False, soft_wrap=True)
