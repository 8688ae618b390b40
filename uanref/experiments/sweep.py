"""The one mechanism of all sweeps: a plan of configs, the pieces that are missing, processes, cells.

A plan is data, and so is what comes back: nothing here assumes that a piece of work runs on this machine. Where it
runs is decided by :func:`uanref.experiments.parallel.unordered` alone. Each piece computes with one BLAS thread, so
that the number of processes changes no bit of any result.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import threadpoolctl

from uanref import backend, machine
from uanref.experiments import cells, parallel
from uanref.experiments.experiment import SCALES, Cell, Config, Experiment
from uanref.experiments.measuring import Measuring
from uanref.layers.base import choice, count
from uanref.reasons import message

Result = TypeVar("Result")
_LONGEST = 1e9  # seconds of one cell: more is nothing that was measured
MAX_SEEDS = 10_000  # a slip of the keyboard should not fill the memory with plans


@dataclass
class Outcome:
    """How a sweep ended.

    Attributes:
        failed: a sentence for each piece that ended without a result, another process killed it say.
        interrupted: whether Ctrl-C ended it before the last.
    """

    failed: list[str] = field(default_factory=list)
    interrupted: bool = False

    def note(self, finished: int, total: int, what: str) -> str:
        """Return what to say about a sweep that is not complete, else nothing."""
        notes = [f"interrupted: {finished} of {total} {what} finished"] if self.interrupted else []
        if self.failed:
            notes.append(f"{len(self.failed)} of {total} {what} failed: {self.failed[0]}")
        return "; ".join(notes)


FIRST_SEED = {"tiny": 0, "small": 100, "paper": 100}
"""By scale. Epochs, grids and some margins were settled on tries with seeds below 100: a verdict is on seeds that
nobody has looked at before (this project's choice)."""


def plan(experiment: Experiment, scale: str, seeds: int | None = None, backend_name: str = "numpy") -> list[Config]:
    """Return the configs of all cells; their seeds begin at :data:`FIRST_SEED`.

    Args:
        experiment: what is asked.
        scale: one of ``SCALES``.
        seeds: how many; None for the scale's own number.
        backend_name: where it is computed.

    Raises:
        ValueError: an unknown scale or backend, no seeds or far too many; a plan that has a cell twice.
        BackendUnavailable: the backend cannot run here.
    """
    choice("scale", scale, SCALES)
    if seeds is not None and count("seeds", seeds) > MAX_SEEDS:
        raise ValueError(f"seeds must be <= {MAX_SEEDS}, got {seeds}")
    backend.require(backend_name)
    added = {"experiment": experiment.name, "scale": scale, "backend": backend_name}
    planned = experiment.plan(scale, seeds)
    configs = [added | config | {"seed": config["seed"] + FIRST_SEED[scale]} for config in planned]
    if len({cells.name(config) for config in configs}) < len(configs):
        raise ValueError(f"the plan of {experiment.name} has a cell twice: this is a mistake in uanref")
    return configs


def processes(backend_name: str, jobs: int | None, pieces: int) -> int:
    """Return how many processes ``pieces`` of work get.

    Args:
        backend_name: on a GPU all share one process, whatever ``jobs`` says: its memory and its compiled kernels are
            not shared between processes.
        jobs: at most; None means one a core.
        pieces: how many there are.
    """
    if backend_name != "numpy":
        return 1
    return max(1, min(backend.cores() if jobs is None else count("jobs", jobs), pieces))


def at_most(experiment: Experiment, jobs: int | None) -> int | None:
    """Return the smaller of what an experiment bears at the same time and what is asked for; None if neither says."""
    return min((each for each in (experiment.jobs, jobs) if each is not None), default=None)


def work_off(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    name: Callable[..., str],
    finished: Callable[[Result], object],
) -> Outcome:
    """Do pieces of work, and hand over each result as it comes.

    Args:
        function: does one.
        tasks: its arguments for each of them.
        jobs: processes at a time.
        name: returns, from the arguments, what a sentence calls it.
        finished: called with every result.

    Returns:
        What failed; after Ctrl-C, with ``interrupted`` set.
    """
    outcome = Outcome()
    try:
        with contextlib.closing(parallel.unordered(function, tasks, jobs)) as answers:
            for task, answer in answers:
                if isinstance(answer, Exception):
                    outcome.failed.append(f"{name(*task)}: {message(answer)}")
                else:
                    finished(answer)
    except KeyboardInterrupt:
        outcome.interrupted = True
    return outcome


def run(
    experiment: Experiment,
    missing: Sequence[Config],
    jobs: int | None = None,
    finished: Callable[[Cell], object] = lambda cell: None,
) -> Outcome:
    """Compute cells of an experiment, all of one backend, those of the first seed first.

    Args:
        experiment: whose they are.
        missing: their configs, from :func:`plan`.
        jobs: as in :func:`processes`. Results do not depend on it.
        finished: called with every cell as it finishes.
    """
    if not missing:
        return Outcome()
    at_once = processes(missing[0]["backend"], at_most(experiment, jobs), len(missing))
    threads = max(1, backend.cores() // at_once)
    ordered = sorted(missing, key=_seed)  # an interrupted sweep has whole seeds, and soon knows what each piece takes
    tasks = [(experiment.compute, config, threads) for config in ordered]
    return work_off(computed, tasks, at_once, lambda function, config, threads: words(config), finished)


def computed(
    function: Callable[[Config], tuple[dict[str, Any], dict[str, Any]]], config: Config, threads: int = 1
) -> Cell:
    """Return the cell of ``config``.

    Args:
        function: an experiment's ``compute``.
        config: with the backend.
        threads: for the arithmetic of this one cell; BLAS has one, as a product split over threads may round otherwise.

    Raises:
        KeyboardInterrupt: Ctrl-C; nothing of this cell is kept.
        ValueError: ``function`` returns what JSON has no form for.
    """
    measuring = Measuring()
    limits = threadpoolctl.threadpool_limits(1, user_api="blas")
    with backend.using(config["backend"]), backend.limit_threads(threads), limits:
        result, besides = function(config)
    taken = measuring.taken()
    if config["backend"] == "cupy":
        taken["device"] = machine.device()
    try:  # as it will be read
        return Cell(*json.loads(json.dumps([config, result, taken | besides], allow_nan=False)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"a cell cannot be written as JSON ({message(error)}): this is a mistake in uanref") from error


def words(config: Config) -> str:
    """Return what a sentence calls the cell of ``config``: what it is about, without what all of them share."""
    shown = {name: value for name, value in config.items() if name in ("norm", "lr", "batch_size", "seed")}
    if len(shown) < 2:
        shown = {name: value for name, value in config.items() if name not in ("experiment", "scale", "backend")}
    return ", ".join(f"{name} {value}" for name, value in list(shown.items())[:6])


class TimeLeft:
    """The seconds until the last cell of a sweep is finished: cells that differ in their seed alone take alike.

    Args:
        missing: the configs of those that are to be computed.
        before: those that were finished, perhaps on a slower day.
        at_once: how many processes.
    """

    def __init__(self, missing: Sequence[Config], before: Sequence[Cell], at_once: int) -> None:
        self._waiting = {cells.name(config): _kind(config) for config in missing}
        self._at_once = at_once
        self._took: dict[str, list[float]] = {}
        for cell in before:
            self._learn(cell)
        self._last = time.perf_counter()

    def add(self, cell: Cell) -> None:
        """Take in a cell that finished."""
        self._waiting.pop(cells.name(cell.config), None)
        self._learn(cell)
        self._last = time.perf_counter()

    def left(self) -> float | None:
        """Return the seconds; None while nothing is known."""
        known = {kind: sum(took) / len(took) for kind, took in self._took.items()}
        if not known:
            return None
        usual = sum(known.values()) / len(known)
        work = sum(known.get(kind, usual) for kind in self._waiting.values())
        return max(0.0, work / self._at_once - (time.perf_counter() - self._last))

    def _learn(self, cell: Cell) -> None:
        seconds = cell.measured.get("seconds")
        if isinstance(seconds, int | float) and 0 <= seconds < _LONGEST:
            self._took.setdefault(_kind(cell.config), []).append(seconds)


def _kind(config: Config) -> str:
    return json.dumps({name: value for name, value in config.items() if name != "seed"}, sort_keys=True)


def _seed(config: Config) -> int:
    seed = config.get("seed", 0)
    return seed if isinstance(seed, int) else 0
