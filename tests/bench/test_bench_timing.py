"""Turns, noise, memory, the machine's limits: never how fast."""

from __future__ import annotations

import ctypes
import math
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from uanref.bench import host, limits, malloc, timing
from uanref.bench.timing import Contest, Timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that tasks move."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: found.now)
    return found


def test_contestants_take_turns(clock: SimpleNamespace) -> None:
    calls: list[str] = []

    def task(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            clock.now += seconds

        return run

    found = timing.measure(Contest(task("a", 0.02), task("b", 0.04)), repeats=3)
    warm = timing.WARM_UP
    assert calls == ["a"] * warm + ["b"] * warm + list("ab") + list("ab" + "ba" + "ab")
    assert found == Timing(pytest.approx(0.02), pytest.approx(0.04), pytest.approx(0.5), pytest.approx(0.0), 1)
    assert not found.noisy


def test_short_tasks_are_called_in_a_row(clock: SimpleNamespace) -> None:
    calls = []

    def task() -> None:
        calls.append(1)
        clock.now += 0.001

    found = timing.measure(Contest(task), repeats=2)
    assert len(calls) == timing.WARM_UP + 1 + 2 * 20
    assert found.ours == pytest.approx(0.001)
    assert found.peer is None
    assert found.ratio is None


def test_a_noisy_case_is_measured_again_and_the_quietest_round_counts(clock: SimpleNamespace) -> None:
    rounds = [[1, 9, 9], [1, 9, 2], [1, 1.5, 1.5]]  # the spread of the last is 1 / 6
    noise = iter([1.0] * (timing.WARM_UP + 1) + [each for one in rounds for each in one])

    def task() -> None:
        clock.now += 0.1 * next(noise)

    found = timing.measure(Contest(task), repeats=3)
    assert found == Timing(pytest.approx(0.15), None, None, pytest.approx(1 / 6), 3)
    assert not found.noisy


def test_where_no_round_is_quiet_the_quietest_is_told_as_noisy(clock: SimpleNamespace) -> None:
    noise = iter([1, 1, 1, 1, 1, 9, 1, 2, 1, 9, 5])

    def task() -> None:
        clock.now += 0.1 * next(noise)

    found = timing.measure(Contest(task), repeats=2)
    assert (found.rounds, found.noisy) == (3, True)
    assert found.ours == pytest.approx(0.15)


def test_patience_ends(clock: SimpleNamespace) -> None:
    calls = []

    def task() -> None:
        calls.append(1)
        clock.now += timing.PATIENCE * (1 + len(calls) % 2)

    found = timing.measure(Contest(task), repeats=4)
    assert len(calls) == 1 + 1 + 4
    assert found.rounds == 1
    assert found.noisy


def test_spread() -> None:
    assert timing.spread([3.0]) == 0.0
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert timing.spread([0.0, 0.0]) == 0.0


def test_peak_memory_counts_intermediates_and_only_the_extra() -> None:
    before = np.ones(10**6)  # 8 MB that were there already

    def task() -> float:
        twice = np.concatenate([before, before])  # 16 MB
        return float(twice[0])

    assert 16e6 <= timing.peak_bytes(task) <= 17e6


@pytest.mark.parametrize("threads", [1, 2])
def test_the_limits_of_the_machine(threads: int) -> None:
    found = limits.measured(threads, size=64)
    assert found.threads == threads
    assert all(math.isfinite(each) and each > 0 for each in (found.gemm, found.copy, found.exp))


def test_malloc_is_told_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    def library(answer: int):
        return lambda name: SimpleNamespace(mallopt=lambda *pair: told.append(pair) or answer)

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", library(1))
    assert malloc.keep_warm().startswith("malloc keeps what it gets")
    assert told == [(malloc.M_MMAP_THRESHOLD, malloc.LARGEST), (malloc.M_TRIM_THRESHOLD, 2**31 - 1)]
    monkeypatch.setattr(ctypes, "CDLL", library(0))
    assert "mallopt refused" in malloc.keep_warm()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert "no glibc" in malloc.keep_warm()
    assert len(told) == 3


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_takes_the_thresholds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from uanref.bench import malloc; print(malloc.keep_warm())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("malloc keeps what it gets")


def test_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = SimpleNamespace(package="torch", version=lambda: "9.9")
    found = host.facts([peer], "malloc is what it is")  # type: ignore[list-item]
    assert found["versions"]["torch"] == "9.9"
    assert found["versions"]["numpy"] == np.__version__
    assert found["cores"] >= 1
    assert found["processor"]
    assert host.busy({"load": 2.0})
    assert not host.busy({"load": 0.1})
    assert not host.busy({"load": None})
    monkeypatch.delattr(host.os, "getloadavg", raising=False)
    assert host.load() is None
