"""The same network with different norms, on the same seeds and batches: what ``uanref compare`` runs.

A seed draws the split of the data, the weights and the order of the batches, all alike for every norm:
differences between norms are not differences of luck. Runs are independent processes; each computes
with one BLAS thread, so that the number of processes changes no bit of any result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from uanref import backend, data
from uanref.data import Splits
from uanref.experiments import recipe, sweep
from uanref.experiments.run import Run, build, train_one
from uanref.experiments.settings import Asked, Settings
from uanref.own_errors import located

__all__ = ["Comparison", "Run", "Settings", "run", "train_one", "try_out"]


@dataclass
class Comparison:
    """All runs that finished.

    Attributes:
        settings: what was asked for.
        split: a sentence on the data.
        runs: in the order of ``settings.runs()``, whatever order they finished in.
        interrupted: whether Ctrl-C ended it before the last.
        failed: a sentence for each run that ended without a result, another process killed it say.
    """

    settings: Asked
    split: str
    runs: list[Run] = field(default_factory=list)
    interrupted: bool = False
    failed: list[str] = field(default_factory=list)

    @property
    def note(self) -> str:
        """What to say about a comparison that is not complete, else empty."""
        outcome, asked = sweep.Outcome(self.failed, self.interrupted), self.settings
        # Counted, not listed: cells that somebody edited may have a seed beyond all memory.
        return outcome.note(len(self.runs), len(asked.norms) * len(asked.lrs) * asked.seeds, "runs")

    def of(self, norm: str, lr: float) -> list[Run]:
        """Return the runs of one row of the table, one a seed."""
        return [run for run in self.runs if run.norm == norm and run.lr == lr]


@located()
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
    before: Sequence[Run] = (),
) -> Comparison:
    """Train all networks.

    Args:
        settings: what to compare.
        splits: from :func:`try_out`, to tell their sizes.
        jobs: as in :func:`uanref.experiments.sweep.processes`. Results do not depend on it.
        finished: called with every run as it finishes.
        before: runs that need not be trained again.

    Returns:
        All runs; after Ctrl-C those that finished, with ``interrupted`` set.
    """
    order = settings.runs()
    position = {task: i for i, task in enumerate(order)}
    have = {(one.norm, one.lr, one.seed) for one in before}
    missing = [task for task in order if task not in have]
    at_once = sweep.processes(settings.backend, jobs, len(missing))
    threads = max(1, backend.cores() // at_once)
    tasks = [(settings, *task, threads) for task in missing]
    comparison = Comparison(settings, recipe.describe(splits), list(before))

    def keep(one: Run) -> None:
        comparison.runs.append(replace(one, recording=None))  # of thousands they would fill the memory
        finished(one)

    outcome = sweep.work_off(train_one, tasks, at_once, _words, keep)
    comparison.failed, comparison.interrupted = outcome.failed, outcome.interrupted
    comparison.runs.sort(key=lambda one: position[one.norm, one.lr, one.seed])
    return comparison


def _words(settings: Settings, norm: str, lr: float, seed: int, threads: int) -> str:
    return f"{norm}, lr {lr:g}, seed {seed}"
