"""Whole trainings as ``uanref compare`` does them: what their recording costs."""

from __future__ import annotations

from uanref import data, models
from uanref.bench.timing import Task
from uanref.experiments import recipe
from uanref.training.recorder import Recorder


def task(network: str, norm: str, *, recorded: bool, epochs: int = recipe.EPOCHS) -> Task:
    """Return a training on digits, each time from the same start.

    Args:
        network: one of ``models.MODELS``.
        norm: one of ``models.NORMS``.
        recorded: whether it is recorded and the recording's file made.
        epochs: how long it is.
    """
    splits = data.load("digits", seed=0)

    def train() -> None:
        model = models.build(network, norm, image_shape=splits.image_shape, num_classes=splits.num_classes)
        defaults = {key: recipe.DEFAULTS[key] for key in ("optimizer", "lr", "schedule", "batch_size", "seed")}
        trainer = recipe.make_trainer(model, splits, epochs=epochs, progress="none", **defaults)
        if recorded:
            trainer.recorder = Recorder(model, epochs * len(trainer.batches))
        trainer.fit(epochs)
        if trainer.recorder is not None:
            trainer.recorder.file(trainer, norm=norm, lr=trainer.optimizer.lr, model=network)

    return train
