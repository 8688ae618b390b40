"""A training that stops after every update, where an experiment looks more often than once an epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from uanref import backend, data, models
from uanref.experiments import recipe, trial
from uanref.training.evaluation import dtype_of
from uanref.training.trainer import Trainer


def begin(config: dict[str, Any]) -> tuple[models.Model, Trainer]:
    """Return the network of ``config`` and its trainer, before the first update.

    Args:
        config: as :func:`uanref.experiments.trial.train` takes it, without ``epochs``: whoever counts updates has a
            constant learning rate.
    """
    splits = data.load(config["dataset"], seed=config["seed"])
    model = trial.build(config, splits)
    trainer = recipe.make_trainer(
        model,
        splits,
        optimizer=config["optimizer"],
        lr=config["lr"],
        schedule="constant",
        epochs=1,  # of the schedule, which is constant
        batch_size=config["batch_size"],
        seed=config["seed"],
        progress="none",
        weight_decay=config.get("weight_decay"),
    )
    return model, trainer


def updates(trainer: Trainer, count: int) -> Iterator[int]:
    """Train on one batch after the other and yield 1, 2, ... after each update, ``count`` of them.

    The batches and the arithmetic are those of ``trainer.fit``; the history and the schedule stay as they are. When a
    number is yielded, the model is in train mode and its parameters still have the update's gradients. Ends early where
    the loss is not finite: the training diverged.

    Args:
        trainer: before its first step.
        count: >= 1.
    """
    model, dtype = trainer.model, dtype_of(trainer.model)
    endless = itertools.chain.from_iterable(iter(trainer.batches) for _ in itertools.count())
    for done, (x, labels) in enumerate(itertools.islice(endless, count), start=1):
        model.train()
        with backend.quiet():
            loss = trainer.loss.forward(model.forward(x if dtype is None else x.astype(dtype, copy=False)), labels)
            if not math.isfinite(float(loss)):
                return
            model.backward(trainer.loss.backward())
            trainer.optimizer.step()
        yield done
