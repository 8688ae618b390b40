"""Independent tasks in processes, results as they finish, and a Ctrl-C that ends all of it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")


def unordered(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """Yield ``function(*task)`` of every task, in the order in which they finish.

    Args:
        function: of a module, so that a process finds it by its name.
        tasks: the arguments of each call.
        jobs: processes at a time; 1 calls in this process.

    Raises:
        KeyboardInterrupt: Ctrl-C; the processes are gone by then.
    """
    if jobs == 1:
        for task in tasks:
            yield function(*task)
        return

    import joblib
    from joblib.externals.loky import get_reusable_executor

    pool = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    # Ctrl-C on a terminal reaches every process. Workers start with the signal ignored and leave it to this one.
    with _ignoring_interrupts():
        results = pool(joblib.delayed(_work)(function, task) for task in tasks)
    try:
        yield from results
    except BaseException:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _work(function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a worker that joblib started later
    return function(*task)


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
