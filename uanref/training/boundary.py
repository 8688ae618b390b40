"""The end of an epoch, to which a training goes back when the next one does not end.

An epoch's order of samples is drawn at its start, so there is no way to go on in its middle: what an unfinished epoch
did is undone, and whoever continues, now or from a file, computes the same bits as if nothing had come between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uanref.backend import Generator

if TYPE_CHECKING:
    from uanref.training.trainer import Trainer


class Boundary:
    """Everything of a trainer that an epoch changes, copied on its own backend: nothing is read from a device.

    Args:
        trainer: between two epochs.
    """

    def __init__(self, trainer: Trainer) -> None:
        model, optimizer, history = trainer.model, trainer.optimizer, trainer.history
        self._trainer = trainer
        self._values = [(p, p.value.copy()) for _, p in model._all_parameters()]
        self._buffers = [
            (layer, name, _copy(getattr(layer, name))) for _, layer in model.modules() for name in layer.buffer_names
        ]
        self._optimizer = (optimizer.steps, optimizer.lr)
        self._slots = {
            slot: {name: array.copy() for name, array in arrays.items()} for slot, arrays in optimizer._slots.items()
        }
        generators: list[Generator] = [trainer.rng, *model.generators().values()]
        self._generators = [(generator, generator.bit_generator.state) for generator in generators]
        self._epoch, self._epochs, self._reports = trainer.epoch, len(history.epochs), len(history.steps)

    def restore(self) -> None:
        """Put everything back. May be repeated where Ctrl-C came in between; once it is done the copies are used up."""
        trainer, optimizer, history = self._trainer, self._trainer.optimizer, self._trainer.history
        for parameter, value in self._values:
            parameter.value = value
        for layer, name, buffer in self._buffers:
            setattr(layer, name, buffer)
        optimizer.steps, optimizer.lr = self._optimizer
        optimizer._slots = self._slots
        for generator, state in self._generators:
            generator.bit_generator.state = state
        trainer.epoch = self._epoch
        history.cut(self._epochs, self._reports)
        trainer.model.clear()
        trainer.loss.clear()


def _copy(value: Any) -> Any:
    return value if isinstance(value, bool) else value.copy()
