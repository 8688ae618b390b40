"""The same network with different norms, on the same seeds and batches: what ``uanref compare`` runs.

A seed draws the split of the data, the weights and the order of the batches, all alike for every norm:
differences between norms are not differences of luck. Runs are independent processes; each computes
with one BLAS thread, so that the number of processes changes no bit of any result.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.special
import threadpoolctl
from rich.table import Table
from rich.text import Text

from uanref import backend, blocking, data, models
from uanref.backend import Array
from uanref.data import Splits
from uanref.experiments import files, info
from uanref.layers.base import Layer, Parameter, choice, count, number
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.history import History
from uanref.training.optimizers import SGD, Adam, AdamW, Optimizer
from uanref.training.schedules import Constant, Cosine, Schedule
from uanref.training.trainer import NonFiniteError, Trainer

if TYPE_CHECKING:
    from uanref.plots import Activations

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")
LEARNING_RATES = {"sgd": 0.1, "adam": 0.01, "adamw": 0.01}
TARGET = 0.95  # the validation accuracy that "epochs to 95 %" waits for
MAX_SEEDS = 10_000  # a slip of the keyboard should not fill the memory with plans
CHANNELS = 4  # how many channels activations.png shows


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
        optimizer: one of ``OPTIMIZERS``.
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
        choice("optimizer", self.optimizer, OPTIMIZERS)
        for norm in _distinct("norms", self.norms):
            choice("norm", norm, models.NORMS)
        for option in ("components", "seeds", "epochs", "batch_size"):
            count(option, getattr(self, option))
        if self.seeds > MAX_SEEDS:
            raise ValueError(f"seeds must be <= {MAX_SEEDS}, got {self.seeds}: seeds says how many runs of each norm")
        if not self.lrs:
            object.__setattr__(self, "lrs", (LEARNING_RATES[self.optimizer],))
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

    def table(self) -> Table:
        """Return the printed table: a row for each norm and learning rate."""
        found = Table(caption=Text(self.caption()), caption_justify="left", caption_style="")
        grid = len(self.settings.lrs) > 1
        found.add_column("norm", no_wrap=True)
        if grid:
            found.add_column("lr", justify="right", no_wrap=True)
        for title in ("test accuracy (%)", "epochs to 95 %", "s / epoch", "parameters"):
            found.add_column(title, justify="right")
        for norm, lr in itertools.product(self.settings.norms, self.settings.lrs):
            if runs := self.of(norm, lr):
                found.add_row(norm, *([f"{lr:g}"] if grid else []), *_cells(runs))
        return found

    def caption(self) -> str:
        """Return what a reader needs to know about the numbers."""
        settings = self.settings
        seeds = "Seed 0" if settings.seeds == 1 else f"Each seed (0 to {settings.seeds - 1})"
        sentences = [
            f"{self.split} {seeds} draws split, weights and batches, alike for all norms.",
            f"Accuracy: mean ± sd over the seeds. Epochs to 95 %: mean of the first epoch with "
            f"{100 * TARGET:g} % on validation.",
            f"{settings.model}, {settings.epochs} epochs, batches of {settings.batch_size}, {settings.optimizer}, "
            f"lr {', '.join(f'{lr:g}' for lr in settings.lrs)} falling along a cosine, K = {settings.components}.",
        ]
        return " ".join(sentences) + (f" ({self.note})" if self.note else "")

    def write(self, folder: Path, command: str) -> list[Path]:
        """Write ``results.json`` and the pictures into ``folder`` and return their paths.

        Each is written under a temporary name first; ``results.json`` comes last, so that
        a folder that has it has everything.

        Raises:
            OSError: the folder is not writable.
        """
        from uanref import plots

        pictures = {
            "curves.png": plots.curves(self._histories(), f"{self._title()}: training and validation"),
            "gradients.png": plots.gradients(
                self._gradients(), f"{self._title()}: gradient norms of the weights (mean over the seeds)"
            ),
        }
        rows = [run.activations for run in self.runs if run.activations is not None]
        if rows:
            pictures["activations.png"] = plots.activations(
                rows,
                f"{self._title()}: inputs of the first norm layer after training (seed 0, lr {self.settings.lrs[0]:g})",
            )
        written = []
        for name, figure in pictures.items():
            plots.save(figure, folder / name)
            written.append(folder / name)
        results: dict[str, Any] = {"command": command, "versions": info.versions()}
        if self.note:
            results["note"] = self.note
        results["runs"] = [run.to_dict() for run in self.runs]
        files.write_json(folder / "results.json", results)
        return [folder / "results.json", *written]

    # --- what the pictures show -------------------------------------------------------------------

    def _title(self) -> str:
        return f"{self.settings.dataset}, {self.settings.model}"

    def _rows(self) -> Iterator[tuple[str, float]]:
        for lr in self.settings.lrs:
            yield f"lr {lr:g}", lr

    def _histories(self) -> dict[str, dict[str, list[dict[str, Array]]]]:
        return {
            row: {
                norm: [
                    {name: np.array(run.history.curve(name)) for name in ("train_loss", "validation_accuracy")}
                    for run in runs
                ]
                for norm in self.settings.norms
                if (runs := self.of(norm, lr))
            }
            for row, lr in self._rows()
            if any(run.lr == lr for run in self.runs)
        }

    def _gradients(self) -> dict[str, dict[str, dict[str, tuple[Array, Array]]]]:
        return {
            row: {norm: _mean_gradients(runs) for norm in self.settings.norms if (runs := self.of(norm, lr))}
            for row, lr in self._rows()
            if any(run.lr == lr for run in self.runs)
        }


# --- running --------------------------------------------------------------------------------------


def execute(
    settings: Settings,
    folder: Path,
    *,
    command: str,
    force: bool = False,
    jobs: int | None = None,
    finished: Callable[[Run], None] = lambda run: None,
) -> tuple[Comparison, list[Path]]:
    """Check everything, train all networks and write the results into ``folder``.

    Args:
        settings: what to compare.
        folder: for the results; made before training, removed again if there is nothing to write.
        command: to be written into the results.
        force: overwrite the results that ``folder`` holds.
        jobs: as in :func:`run`.
        finished: called with every run as it finishes.

    Returns:
        The comparison, and the files written: none if Ctrl-C came before the first run finished.

    Raises:
        DataError, ValueError, TypeError: the data cannot be read or does not suit the model.
        OSError: ``folder`` cannot be used.
    """
    splits = try_out(settings)
    created = prepare(folder, force)
    written: list[Path] = []
    try:
        comparison = run(settings, splits, jobs, finished)
        if comparison.runs:
            written = comparison.write(folder, command)
    finally:
        if not written:
            for path in created:
                with contextlib.suppress(OSError):  # somebody else put something there
                    path.rmdir()
    return comparison, written


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
        jobs: processes at a time; None means one a core (one in all on a GPU). Results do not depend on it.
        finished: called with every run as it finishes.

    Returns:
        All runs; after Ctrl-C those that finished, with ``interrupted`` set.
    """
    if jobs is None:
        jobs = info.cores() if settings.backend == "numpy" else 1
    tasks = settings.runs()
    comparison = Comparison(settings, describe(splits))
    try:
        for one in _train_all(settings, tasks, min(count("jobs", jobs), len(tasks))):
            comparison.runs.append(one)
            finished(one)
    except KeyboardInterrupt:
        comparison.interrupted = True
    order = {task: i for i, task in enumerate(tasks)}
    comparison.runs.sort(key=lambda one: order[one.norm, one.lr, one.seed])
    return comparison


