"""Training and scoring of one network: what ``uanref train`` and ``uanref evaluate`` run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.box
from rich.table import Table
from rich.text import Text

from uanref import backend, data, models
from uanref.experiments import files, recipe
from uanref.layers.base import choice, count
from uanref.losses import SoftmaxCrossEntropy
from uanref.training import checkpoint
from uanref.training.schedules import Cosine
from uanref.training.trainer import Trainer
from uanref.training.trainer import evaluate as score

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


@dataclass(frozen=True)
class Trained:
    """What :func:`train` leaves.

    Attributes:
        trainer: with the trained model and its history.
        test_loss: mean over the test set.
        test_accuracy: a fraction.
        saved: the checkpoint, None if none was asked for.
    """

    trainer: Trainer
    test_loss: float
    test_accuracy: float
    saved: Path | None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training."""
        return self.trainer.history.stopped == "interrupted"

    def table(self) -> Table:
        """Return what was trained and how good it is."""
        history = self.trainer.history
        facts = _facts()
        facts.add_row("data", Text(recipe.describe(self.trainer.splits)))
        facts.add_row("parameters", f"{recipe.size(self.trainer.model):,}")
        facts.add_row("epochs", f"{len(history)}" + (" (interrupted)" if self.interrupted else ""))
        if history.epochs:
            facts.add_row("seconds per epoch", f"{history.seconds_per_epoch():.2f}")
            last = history.epochs[-1]
            facts.add_row("training", _score(last.train_loss, last.train_accuracy))
            facts.add_row("validation", _score(last.validation_loss, last.validation_accuracy))
        facts.add_row("test", _score(self.test_loss, self.test_accuracy))
        return facts


def train(
    given: Mapping[str, Any],
    *,
    epochs: int,
    backend_name: str = "numpy",
    save: Path | None = None,
    resume: Path | None = None,
    progress: str = "auto",
) -> Trained:
    """Train one network.

    Args:
        given: any of the keys of ``DEFAULTS``, which fill in the rest.
        epochs: how many in all, with those that a resumed checkpoint has behind it.
        backend_name: ``"numpy"`` or ``"cupy"``.
        save: where to write a checkpoint, also after Ctrl-C.
        resume: a checkpoint to go on with; it fixes everything that ``given`` could name.
        progress: as in ``Trainer``.

    Raises:
        NonFiniteError: training diverged; nothing is saved.
        DataError, CheckpointError, ValueError, TypeError, OSError: bad input, before anything is trained.
    """
    count("epochs", epochs)
    if resume and given:
        named = ", ".join("--" + option.replace("_", "-") for option in given)
        raise ValueError(f"--resume takes {named} from the checkpoint: leave it out")
    if save is not None:
        files.check_target(save, "--save")
    with backend.using(backend_name):
        trainer = _resumed(resume, epochs, progress) if resume else _new(DEFAULTS | dict(given), epochs, progress)
        trainer.fit(epochs - trainer.epoch)
        loss, accuracy = trainer.evaluate(trainer.splits.test)
        if save is not None:
            checkpoint.save(save, trainer)
    return Trained(trainer, loss, accuracy, save)


def evaluate(path: Path, dataset: str | None = None, backend_name: str = "numpy") -> Table:
    """Score a checkpoint's network on the test set.

    Args:
        path: the checkpoint.
        dataset: as ``data.load`` takes it; None for the one that the network was trained on.
        backend_name: ``"numpy"`` or ``"cupy"``.

    Raises:
        CheckpointError, DataError, ValueError: no checkpoint, no data, or data of another size than the network's.
    """
    with backend.using(backend_name):
        meta = checkpoint.load_meta(path)
        model = checkpoint.load_model(path)
        splits = data.load(dataset or meta["data"]["name"], seed=meta["data"]["seed"])
        if isinstance(model, models.Model):
            size, classes = tuple(model.config["image_shape"]), model.config["num_classes"]
            if splits.image_shape != size or splits.num_classes != classes:
                raise ValueError(
                    f"{path} classifies images {backend.shape_text(size)} into {classes} classes, but {splits.name} "
                    f"has images {backend.shape_text(splits.image_shape)} in {splits.num_classes}: give other data"
                )
        loss, accuracy = score(model, SoftmaxCrossEntropy(), splits.test)
    facts = _facts()
    facts.add_row("checkpoint", Text(str(path)))
    facts.add_row("data", Text(recipe.describe(splits)))
    facts.add_row("test", _score(loss, accuracy))
    return facts


def _new(options: Mapping[str, Any], epochs: int, progress: str) -> Trainer:
    choice("norm", options["norm"], models.NORMS)
    choice("schedule", options["schedule"], recipe.SCHEDULES)
    choice("optimizer", options["optimizer"], recipe.OPTIMIZERS)
    splits = data.load(options["dataset"], seed=options["seed"])
    model = models.build(
        options["model"],
        options["norm"],
        image_shape=splits.image_shape,
        num_classes=splits.num_classes,
        num_components=options["components"],
        seed=options["seed"],
    )
    return recipe.make_trainer(
        model,
        splits,
        optimizer=options["optimizer"],
        lr=options["lr"],
        schedule=options["schedule"],
        epochs=epochs,
        batch_size=options["batch_size"],
        seed=options["seed"],
        progress=progress,
    )


def _resumed(path: Path, epochs: int, progress: str) -> Trainer:
    trainer = checkpoint.resume(path, progress=progress)
    if epochs <= trainer.epoch:
        raise ValueError(f"{path} has {trainer.epoch} epochs behind it and --epochs counts them: give more than that")
    if isinstance(trainer.schedule, Cosine):
        planned = trainer.schedule.total_steps // len(trainer.batches)
        if epochs > planned:
            raise ValueError(
                f"{path}: its learning rate falls to 0 at epoch {planned}, --epochs {epochs} would train with 0 from "
                "there on: give fewer epochs, or train with --schedule constant from the start"
            )
    return trainer


def _facts() -> Table:
    facts = Table(show_header=False, box=rich.box.SIMPLE_HEAD)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    return facts


def _score(loss: float, accuracy: float) -> str:
    return f"accuracy {100 * accuracy:.2f} %, loss {loss:.4f}"
