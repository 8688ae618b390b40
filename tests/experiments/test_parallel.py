"""Tasks in processes: what happens to the others when one of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.heavy import slow

from uanref.experiments import parallel

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def double(x):
    return 2 * x


def fail(x):
    raise OSError(28, f"no space for {x}")


def die(path, number):
    """Kill the own process, only the first time if there is a path."""
    if path is None or not Path(path).exists():
        if path is not None:
            Path(path).touch()
        os.kill(os.getpid(), number)
    return "alive"


def shout(x):
    print("noise on standard output", flush=True)
    os.write(1, b"more noise")
    return x


class Awkward(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def awkward(x):
    raise Awkward(x, x)


def paths():
    import random

    return sys.path, random.__file__, signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def outcomes(function, tasks, jobs=2):
    return dict(parallel.unordered(function, tasks, jobs))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_is_a_result(jobs):
    found = outcomes(fail, [(1,), (2,)], jobs)
    assert {str(error) for error in found.values()} == {"[Errno 28] no space for 1", "[Errno 28] no space for 2"}


def test_an_exception_that_cannot_be_sent_keeps_its_text():
    (error,) = outcomes(awkward, [(1,)]).values()
    assert str(error) == "Awkward: 1 and 1"


def test_a_function_of_no_module_can_be_sent():
    local = 3
    assert outcomes(lambda x: x + local, [(1,), (2,)]) == {(1,): 4, (2,): 5}


def test_what_a_task_prints_is_no_answer():
    assert outcomes(shout, [(1,), (2,)]) == {(1,): 1, (2,): 2}


@posix
def test_a_killed_task_is_done_once_more(tmp_path):
    path = str(tmp_path / "once")
    assert outcomes(die, [(path, signal.SIGKILL)]) == {(path, signal.SIGKILL): "alive"}


@posix
def test_a_task_that_is_killed_twice_is_lost_alone():
    tasks = [(None, 0), (None, signal.SIGKILL), (None, 0), (None, 0)]
    found = list(parallel.unordered(die, tasks, 2))
    assert sorted(str(outcome) for _, outcome in found)[:3] == ["alive"] * 3
    (lost,) = (outcome for _, outcome in found if outcome != "alive")
    assert isinstance(lost, parallel.Lost)
    assert "killed by signal 9, twice" in str(lost)


def starts(monkeypatch, *good):
    """Let the first starts of a process succeed or fail as ``good`` says, all later ones succeed."""
    start, left = parallel._start, list(good)

    def attempt():
        if left and not left.pop(0):
            raise OSError(12, "Cannot allocate memory")
        return start()

    monkeypatch.setattr(parallel, "_start", attempt)


@posix
def test_a_restart_that_fails_costs_one_task(monkeypatch):
    starts(monkeypatch, True, False)
    tasks = [(None, signal.SIGKILL), (None, 0), (None, 0)]
    pool = parallel._Pool(die, tasks)
    found = list(pool.answers(1))  # one after the other, in a process
    pool.close()
    assert [str(outcome) for _, outcome in found[1:]] == ["alive", "alive"]
    lost = found[0][1]
    assert isinstance(lost, parallel.Lost)
    sentence = "its process was killed by signal 9, and no other could be started (Cannot allocate memory); "
    assert str(lost) == sentence + "for want of memory, fewer --jobs help"


def test_a_first_start_that_fails_costs_one_task(monkeypatch):
    starts(monkeypatch, False)
    pool = parallel._Pool(double, [(1,), (2,)])
    (_, failed), (_, done) = pool.answers(1)
    pool.close()
    assert "Cannot allocate memory" in str(failed)
    assert done == 4


def test_a_thread_that_cannot_be_started_leaves_the_work_to_the_others(monkeypatch):
    start, started = threading.Thread.start, []

    def some(thread):
        if started and "_serve" in repr(thread):
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", some)
    assert outcomes(double, [(1,), (2,), (3,)]) == {(1,): 2, (2,): 4, (3,): 6}


@posix
def test_no_process_stays_when_the_caller_stops():
    before = children()
    results = parallel.unordered(time.sleep, [(0,), (60,), (60,)], 2)
    next(results)
    assert len(children()) in (0, len(before) + 2)  # 0 where the system does not tell
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 30
    assert children() == before


def children():
    """Return the process numbers of this process's children; Linux alone tells."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [pid for path in listed for pid in path.read_text().split() if alive(int(pid))]


SCRIPT = """
import os, sys, time
from uanref.experiments import parallel
def work(x):
    with open(f"pid-{x}", "w") as file:
        file.write(str(os.getpid()))
    end = time.monotonic() + 100
    while time.monotonic() < end:
        sum(range(1000))
for _ in parallel.unordered(work, [(1,), (2,)], 2):
    pass
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, slow(signal.SIGTERM), slow(signal.SIGINT)])
def test_workers_end_with_their_parent(number, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, stderr=subprocess.DEVNULL)
    files = [tmp_path / "pid-1", tmp_path / "pid-2"]
    assert wait_for(lambda: all(file.exists() and file.read_text() for file in files), 60)
    pids = [int(file.read_text()) for file in files]
    assert all(alive(pid) for pid in pids)
    parent.send_signal(number)
    parent.wait(60)
    assert wait_for(lambda: not any(alive(pid) for pid in pids), 10)


def test_the_working_folder_comes_last(tmp_path, monkeypatch):
    """Also where this process has it first, as one does that was started by ``python -c``."""
    for name in ("random", "numpy", "queue", "pickle", "struct", "signal", "types", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('not the one that was meant')", encoding="utf-8")
    (tmp_path / "mine_alone.py").write_text("VALUE = 3", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    (found,) = outcomes(paths, [()]).values()
    path, random, ignored = found
    assert path[-1] == str(tmp_path)
    assert not random.startswith(str(tmp_path))
    assert ignored
    assert outcomes(lambda: __import__("mine_alone").VALUE, [()]) == {(): 3}
