"""How the experiments train: loss, optimizer and schedule from the names and numbers of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uanref import data
from uanref.data import Splits
from uanref.layers.base import Layer, Parameter, choice, count
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import SGD, Adam, AdamW, Optimizer
from uanref.training.schedules import Constant, Cosine, Schedule
from uanref.training.trainer import Trainer

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")
LEARNING_RATES = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}
EPOCHS = 30
DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "model": "cnn",
    "norm": "uan",
    "components": 3,
    "lr": None,
    "batch_size": 64,
    "optimizer": "adam",
    "schedule": "cosine",
    "seed": 0,
}
"""What a training is, where nothing else is asked for; a comparison trains with the same, but for norms and seeds."""


def make_trainer(
    model: Layer,
    splits: Splits,
    *,
    optimizer: str,
    lr: float | None,
    schedule: str,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: str = "auto",
    weight_decay: float | None = None,
) -> Trainer:
    """Return a trainer of a classifier.

    Args:
        model: to train.
        splits: to train on.
        optimizer: one of ``OPTIMIZERS``.
        lr: learning rate, None for the optimizer's usual one.
        schedule: ``"constant"``, or ``"cosine"`` down to 0 at the end of ``epochs``.
        epochs: how long the schedule lasts.
        batch_size: samples a step.
        seed: of the order of the batches.
        progress: as in ``Trainer``.
        weight_decay: of Adam and AdamW; None for the optimizer's usual one.

    Raises:
        ValueError, TypeError: an unknown name or a number out of range.
    """
    choice("schedule", schedule, SCHEDULES)
    chosen = make_optimizer(optimizer, model.parameters(), lr, weight_decay)
    steps = count("epochs", epochs) * len(data.Batches(splits.train, batch_size))
    rate: Schedule = Cosine(chosen.lr, steps) if schedule == "cosine" else Constant(chosen.lr)
    return Trainer(
        model,
        SoftmaxCrossEntropy(),
        chosen,
        splits,
        batch_size=batch_size,
        schedule=rate,
        seed=seed,
        progress=progress,
    )


def make_optimizer(
    name: str, parameters: Mapping[str, Parameter], lr: float | None, weight_decay: float | None = None
) -> Optimizer:
    """Return the optimizer called ``name``: SGD comes with Nesterov momentum 0.9."""
    rate = LEARNING_RATES[choice("optimizer", name, OPTIMIZERS)] if lr is None else lr
    decay: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
    if name == "sgd":
        return SGD(dict(parameters), rate, momentum=0.9, nesterov=True, **decay)
    return Adam(dict(parameters), rate, **decay) if name == "adam" else AdamW(dict(parameters), rate, **decay)


def describe(splits: Splits) -> str:
    """Return one sentence on the split."""
    samples = "images" if len(splits.image_shape) == 3 else "vectors"
    return (
        f"{splits.name}: {len(splits.train):,} {samples} to train on, {len(splits.validation):,} to validate, "
        f"{len(splits.test):,} to test."
    )


def size(model: Layer) -> int:
    """Return how many numbers a model trains."""
    return sum(parameter.size for parameter in model.parameters().values())
