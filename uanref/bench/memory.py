"""The peak memory of a pass, ours beside PyTorch's, as the system sees both: ``uanref bench --memory``.

NumPy tells what it allocates and PyTorch does not, so neither is asked: each side makes its pass in a fresh process,
and the kernel says how far the process's resident memory rose. Before, the same layers go through two samples, so that
libraries are loaded, and what was freed goes back to the system. Buffers that a side keeps for later passes count; x,
dy and the weights do not.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uanref.bench import cases, malloc, ours, peers, suite
from uanref.bench import work as works
from uanref.bench.timing import Task
from uanref.bench.work import Material, Work

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
SIDES = ("ours", "torch")
_CHILD = "import sys; from uanref.bench import memory; memory.child(*sys.argv[1:])"


@dataclass(frozen=True)
class Peak:
    """One case.

    Attributes:
        case: its name.
        threads: of both sides.
        ours_mb: how far the memory of our process rose, in 10^6 bytes.
        torch_mb: that of PyTorch's.
    """

    case: str
    threads: int
    ours_mb: float
    torch_mb: float

    @property
    def ratio(self) -> float:
        """Ours by PyTorch's."""
        return self.ours_mb / self.torch_mb if self.torch_mb else float("inf")


def chosen(names: Sequence[str] | None = None) -> dict[str, cases.Case]:
    """Return the cases that have PyTorch beside them.

    Args:
        names: keys of :data:`uanref.bench.cases.CASES`; all for None.

    Raises:
        ValueError: an unknown case, or none that PyTorch does.
    """
    found = cases.chosen(None if names is None else tuple(names))
    usable = {name: case for name, case in found.items() if case.work is not None and case.beside is None}
    if not usable:
        raise ValueError(f"{', '.join(found)}: PyTorch does none of them, choose others")
    return usable


def run(names: Sequence[str] | None = None, threads: int | None = None) -> Iterator[Peak]:
    """Measure, and yield each case when it is done.

    Args:
        names: as in :func:`chosen`.
        threads: of both sides; as each case says for None.

    Raises:
        ValueError: as :func:`chosen`, or a system that does not tell a process's peak.
        PeerMissing: PyTorch is not installed.
        RuntimeError: one of the processes failed.
    """
    if platform.system() != "Linux" or not RESET.exists():
        raise ValueError("--memory reads /proc, which Linux alone has: measure there")
    peers.find(("torch",))
    return _peaks(chosen(names), threads)


def _peaks(found: dict[str, cases.Case], threads: int | None) -> Iterator[Peak]:
    for name, case in found.items():
        number = suite.threads_of(case, threads)
        yield Peak(name, number, *(_in_a_process(name, side, number) / 1e6 for side in SIDES))


def _in_a_process(case: str, side: str, threads: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, case, side, str(threads)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"the process that measures {case}, {side}, ended with code {done.returncode}: {last[:200]}")
    return int(done.stdout.split()[-1])


def child(case: str, side: str, threads: str) -> None:
    """Print how many bytes one pass of a case takes; runs in a process of its own."""
    malloc.keep_warm()
    what = cases.CASES[case].work
    assert what is not None  # chosen leaves others out
    with suite.using_threads(int(threads)):
        two = dataclasses.replace(what, shape=(2, *what.shape[1:]))
        for each in (two, what):
            task = _task(side, each, int(threads))
            rose = risen(task)
    sys.stdout.write(f"{rose}\n")


def risen(task: Task) -> int:
    """Return by how many bytes the resident memory of this process rises while ``task`` runs, its results included."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    switch = os.open(RESET, os.O_WRONLY)
    os.write(switch, b"5")  # the peak begins anew
    os.close(switch)
    kept = task()
    rose = _status("VmHWM") - before
    del kept
    return max(0, rose)


def _status(name: str) -> int:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def _task(side: str, what: Work, threads: int) -> Task:
    made = ours.layers(what)
    given: Material = works.material(what, ours.weights(made, what))
    if side == "ours":
        return ours.task(made, what, given)
    peer = peers.make("torch")
    peer.load()
    peer.limited(threads).__enter__()  # for the rest of this process
    return peer.task(what, given)