def _train_all(settings: Settings, tasks: Sequence[tuple[str, float, int]], jobs: int) -> Iterator[Run]:
    """Yield runs as they finish, ``jobs`` at a time."""
    threads = max(1, info.cores() // jobs)
    if jobs == 1:
        for norm, lr, seed in tasks:
            yield train_one(settings, norm, lr, seed, threads)
        return

    import joblib
    from joblib.externals.loky import get_reusable_executor

    pool = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    # Ctrl-C on a terminal reaches every process. Workers start with the signal ignored and leave it to this one.
    with _ignoring_interrupts():
        results = pool(joblib.delayed(_work)(settings, norm, lr, seed, threads) for norm, lr, seed in tasks)
    try:
        yield from results
    except BaseException:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _work(settings: Settings, norm: str, lr: float, seed: int, threads: int) -> Run:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a worker that joblib started later
    return train_one(settings, norm, lr, seed, threads)


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
        trainer = make_trainer(
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
                activations = _activations(norm, model, splits, settings.batch_size)
    return Run(
        norm=norm,
        lr=lr,
        seed=seed,
        test_accuracy=float(accuracy),
        parameters=size(model),
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
) -> Trainer:
    """Return a trainer made from names and numbers of the command line.

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

    Raises:
        ValueError, TypeError: an unknown name or a number out of range.
    """
    choice("schedule", schedule, SCHEDULES)
    chosen = make_optimizer(optimizer, model.parameters(), lr)
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


def make_optimizer(name: str, parameters: Mapping[str, Parameter], lr: float | None) -> Optimizer:
    """Return the optimizer called ``name``: SGD comes with Nesterov momentum 0.9."""
    rate = LEARNING_RATES[choice("optimizer", name, OPTIMIZERS)] if lr is None else lr
    if name == "sgd":
        return SGD(dict(parameters), rate, momentum=0.9, nesterov=True)
    return Adam(dict(parameters), rate) if name == "adam" else AdamW(dict(parameters), rate)


def describe(splits: Splits) -> str:
    """Return one sentence on the split."""
    return (
        f"{splits.name}: {len(splits.train):,} images to train on, {len(splits.validation):,} to validate, "
        f"{len(splits.test):,} to test."
    )


def size(model: Layer) -> int:
    """Return how many numbers a model trains."""
    return sum(parameter.size for parameter in model.parameters().values())


# --- looking into a trained network ---------------------------------------------------------------


def _weights(model: Layer) -> dict[str, str]:
    """Return the weights of linear and convolutional layers by parameter name, with a label each."""
    found: dict[str, str] = {}
    for path, layer in model.modules():
        if isinstance(getattr(layer, "weight", None), Parameter):
            found[f"{path}.weight"] = f"{len(found) + 1} {type(layer).__name__}"
    return found


def _activations(norm: str, model: models.Model, splits: Splits, batch_size: int) -> Activations | None:
    """Return what the first norm layer receives for the first training batch, and how it models it."""
    from uanref.plots import Activations

    batches = iter(data.Batches(splits.train, batch_size, rng=np.random.default_rng(0), shuffle=True))
    x, _ = next(batches)
    model.eval()
    with backend.inference():
        for layer in model.layers:
            if isinstance(layer, BatchNorm | UAN):
                break
            x = layer.forward(x)
        else:
            return None
    host = np.asarray(backend.to_host(x), dtype=np.float64)
    samples = np.moveaxis(host, 1, 0).reshape(host.shape[1], -1)  # (C, M)
    channels = np.unique(np.linspace(0, len(samples) - 1, min(CHANNELS, len(samples))).round().astype(int))
    samples = samples[channels]
    if isinstance(layer, UAN):
        logits, means, raw = (
            np.asarray(backend.to_host(p.value), dtype=np.float64)
            for p in (layer.prior_logits, layer.mean, layer.raw_variance)
        )
        weights = np.broadcast_to(scipy.special.softmax(logits, axis=0), means.shape)[:, channels]
        means, variances = means[:, channels], np.logaddexp(0.0, raw[:, channels]) + layer.eps
    else:
        weights = np.ones((1, len(channels)))
        means, variances = samples.mean(axis=1)[None], samples.var(axis=1)[None]
    return Activations(norm, tuple(int(c) for c in channels), samples, weights, means, variances)


def _mean_gradients(runs: Sequence[Run]) -> dict[str, tuple[Array, Array]]:
    """Average the gradient norms of one norm's runs, over as many reports as all of them have."""
    reports = min(len(run.history.steps) for run in runs)
    found = {}
    for name, label in runs[0].layers.items():
        table = np.array([run.history.gradient_norms.get(name, [])[:reports] for run in runs])
        found[label] = (np.arange(1, table.shape[1] + 1), table.mean(axis=0))
    return found


# --- text and files -------------------------------------------------------------------------------


def _cells(runs: Sequence[Run]) -> tuple[str, str, str, str]:
    """Return test accuracy, epochs to the target, seconds an epoch and parameters of one row."""
    scored = [100 * run.test_accuracy for run in runs if not run.diverged]
    accuracy = f"{statistics.mean(scored):.2f}" if scored else ""
    if len(scored) > 1:
        accuracy += f" ± {statistics.stdev(scored):.2f}"
    if lost := len(runs) - len(scored):
        accuracy = "\n".join(filter(None, [accuracy, f"{lost} of {len(runs)} diverged"]))

    reached = [epoch for run in runs if (epoch := run.history.epochs_to(TARGET)) is not None]
    epochs = f"{statistics.mean(reached):.1f}" if reached else "not reached"
    if reached and len(reached) < len(runs):
        epochs += f" ({len(reached)} of {len(runs)} runs)"

    timed = [seconds for run in runs if math.isfinite(seconds := run.history.seconds_per_epoch())]
    return accuracy, epochs, f"{statistics.mean(timed):.3f}" if timed else "", f"{runs[0].parameters:,}"


def prepare(folder: Path, force: bool = False) -> list[Path]:
    """Make ``folder`` ready for results before hours of training.

    Returns:
        The folders that were created for it, innermost first.

    Raises:
        FileExistsError: it holds results already and ``force`` is not set, or it is a file.
        OSError: it cannot be created or written.
    """
    try:
        if (folder / "results.json").exists() and not force:
            raise FileExistsError(f"--out {folder} already holds results.json: name another folder or add --force")
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"--out {folder} is a file: name a folder")
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        files.probe(folder, f"--out {folder}")
    except OSError as error:
        if error.strerror is None:  # our own sentences
            raise
        raise OSError(f"--out {folder} cannot be written ({error.strerror}): name another folder") from None
    return created


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
