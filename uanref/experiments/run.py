"""One network of a comparison: trained, scored and measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import threadpoolctl

from uanref import backend, data, models
from uanref.data import Splits
from uanref.experiments import recipe
from uanref.experiments.activations import Activations, of_first_norm
from uanref.experiments.measuring import Measuring
from uanref.experiments.settings import Settings
from uanref.layers.base import Layer, Parameter
from uanref.own_errors import OwnCodeFailed, located
from uanref.training.history import History
from uanref.training.recorder import Recorder
from uanref.training.trainer import NonFiniteError


@dataclass(frozen=True)
class Run:
    """One trained network.

    Attributes:
        norm: its norm.
        lr: its learning rate.
        seed: of split, weights and batches.
        test_accuracy: a fraction; NaN if training diverged.
        parameters: how many numbers were trained.
        history: of all epochs.
        layers: the parameter names of the weight matrices and kernels from the input to the output.
        activations: what the first norm layer receives and how it models it; of seed 0 alone.
        recording: the file of what the training looked like inside, for ``uanref replay``; None where nothing was
            recorded, or where it was written already.
        unrecorded: why the recording ends early or is missing; empty if it does not.
        measured: what another machine or day would change: seconds, versions, host, date.
    """

    norm: str
    lr: float
    seed: int
    test_accuracy: float
    parameters: int
    history: History
    layers: dict[str, str]
    activations: Activations | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    recording: bytes | None = field(default=None, repr=False, compare=False)
    unrecorded: str = field(default="", repr=False, compare=False)

    @property
    def diverged(self) -> bool:
        """Whether training met NaN or infinity; ``history.stopped`` says where."""
        return not math.isfinite(self.test_accuracy)

    def __str__(self) -> str:
        found = "diverged" if self.diverged else f"{100 * self.test_accuracy:.2f} %"
        seconds = sum(self.history.curve("seconds"))
        return f"{self.norm}, lr {self.lr:g}, seed {self.seed}: {found} in {seconds:.1f} s"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``results.json`` holds of a run; None for what a diverged run does not have."""
        seconds = self.history.seconds_per_epoch()
        return {
            "norm": self.norm,
            "seed": self.seed,
            "lr": self.lr,
            "test_accuracy": self.test_accuracy if not self.diverged else None,
            "seconds_per_epoch": seconds if math.isfinite(seconds) else None,
            "parameters": self.parameters,
            "history": self.history.to_dict(),
        }


@located(kind=OwnCodeFailed)
def train_one(settings: Settings, norm: str, lr: float, seed: int, threads: int = 1) -> Run:
    """Train one network and score it on the test set.

    Args:
        settings: what to compare.
        norm: of the network.
        lr: highest learning rate; it falls to 0 along a cosine.
        seed: of split, weights and batches.
        threads: for the arithmetic of this one run.

    Raises:
        KeyboardInterrupt: Ctrl-C; nothing of this run is kept.
    """
    measuring = Measuring()
    limit = backend.limit_threads(threads)
    # One BLAS thread, whatever the number of jobs: a product split over threads may round otherwise.
    with backend.using(settings.backend), limit, threadpoolctl.threadpool_limits(1, user_api="blas"):
        splits = data.load(settings.dataset, seed=seed)
        model = build(settings, splits, norm, seed)
        trainer = recipe.make_trainer(
            model,
            splits,
            optimizer=settings.optimizer,
            lr=lr,
            schedule="cosine",
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=seed,
            progress="none",
        )
        recorder = trainer.recorder = Recorder(model, settings.epochs * len(trainer.batches))
        accuracy, activations = math.nan, None
        try:
            trainer.fit(settings.epochs)
        except NonFiniteError:
            pass  # history.stopped says where; a diverged run is a result too
        else:
            if trainer.history.stopped == "interrupted":
                raise KeyboardInterrupt
            _, accuracy = trainer.evaluate(splits.test)
            if seed == 0 and lr == settings.lrs[0]:
                activations = of_first_norm(norm, model, splits, settings.batch_size)
        recording = recorder.file(trainer, norm=norm, lr=lr, model=settings.model, dataset=settings.dataset)
    return Run(
        norm=norm,
        lr=lr,
        seed=seed,
        test_accuracy=float(accuracy),
        parameters=recipe.size(model),
        history=trainer.history,
        layers=_weights(model),
        activations=activations,
        measured=measuring.taken(),
        recording=recording,
        unrecorded=recorder.trouble,
    )


def build(settings: Settings, splits: Splits, norm: str, seed: int) -> models.Model:
    """Return the network of one run."""
    return models.build(
        settings.model,
        settings.norm(norm),
        image_shape=splits.image_shape,
        num_classes=splits.num_classes,
        num_components=settings.components,
        seed=seed,
    )


def _weights(model: Layer) -> dict[str, str]:
    """Return the weights of linear and convolutional layers by parameter name, with a label each."""
    found: dict[str, str] = {}
    for path, layer in model.modules():
        if isinstance(getattr(layer, "weight", None), Parameter):
            found[f"{path}.weight"] = f"{len(found) + 1} {type(layer).__name__}"
    return found
