"""Whole trainings as ``uanref compare`` does them: what their recording costs."""

from __future__ import annotations

from uanref import data, models
from uanref.bench.timing import Task
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import Adam
from uanref.training.recorder import Recorder
from uanref.training.schedules import Cosine
from uanref.training.trainer import Trainer

RATE = 0.01


def task(network: str, norm: str, *, recorded: bool, epochs: int = 30) -> Task:
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
        optimizer = Adam(model.parameters(), RATE)
        trainer = Trainer(model, SoftmaxCrossEntropy(), optimizer, splits, progress="none")
        steps = epochs * len(trainer.batches)
        trainer.schedule = Cosine(RATE, steps)
        if recorded:
            trainer.recorder = Recorder(model, steps)
        trainer.fit(epochs)
        if trainer.recorder is not None:
            trainer.recorder.file(trainer, norm=norm, lr=RATE, model=network)

    return train
