"""How long a comparison will take: from one training step of each network, then from the runs that finished."""

from __future__ import annotations

import time

import numpy as np
import threadpoolctl

from uanref import backend, data
from uanref.data import Splits
from uanref.experiments.run import Run, build
from uanref.experiments.settings import Settings
from uanref.experiments.sweep import processes
from uanref.losses import SoftmaxCrossEntropy
from uanref.own_errors import located

STEPS = 3  # of which the fastest counts


class Estimate:
    """The time that is left, better with every run that finishes.

    Args:
        settings: what is compared.
        splits: the data.
        jobs: processes at a time, None for one a core.
        before: runs that need not be trained.

    Attributes:
        processes: how many run at a time.
    """

    def __init__(self, settings: Settings, splits: Splits, jobs: int | None, before: list[Run]) -> None:
        have = {(run.norm, run.lr, run.seed) for run in before}
        norms = [norm for norm, lr, seed in settings.runs() if (norm, lr, seed) not in have]
        self.processes = processes(settings.backend, jobs, len(norms))
        threads = max(1, backend.cores() // self.processes)
        self._costs = {norm: _seconds(settings, splits, norm, threads) for norm in dict.fromkeys(norms)}
        self._expected = sum(self._costs[norm] for norm in norms)
        self._done = self._took = 0.0
        self._start = time.perf_counter()

    def add(self, run: Run) -> None:
        """Take in a run that finished."""
        self._done += self._costs[run.norm]
        self._took += float(run.measured["seconds"])

    def left(self) -> float:
        """Return the seconds until the last run ends."""
        scale = self._took / self._done if self._done else 1.0
        return max(0.0, scale * self._expected / self.processes - (time.perf_counter() - self._start))


@located()
def _seconds(settings: Settings, splits: Splits, norm: str, threads: int) -> float:
    """Time a training step and return the seconds of a whole run."""
    limits = threadpoolctl.threadpool_limits(1, user_api="blas")
    with backend.using(settings.backend), backend.limit_threads(threads), limits, np.errstate(all="ignore"):
        batches = data.Batches(splits.train, settings.batch_size)
        images, labels = next(iter(batches))
        model, loss = build(settings, splits, norm, 0), SoftmaxCrossEntropy()
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            value = loss.forward(model.forward(images), labels)
            model.backward(loss.backward())
            backend.to_host(value)  # waits for a GPU
            times.append(time.perf_counter() - start)
    return min(times) * len(batches) * settings.epochs
