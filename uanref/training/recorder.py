"""Records a training while it goes on, at some moments: what ``uanref replay`` shows.

At a moment small copies stay on the training's device; they are read at the epoch's end. A recorder never ends a
training and changes no bit of it.
"""

from __future__ import annotations

import bisect
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np  # noqa: TID251  what it has read from the device is the host's

from uanref import backend
from uanref.backend import Array
from uanref.layers import passes
from uanref.layers.base import Layer, count
from uanref.reasons import message
from uanref.training import recorded
from uanref.training.looking import Looks, places
from uanref.training.recording import Recording, RecordingError, encode
from uanref.training.recording_checks import CHANNELS, cleaned

if TYPE_CHECKING:
    from uanref.training.trainer import Trainer

MOMENTS = 60


class _Taken(NamedTuple):
    """A moment whose numbers are still on the device."""

    looks: Looks
    numbers: Array  # what the trainer's step returns
    size: int  # of the batch


_Read: TypeAlias = tuple[tuple[float, float, dict[str, float]], dict[str, dict[str, Array]]]
"""A moment as it was read: loss, accuracy and gradient norms, and what was taken of each layer."""


def plan(total_steps: int, moments: int = MOMENTS) -> list[int]:
    """Return the steps that are recorded: the first, the last and those between, denser at the start.

    Args:
        total_steps: how many the training has; step s is the network after s updates.
        moments: at most so many.
    """
    last, most = total_steps - 1, min(moments, total_steps)
    found: list[int] = []
    for i in range(most):
        wanted = round(last * (i / max(1, most - 1)) ** 2)
        found.append(max(wanted, found[-1] + 1) if found else 0)
    return found


