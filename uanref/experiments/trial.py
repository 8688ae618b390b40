"""One network trained from a config: what most experiments do in each of their cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uanref import data, models
from uanref.data import Splits
from uanref.experiments import recipe
from uanref.training.trainer import NonFiniteError, Trainer

BASE: dict[str, Any] = {
    "dataset": "digits",
    "model": "mlp",
    "norm": "bn",
    "norm_options": {},
    "components": 3,
    "optimizer": "adam",
    "lr": 0.003,
    "schedule": "constant",
    "epochs": 15,
    "batch_size": 64,
    "seed": 0,
}
"""A config of a trial, to be changed by ``BASE | {...}``. ``norm_options`` are keywords of the norm's class; ``width``
(a factor of the channels) and ``weight_decay`` may be added."""


@dataclass(frozen=True)
class Trial:
    """A trained network.

    Attributes:
        model: in the state after its last step.
        trainer: with its history.
        splits: the data.
        diverged: whether training met NaN or infinity.
    """

    model: models.Model
    trainer: Trainer
    splits: Splits
    diverged: bool

    def test_accuracy(self) -> float | None:
        """Return the accuracy on the test set; None if training diverged."""
        return None if self.diverged else self.accuracy(self.splits.test)

    def accuracy(self, dataset: Any) -> float | None:
        """Return the accuracy in eval mode on ``dataset``; None if it is not finite."""
        found = float(self.trainer.evaluate(dataset)[1])
        return found if math.isfinite(found) else None


def train(
    config: dict[str, Any],
    splits: Splits | None = None,
    after_epoch: Callable[[Trainer], object] | None = None,
    prepare: Callable[[models.Model], object] | None = None,
) -> Trial:
    """Train the network of ``config``.

    The seed draws the split, the weights, the norm's start and the order of the batches.

    Args:
        config: :data:`BASE` with changes.
        splits: the data, where they are not those that ``config["dataset"]`` names.
        after_epoch: called after every epoch.
        prepare: called with the untrained network, which it may change.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    splits = data.load(config["dataset"], seed=config["seed"]) if splits is None else splits
    model = build(config, splits)
    if prepare is not None:
        prepare(model)
    trainer = recipe.make_trainer(
        model,
        splits,
        optimizer=config["optimizer"],
        lr=config["lr"],
        schedule=config["schedule"],
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        progress="none",
        weight_decay=config.get("weight_decay"),
    )
    diverged = False
    try:
        trainer.fit(config["epochs"], after_epoch)
    except NonFiniteError:
        diverged = True  # a result too
    else:
        if trainer.history.stopped == "interrupted":
            raise KeyboardInterrupt
    return Trial(model, trainer, splits, diverged)


def build(config: dict[str, Any], splits: Splits) -> models.Model:
    """Return the untrained network of ``config`` for ``splits``."""
    return models.build(
        config["model"],
        config["norm"],
        image_shape=splits.image_shape,
        num_classes=splits.num_classes,
        num_components=config["components"],
        seed=config["seed"],
        width=config.get("width", 1.0),
        norm_options=config["norm_options"],
    )
