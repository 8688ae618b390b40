"""Training and scoring of one network: what ``uanref train`` and ``uanref evaluate`` run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.box
from rich.table import Table
from rich.text import Text

from uanref import backend, data, files, models
from uanref.experiments import recipe
from uanref.layers.base import choice, count
from uanref.losses import SoftmaxCrossEntropy
from uanref.own_errors import OwnCodeFailed, located
from uanref.training import checkpoint
from uanref.training.evaluation import evaluate as score
from uanref.training.keeping import Keeper
from uanref.training.recorder import Recorder
from uanref.training.recording_keeping import RecordingKeeper, beside, continued
from uanref.training.schedules import Cosine
from uanref.training.trainer import NonFiniteError, Trainer


@dataclass(frozen=True)
class Trained:
    """What :func:`train` leaves.

    Attributes:
        trainer: with the trained model and its history.
        test: mean loss and accuracy (a fraction) on the test set; None if Ctrl-C came before they were measured.
        kept: where the run's checkpoint is and what went wrong with it; None if none was asked for.
    """

    trainer: Trainer
    test: tuple[float, float] | None
    kept: Keeper | None

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
        if self.test is not None:
            facts.add_row("test", _score(*self.test))
        return facts

    def draw(self, path: Path) -> None:
        """Write the curves of the history as a picture; needs at least one epoch.

        Raises:
            Exception: whatever the drawing library raises, which depends on its settings, too.
        """
        from uanref import plots  # takes a second to import

        splits, config = self.trainer.splits, getattr(self.trainer.model, "config", {})
        title = ", ".join([splits.name, *(_named(config[key]) for key in ("model", "norm") if key in config)])
        plots.history(self.trainer.history, path, title=title)


@located()
def train(
    given: Mapping[str, Any],
    *,
    epochs: int,
    backend_name: str = "numpy",
    save: Path | None = None,
    resume: Path | None = None,
    progress: str = "auto",
    tell: Callable[[str], object] = lambda sentence: None,
) -> Trained:
    """Train one network.

    Args:
        given: any of the keys of ``recipe.DEFAULTS``, which fill in the rest.
        epochs: how many in all, with those that a resumed checkpoint has behind it.
        backend_name: ``"numpy"`` or ``"cupy"``.
        save: where a checkpoint is written at the end of every epoch, see :class:`Keeper`, and beside it what the
            training looked like inside.
        resume: a checkpoint to go on with; it fixes everything that ``given`` could name, but for ``dataset``: where
            its data moved, that is their new place; and for a ``norm`` of the reader's own: it is given again.
        progress: as in ``Trainer``.
        tell: gets sentences about checkpoints that could not be written as expected.

    Raises:
        NonFiniteError: training diverged; the checkpoint of the last whole epoch stays.
        OwnCodeFailed: a norm of the reader's own failed in the middle of training; likewise.
        DataError, CheckpointError, ValueError, TypeError, OSError: bad input, before anything is trained.
    """
    count("epochs", epochs)
    own = {"dataset"} | ({"norm"} if given.get("norm") not in (None, *models.NORMS) else set())
    if resume and given.keys() - own:
        named = ", ".join("--" + option.replace("_", "-") for option in given if option not in own)
        raise ValueError(f"--resume takes {named} from the checkpoint: leave it out")
    if save is not None:
        files.check_target(save, "--save")
    with backend.using(backend_name):
        if resume:
            trainer = _resumed(resume, epochs, given, progress)
        else:
            trainer = _new(recipe.DEFAULTS | dict(given), epochs, progress)
        keeper = None
        if save is not None:
            recorder = trainer.recorder = Recorder(trainer.model, epochs * len(trainer.batches))
            begun = None
            if resume:
                missing = continued(recorder, trainer, resume)
                if missing:
                    tell(missing)
                else:
                    begun = beside(resume)
            keeper = RecordingKeeper(save, trainer, tell, _recorded_as, begun)
        norm = _named(getattr(trainer.model, "config", {}).get("norm", ""))
        try:
            with located(norm, OwnCodeFailed):
                trainer.fit(epochs - trainer.epoch, None if keeper is None else keeper.keep)
        except KeyboardInterrupt:  # a second one, while the trainer handled the first
            trainer.history.stopped = "interrupted"
            trainer.undo_unfinished_epoch()
        except (NonFiniteError, OwnCodeFailed) as error:
            trainer.history.stopped = str(error)
            if keeper is None:
                raise
            keeper.finish(trainer)
            raise type(error)(f"{error}; {keeper.told()}") from None
        test = None
        try:
            if keeper is not None:
                keeper.finish(trainer)
            test = trainer.evaluate(trainer.splits.test)
        except KeyboardInterrupt:
            trainer.history.stopped = "interrupted"
    return Trained(trainer, test, keeper)


@located()
def evaluate(path: Path, dataset: str | None = None, backend_name: str = "numpy", norm: str | None = None) -> Table:
    """Score a checkpoint's network on the test set.

    Args:
        path: the checkpoint.
        dataset: as ``data.load`` takes it; None for the one that the network was trained on.
        backend_name: ``"numpy"`` or ``"cupy"``.
        norm: the code of a norm of the reader's own, as ``checkpoint.load_model`` takes it.

    Raises:
        CheckpointError, DataError, ValueError: no checkpoint, no data, or data of another size than the network's.
    """
    with backend.using(backend_name):
        meta = checkpoint.load_meta(path)
        model = checkpoint.load_model(path, norm=norm)
        splits = checkpoint.load_data(path, meta) if dataset is None else data.load(dataset, seed=meta["data"]["seed"])
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
    choice("model", options["model"], models.MODELS)
    norm = models.find_norm(options["norm"])
    models.check_norm(norm, options["model"])
    choice("schedule", options["schedule"], recipe.SCHEDULES)
    choice("optimizer", options["optimizer"], recipe.OPTIMIZERS)
    splits = data.load(options["dataset"], seed=options["seed"])
    model = models.build(
        options["model"],
        norm,
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


def _resumed(path: Path, epochs: int, given: Mapping[str, Any], progress: str) -> Trainer:
    splits, dataset = None, given.get("dataset")
    if dataset is not None:
        splits = data.load(dataset, seed=checkpoint.load_meta(path)["data"]["seed"])
    trainer = checkpoint.resume(path, norm=given.get("norm"), splits=splits, progress=progress)
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


def _recorded_as(trainer: Trainer) -> dict[str, Any]:
    """Return what a recording says of its training."""
    config = getattr(trainer.model, "config", {})
    rate = getattr(trainer.schedule, "lr", trainer.optimizer.lr)
    return {"norm": _named(config.get("norm", "")), "model": config.get("model", ""), "lr": float(rate)}


def _named(entry: Any) -> str:
    return str(entry["factory"] if isinstance(entry, dict) else entry)


def _facts() -> Table:
    facts = Table(show_header=False, box=rich.box.SIMPLE_HEAD)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    return facts


def _score(loss: float, accuracy: float) -> str:
    return f"accuracy {100 * accuracy:.2f} %, loss {loss:.4f}"
