"""The same network with different norms, on the same seeds and batches: what ``uanref compare`` runs.

A seed draws the split of the data, the weights and the order of the batches, all alike for every norm:
differences between norms are not differences of luck. Runs are independent processes; each computes
with one BLAS thread, so that the number of processes changes no bit of any result.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import threadpoolctl

from uanref import backend, blocking, data, models
from uanref.data import Splits
from uanref.experiments import info, parallel, recipe
from uanref.layers.base import Layer, Parameter, choice, count, number
from uanref.training.history import History
from uanref.training.trainer import NonFiniteError

if TYPE_CHECKING:
    from uanref.plots import Activations

MAX_SEEDS = 10_000  # a slip of the keyboard should not fill the memory with plans


@dataclass(frozen=True)
class Settings:
    """What is compared; checked when it is made, so that nothing starts on bad input.

    Attributes:
        dataset: as ``data.load`` takes it.
        model: one of ``models.MODELS``.
        norms: of ``models.NORMS``, each once.
        components: K of the UANs.
        seeds: how many: 0 ... seeds - 1.
        epochs: of each run.
        lrs: learning rates, each once; empty means the optimizer's usual one.
        batch_size: samples a step.
        optimizer: one of ``recipe.OPTIMIZERS``.
        backend: ``"numpy"`` or ``"cupy"``.

    Raises:
        ValueError: an unknown name, an empty list, a repeated entry, a number out of range.
        TypeError: no number where one is expected.
        BackendUnavailable: the backend cannot run here.
    """

    dataset: str = "digits"
    model: str = "cnn"
    norms: tuple[str, ...] = ("none", "bn", "uan", "uan-learned")
    components: int = 3
    seeds: int = 3
    epochs: int = 30
    lrs: tuple[float, ...] = ()
    batch_size: int = 64
    optimizer: str = "adam"
    backend: str = "numpy"

    def __post_init__(self) -> None:
        choice("model", self.model, models.MODELS)
        choice("optimizer", self.optimizer, recipe.OPTIMIZERS)
        for norm in _distinct("norms", self.norms):
            choice("norm", norm, models.NORMS)
        for option in ("components", "seeds", "epochs", "batch_size"):
            count(option, getattr(self, option))
        if self.seeds > MAX_SEEDS:
            raise ValueError(f"seeds must be <= {MAX_SEEDS}, got {self.seeds}: seeds says how many runs of each norm")
        if not self.lrs:
            object.__setattr__(self, "lrs", (recipe.LEARNING_RATES[self.optimizer],))
        for lr in _distinct("learning rates", self.lrs):
            number("lr", lr, 0.0, open_low=True)
        backend.require(self.backend)

    def runs(self) -> list[tuple[str, float, int]]:
        """Return the norm, learning rate and seed of every run, in the order of the results."""
        return list(itertools.product(self.norms, self.lrs, range(self.seeds)))


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
    """

    norm: str
    lr: float
    seed: int
    test_accuracy: float
    parameters: int
    history: History
    layers: dict[str, str]
    activations: Activations | None = None

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


@dataclass
class Comparison:
    """All runs that finished.

    Attributes:
        settings: what was asked for.
        split: a sentence on the data.
        runs: in the order of ``settings.runs()``, whatever order they finished in.
        interrupted: whether Ctrl-C ended it before the last.
    """

    settings: Settings
    split: str
    runs: list[Run] = field(default_factory=list)
    interrupted: bool = False

    @property
    def note(self) -> str:
        """What to say about an interrupted comparison, else empty."""
        if not self.interrupted:
            return ""
        return f"interrupted: {len(self.runs)} of {len(self.settings.runs())} runs finished"

    def of(self, norm: str, lr: float) -> list[Run]:
        """Return the runs of one row of the table, one a seed."""
        return [run for run in self.runs if run.norm == norm and run.lr == lr]


# --- running --------------------------------------------------------------------------------------


def try_out(settings: Settings) -> Splits:
    """Load the data and push one batch through every network, so that bad input is told before training starts.

    Returns:
        The splits of seed 0.

    Raises:
        DataError, ValueError, TypeError: the data cannot be read or does not suit the model.
    """
    splits = data.load(settings.dataset, seed=0)
    with backend.using(settings.backend), backend.inference():
        images, _ = next(iter(data.Batches(splits.train, settings.batch_size)))
        for norm in settings.norms:
            build(settings, splits, norm, 0).forward(images)
    return splits


def run(
    settings: Settings,
    splits: Splits,
    jobs: int | None = None,
    finished: Callable[[Run], None] = lambda run: None,
) -> Comparison:
    """Train all networks.

    Args:
        settings: what to compare.
        splits: from :func:`try_out`, to tell their sizes.
        jobs: processes at a time; None means one a core. Results do not depend on it. On a GPU all runs share
            one process, whatever it says: its memory and its compiled kernels are not shared between processes.
        finished: called with every run as it finishes.

    Returns:
        All runs; after Ctrl-C those that finished, with ``interrupted`` set.
    """
    order = settings.runs()
    jobs = min(info.cores() if jobs is None else count("jobs", jobs), len(order))
    if settings.backend != "numpy":
        jobs = 1
    threads = max(1, info.cores() // jobs)
    tasks = [(settings, norm, lr, seed, threads) for norm, lr, seed in order]
    comparison = Comparison(settings, recipe.describe(splits))
    try:
        for one in parallel.unordered(train_one, tasks, jobs):
            comparison.runs.append(one)
            finished(one)
    except KeyboardInterrupt:
        comparison.interrupted = True
    position = {task: i for i, task in enumerate(order)}
    comparison.runs.sort(key=lambda one: position[one.norm, one.lr, one.seed])
    return comparison


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
    limit = blocking.limit_threads(threads)
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
                from uanref.experiments.activations import of_first_norm  # brings the drawing library

                activations = of_first_norm(norm, model, splits, settings.batch_size)
    return Run(
        norm=norm,
        lr=lr,
        seed=seed,
        test_accuracy=float(accuracy),
        parameters=recipe.size(model),
        history=trainer.history,
        layers=_weights(model),
        activations=activations,
    )


def build(settings: Settings, splits: Splits, norm: str, seed: int) -> models.Model:
    """Return the network of one run."""
    return models.build(
        settings.model,
        norm,
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


def _distinct(name: str, entries: Sequence[Any]) -> Sequence[Any]:
    """Return ``entries`` if there are any and none is repeated.

    Raises:
        ValueError: there are none, or one is repeated.
    """
    if not entries:
        raise ValueError(f"{name}: the list is empty, give at least one entry")
    repeated = [str(entry) for i, entry in enumerate(entries) if entry in entries[:i]]
    if repeated:
        raise ValueError(f"{name}: {repeated[0]} is listed twice, give each entry once")
    return entries