class Recorder:
    """Looks at a training: ``Trainer(..., recorder=Recorder(model, epochs * steps))``.

    Args:
        model: that is trained.
        total_steps: how many updates the training will have.
        moments: at how many of them it is looked at, at most.
        channels: how many of each norm layer, at most 4.

    Attributes:
        trouble: why nothing is recorded any more, a sentence; empty while all is well.

    Raises:
        ValueError, TypeError: a number out of range.
    """

    def __init__(self, model: Layer, total_steps: int, moments: int = MOMENTS, channels: int = CHANNELS) -> None:
        self._plan = plan(count("total_steps", total_steps), count("moments", moments))
        self._most = count("channels", channels)
        if channels > CHANNELS:
            raise ValueError(f"channels must be <= {CHANNELS}, got {channels}")
        self._places = places(model)
        self._taken: dict[int, _Taken] = {}
        self._read: dict[int, _Read] = {}
        self._kept: dict[int, recorded.Moment] = {}
        self._latest = -1  # the latest of them
        self._sizes: dict[str, tuple[int, ...]] = {}  # (E, C) of each layer, fixed by the first moment
        self._channels: dict[str, list[int]] = {}
        self._passed_over = False
        self._owners: list[str] = []  # the layer of each parameter
        self.trouble = ""

    # --- called by the trainer ------------------------------------------------------------------

    def begin(self, step: int) -> None:
        """Start an epoch, whose first step is ``step``: what was taken from there on is of one that was undone."""
        self._taken = {}
        if self._latest >= step:
            self._read = {at: read for at, read in self._read.items() if at < step}
            self._kept = {at: moment for at, moment in self._kept.items() if at < step}
        self._latest = max((*self._read, *self._kept), default=-1)

    def due(self, step: int) -> bool:
        """Tell whether this step is one to look at: it is planned, or the first after one that could not be used."""
        return not self.trouble and bisect.bisect(self._plan, step) > bisect.bisect(self._plan, self._latest)

    @contextlib.contextmanager
    def at(self, step: int) -> Iterator[Callable[[Array, int], None]]:
        """Look at the step inside this block, which is :meth:`due`.

        Yields:
            What is called with the step's numbers and the size of its batch.
        """
        looks = Looks(self._places, self._most)
        with passes.watching(looks):
            yield lambda numbers, size: self._take(step, _Taken(looks, numbers, size))

    def read(self, parameters: Mapping[str, object]) -> None:
        """Read what was taken since the last time.

        Args:
            parameters: the trained ones by their names, in the order of the steps' numbers.
        """
        try:
            if not self._taken:
                return
            layers = self._owners = self._owners or recorded.owners(parameters)
            for step, taken in self._taken.items():
                numbers = np.asarray(backend.to_host(taken.numbers))
                looks = {name: recorded.on_host(parts) for name, parts in taken.looks.taken.items()}
                self._read[step] = recorded.of_numbers(numbers, taken.size, layers), looks
        except Exception as error:  # no memory, say: the training goes on
            self.trouble = f"nothing more is recorded ({message(error)})"
        self._taken = {}

    # --- what becomes of it ---------------------------------------------------------------------

    def recording(
        self, trainer: Trainer, *, norm: str, lr: float, model: str = "", dataset: str | None = None
    ) -> Recording | None:
        """Return what was recorded until now; None if that is nothing.

        A training that met NaN is shown up to there, though its last epoch does not count. What Ctrl-C undid is not.

        Args:
            trainer: whose training it is.
            norm: its name.
            lr: the highest learning rate.
            model: the network's name.
            dataset: the data's name, None for the trainer's.
        """
        self._digest()
        history, steps = trainer.history, len(trainer.batches)
        diverged = history.stopped not in ("", "interrupted")
        kept = {at: self._kept[at] for at in sorted(self._kept) if diverged or at < trainer.epoch * steps}
        if not kept:
            return None
        moments = list(kept.values())
        return Recording(
            norm=cleaned(norm),
            lr=lr,
            seed=trainer.seed,
            dataset=cleaned(trainer.data_name if dataset is None else dataset),
            model=cleaned(model),
            steps=np.array(list(kept), dtype=np.int64),
            loss=np.array([moment.loss for moment in moments]),
            accuracy=np.array([moment.accuracy for moment in moments]),
            gradient_norms={
                layer: np.array([moment.gradients[layer] for moment in moments]) for layer in moments[0].gradients
            },
            steps_per_epoch=steps,
            epochs=tuple(history.epochs),
            layers=tuple(
                recorded.stacked(place, self._channels[place.name], [moment.layers[place.name] for moment in moments])
                for place in self._places
                if place.name in self._channels
            ),
            stopped=cleaned(history.stopped),
        )

    def file(self, trainer: Trainer, *, norm: str, lr: float, model: str, dataset: str | None = None) -> bytes | None:
        """Return what :meth:`recording` does as the bytes of its file; what goes wrong is in ``trouble``."""
        try:
            made = self.recording(trainer, norm=norm, lr=lr, model=model, dataset=dataset)
            return None if made is None else encode(made)
        except Exception as error:  # no memory, say: what was trained counts all the same
            self.trouble = f"nothing is recorded ({message(error)})"
            return None

    def resume(self, recording: Recording, trainer: Trainer) -> None:
        """Go on with the recording of the same training; of one that went further, the beginning counts.

        Raises:
            RecordingError: it is of another training; the sentence lacks its subject, the file.
        """
        steps, epochs = len(trainer.batches), list(trainer.history.epochs)
        shared = min(len(epochs), len(recording.epochs))
        ours = (steps, trainer.seed, repr(epochs[:shared]))  # as text: NaN is NaN there
        if ours != (recording.steps_per_epoch, recording.seed, repr(list(recording.epochs[:shared]))):
            raise RecordingError("is of another training")
        layers = [(cleaned(place.name), cleaned(place.kind), place.mode) for place in self._places]
        if [(layer.name, layer.kind, layer.mode) for layer in recording.layers] != layers:
            raise RecordingError("is of another network")
        self._kept = {
            step: moment for step, moment in recorded.moments_of(recording).items() if step < trainer.epoch * steps
        }
        for place, layer in zip(self._places, recording.layers, strict=True):
            self._channels[place.name] = layer.channels.tolist()
            self._sizes[place.name] = layer.samples.shape[1:]

    def _digest(self) -> None:
        """Make moments of what was read; one with NaN or infinity is left out."""
        read, names = list(self._read.items()), [place.name for place in self._places if place.name in self._channels]
        with backend.quiet():
            parts = {
                place.name: recorded.of_looks(place, [looks[place.name] for _, (_, looks) in read])
                for place in self._places
                if place.name in names
            }
        for i, (step, ((loss, accuracy, gradients), _)) in enumerate(read):
            layers = {name: part for name in names if (part := parts[name][i]) is not None}
            if len(layers) == len(names) and all(map(math.isfinite, (loss, accuracy, *gradients.values()))):
                self._kept[step] = recorded.Moment(loss, accuracy, gradients, layers)
        self._read = {}

    def _take(self, step: int, taken: _Taken) -> None:
        if taken.looks.trouble:
            self.trouble = f"nothing more is recorded: {taken.looks.trouble}"
            return
        sizes = {name: parts["samples"].shape[::-1] for name, parts in taken.looks.taken.items()}
        if not self._sizes:
            self._sizes, self._channels = sizes, taken.looks.channels
        fits = sizes == self._sizes
        if fits:
            self._taken[step] = taken
        # A last batch may be too small: then the next step is looked at instead, but not one after the other.
        if fits or self._passed_over:
            self._latest = step
        self._passed_over = not fits and not self._passed_over
