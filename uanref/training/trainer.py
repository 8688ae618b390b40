"""The training loop: forward, loss, backward, step; everything it measures stays on the device until a report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from uanref import backend
from uanref.backend import Array
from uanref.data.augment import Augmentation
from uanref.data.batches import Batches
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.base import Layer, choice, count, number
from uanref.losses import Loss
from uanref.optimizers import Optimizer, clip_grad_norm
from uanref.training.boundary import Boundary
from uanref.training.evaluation import EVALUATION_BATCH, dtype_of, score
from uanref.training.evaluation import evaluate as evaluate  # where it always was
from uanref.training.guard import NonFiniteError as NonFiniteError
from uanref.training.guard import check_finite, stages_of
from uanref.training.history import Epoch, History
from uanref.training.interval import Interval
from uanref.training.measured import entries_sum, put_squares
from uanref.training.progress import Display, standard_error
from uanref.training.recorder import Recorder

if TYPE_CHECKING:  # Rich takes as long to import as half of NumPy: where it is used
    from rich.console import Console

PROGRESS = ("auto", "bar", "lines", "none")


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
        recorder: looks at some of the steps, and changes none.

    Attributes:
        history: what was measured so far.
        epoch: how many epochs are finished.
        rng: the generator that shuffles and augments.
        data_name: what ``data.load`` needs to find the splits again, from whatever working folder.

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
        recorder: Recorder | None = None,
    ) -> None:
        self.model, self.loss, self.optimizer, self.splits = model, loss, optimizer, splits
        self.batch_size = count("batch_size", batch_size)
        self.schedule = schedule
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0.0, open_low=True)
        self.augment = augment
        self.seed = count("seed", seed, least=0)
        self.report_every = None if report_every is None else count("report_every", report_every)
        self.console = standard_error() if console is None else console
        self.progress = choice("progress", progress, PROGRESS)
        if progress == "auto":
            self.progress = "bar" if self.console.is_terminal else "lines"
        self.recorder = recorder
        self.history = History()
        self.epoch = 0
        self._boundary: Boundary | None = None
        self.data_name = absolute(splits.name)
        self.rng = backend.module("numpy").random.default_rng(self.seed)
        self.batches = Batches(splits.train, self.batch_size, rng=self.rng, shuffle=True, augment=augment)
        self._validation = Batches(splits.validation, EVALUATION_BATCH)

    def fit(self, epochs: int, after_epoch: Callable[[Trainer], object] | None = None) -> History:
        """Train ``epochs`` more epochs and return the history.

        Whatever ends it early, Ctrl-C or an error, the trainer stands at the end of its last whole epoch again:
        weights, running statistics, optimizer, generators and history. So a checkpoint that is written then, and
        another ``fit``, compute the same bits as a training that nothing ended. Ctrl-C is no error: ``fit`` returns,
        with ``history.stopped == "interrupted"``.

        Args:
            epochs: how many more, >= 1.
            after_epoch: called with the trainer at the end of every epoch, such as
                ``lambda trainer: checkpoint.save("run.npz", trainer)``; what it raises ends the training there.

        Raises:
            NonFiniteError: training diverged; ``history`` keeps the epochs before and ``history.stopped`` the reason.
        """
        last = self.epoch + count("epochs", epochs)
        self.undo_unfinished_epoch()  # where a second Ctrl-C came while the first was handled
        self.history.stopped = ""
        self.model.train()
        # NumPy would warn of every overflow on the way; the guard says it once, by name.
        with Display(self.progress, self.console, last) as progress, backend.quiet():
            try:
                while self.epoch < last:
                    self._boundary = Boundary(self)
                    epoch = self._train_epoch(progress)
                    self._boundary = None  # from here on the epoch counts
                    progress.finish(epoch)
                    if after_epoch is not None:
                        after_epoch(self)
            except KeyboardInterrupt:
                self.history.stopped = "interrupted"
            except NonFiniteError as error:
                self.history.stopped = str(error)
                raise
            finally:
                self.undo_unfinished_epoch()
        return self.history

    def undo_unfinished_epoch(self) -> None:
        """Go back to the last epoch's end, which :meth:`fit` does by itself unless Ctrl-C hits it twice."""
        if self._boundary is not None:
            self._boundary.restore()
            self._boundary = None

    @property
    def is_mid_epoch(self) -> bool:
        """Whether an epoch was begun and neither ended nor undone."""
        return self._boundary is not None

    def evaluate(self, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
        """Return the mean loss and the accuracy on ``dataset``, see :func:`evaluate`."""
        return evaluate(self.model, self.loss, dataset, batch_size)

    def _train_epoch(self, progress: Display) -> Epoch:
        steps = len(self.batches)
        step = self.epoch * steps
        loss = correct = 0.0
        interval = Interval()
        recorder = self.recorder
        if recorder is not None:
            recorder.begin(step)
        progress.start(self.epoch + 1, steps)
        start = time.perf_counter()
        dtype = dtype_of(self.model)
        for i, (x, labels) in enumerate(self.batches, start=1):
            if self.schedule is not None:
                self.optimizer.lr = self.schedule(step)
            x = x if dtype is None else x.astype(dtype, copy=False)
            if recorder is None or not recorder.due(step):
                numbers = self._train_step(x, labels)
            else:
                with recorder.at(step) as take:
                    numbers = self._train_step(x, labels)
                    take(numbers, len(labels))
            step += 1
            interval.add(step, numbers)
            progress.advance()
            if i == steps or (self.report_every is not None and i % self.report_every == 0):
                sums, first_bad = interval.read()
                if recorder is not None:
                    recorder.read(self.optimizer.parameters)
                check_finite(first_bad, self.model, list(self.optimizer.parameters))
                interval_loss, *norms, interval_correct = sums[-len(self.optimizer.parameters) - 2 :]
                loss, correct = loss + interval_loss, correct + interval_correct
                norms = [norm / interval.steps for norm in norms]
                self.history.add_report(step, dict(zip(self.optimizer.parameters, norms, strict=True)))
                interval = Interval()
        seconds = time.perf_counter() - start

        samples = len(self.splits.train)
        validation = score(self.model, self.loss, self._validation)
        self.epoch += 1
        epoch = Epoch(self.epoch, loss / samples, correct / samples, *validation, seconds, self.optimizer.lr)
        self.history.epochs.append(epoch)
        return epoch

    def _train_step(self, x: Array, labels: Array) -> Array:
        """Train on one batch, whose images are of the model's dtype.

        Returns:
            ``(S + 1 + P + 1,)``, float64, on the device: the sum of each of the S layers' outputs, loss x samples,
            the norms of the P gradients, the number of correct answers.
        """
        xp = backend.namespace(x)
        stages = list(stages_of(self.model))
        # Written in place: stack would send the addresses of its many small arrays to the device at every step.
        numbers: Array = xp.empty(len(stages) + len(self.optimizer.parameters) + 2, dtype="float64")
        outputs, norms = numbers[: len(stages)], numbers[len(stages) + 1 : -1]

        for i, (_, layer) in enumerate(stages):
            x = layer.forward(x)
            outputs[i] = entries_sum(x)
        numbers[len(stages)] = self.loss.forward(x, labels) * len(labels)
        numbers[-1] = (x.argmax(axis=1) == labels).sum()

        self.model.backward(self.loss.backward())
        for i, parameter in enumerate(self.optimizer.parameters.values()):
            assert parameter.grad is not None
            put_squares(norms[i, ...], parameter.grad)
        xp.sqrt(norms, out=norms)
        if self.clip_norm is not None:
            clip_grad_norm(self.optimizer.parameters, self.clip_norm)
        self.optimizer.step()
        return numbers


def absolute(name: str) -> str:
    """Return a data set's name with the path in it, as in ``idx:FOLDER``, made absolute."""
    kind, colon, place = name.partition(":")
    if not colon or not place or kind not in ("idx", "npz"):
        return name
    return f"{kind}:{os.path.abspath(os.path.expanduser(place))}"
