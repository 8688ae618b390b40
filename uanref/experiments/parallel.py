"""Independent tasks in processes: results as they finish, and an end that leaves no process.

Each process belongs to a thread of this one that hands it tasks. A process that is killed, say for memory, takes one
task with it, which a fresh process gets once more; all others go on. Ctrl-C is this process's matter alone. When this
process dies, its workers notice at once (:mod:`uanref.experiments.worker`).

:func:`unordered` is the one place that decides where work runs; a cluster's scheduler would stand in for it alone.
joblib does not: tried with version 1.6.0 and its own processes (loky), one worker that was killed ended all work with a
``TerminatedWorkerError``, the results of the other tasks lost, and workers went on after their parent was killed.
"""

from __future__ import annotations

import collections
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import uanref
from uanref.experiments import worker
from uanref.reasons import reason

Result = TypeVar("Result")
Task = tuple[Any, ...]

_ADVICE = "for want of memory, fewer --jobs help"

# A worker finds modules where this process does. It imports this very package, which may be another than the installed.
_START = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import importlib.util, sys
sys.path[:] = {path!r}
spec = importlib.util.spec_from_file_location("uanref", {file!r}, submodule_search_locations={folders!r})
package = sys.modules["uanref"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from uanref.experiments import worker
worker.main()
"""


class Lost(RuntimeError):
    """A task whose process was killed twice, or once and no other could be started."""


def unordered(
    function: Callable[..., Result], tasks: Iterable[Task], jobs: int
) -> Generator[tuple[Task, Result | Exception], None, None]:
    """Yield every task with ``function(*task)``, in the order in which they finish.

    In the place of a result stands the exception that the task raised, or :class:`Lost`: the others go on.

    Args:
        function: what processes can unpickle; one of a notebook can be.
        tasks: the arguments of each call.
        jobs: processes at a time; 1 calls in this process.

    Raises:
        KeyboardInterrupt: Ctrl-C; the processes are gone by then.
    """
    if jobs == 1:
        for task in tasks:
            yield task, worker.attempt(function, task)
        return
    pool = _Pool(function, list(tasks))
    try:
        yield from pool.answers(jobs)
    finally:
        pool.close()


class _Pool(Generic[Result]):
    def __init__(self, function: Callable[..., Result], tasks: list[Task]) -> None:
        self._function = function
        self._tasks = tasks
        self._waiting = collections.deque(tasks)
        self._answers: queue.SimpleQueue[tuple[Task, Result | Exception]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def answers(self, jobs: int) -> Iterator[tuple[Task, Result | Exception]]:
        for _ in range(min(jobs, len(self._tasks))):
            thread = threading.Thread(target=self._serve, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more: those that it gave do all
                if not self._threads:
                    raise
                break
            self._threads.append(thread)
        for _ in self._tasks:
            yield self._answers.get()

    def close(self) -> None:
        """Kill what still runs."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        """Hand tasks to a process, one after the other."""
        if hasattr(signal, "pthread_sigmask"):  # its processes inherit this: Ctrl-C on a terminal reaches them all
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process = None
        while self._waiting and not self._closed:
            try:
                task = self._waiting.popleft()
            except IndexError:  # another thread was faster
                break
            try:
                process = self._started() if process is None else process
                outcome = self._ask(process, task)
                if isinstance(outcome, Lost):
                    process = None  # the next task needs a fresh one, also where none comes up for this one
                    process = self._again(outcome)
                    outcome = self._ask(process, task)
                    if isinstance(outcome, Lost):
                        process, outcome = None, Lost(f"{outcome}, twice; {_ADVICE}")
            except Exception as error:  # no process can be started, or the task cannot be sent
                outcome = error
            self._answers.put((task, outcome))
        if process is not None:
            self._finish(process)

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Lost("the work was ended")
            process = _start()
            self._processes.add(process)
        return process

    def _again(self, lost: Lost) -> subprocess.Popen[bytes]:
        """Start another process after one that was lost.

        Raises:
            Lost: none can be started, for want of memory say.
        """
        try:
            return self._started()
        except Exception as error:
            raise Lost(f"{lost}, and no other could be started ({reason(error)}); {_ADVICE}") from error

    def _ask(self, process: subprocess.Popen[bytes], task: Task) -> Result | Exception:
        import cloudpickle

        call = cloudpickle.dumps((self._function, task))
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            worker.send(process.stdin, call)  # type: ignore[arg-type]
            answer: Result | Exception = pickle.loads(worker.receive(process.stdout))  # type: ignore[arg-type]
        except (OSError, EOFError):
            code = self._finish(process)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return Lost(f"its process {how}")
        return answer

    def _finish(self, process: subprocess.Popen[bytes]) -> int:
        """Let a process end, which it does when its input ends, and return its exit code."""
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # a message that was not read
                pass
        code = process.wait()
        with self._lock:
            self._processes.discard(process)
        return code


def _start() -> subprocess.Popen[bytes]:
    try:
        here = os.getcwd()
    except FileNotFoundError:  # removed: nothing can be imported from it
        here = ""
    path = [os.path.abspath(entry) for entry in sys.path if entry or here]
    # Last, or a random.py of the working folder would stand in for Python's.
    path = [entry for entry in path if entry != here] + [here] * (here in path)
    code = _START.format(path=path, file=uanref.__file__, folders=list(uanref.__path__))
    # One BLAS thread, as every run asks for; a library that starts more keeps them waiting.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
