"""How long it will take: the plan, and what is left of it."""

from __future__ import annotations

import pytest

from uanref.cli.output import duration
from uanref.experiments import compare, estimate
from uanref.experiments.estimate import Estimate
from uanref.experiments.settings import Settings
from uanref.training.history import History

SETTINGS = Settings(model="mlp", epochs=2, seeds=2, norms=("none", "bn"))


def run(norm, seed, seconds):
    return compare.Run(norm, 0.01, seed, 0.9, 1, History(), {}, measured={"seconds": seconds})


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds a run of none and thirty of bn are expected; the clock stands unless it is moved."""
    now = [0.0]
    monkeypatch.setattr(estimate, "_seconds", lambda settings, splits, norm, threads: {"none": 10.0, "bn": 30.0}[norm])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    return now


def test_the_rest_follows_from_what_finished(clock):
    made = Estimate(SETTINGS, None, 2, [])
    assert made.processes == 2
    assert made.left() == 40  # 80 seconds of work in two processes
    clock[0] = 20.0
    made.add(run("none", 0, 20.0))  # twice as long as expected
    assert made.left() == 60
    clock[0] = 1000.0
    assert made.left() == 0


def test_runs_that_are_there_take_no_time(clock):
    assert Estimate(SETTINGS, None, 1, [run("bn", 0, 1.0), run("bn", 1, 1.0)]).left() == 20
    every = [run(norm, seed, 1.0) for norm, _, seed in SETTINGS.runs()]
    assert Estimate(SETTINGS, None, 1, every).left() == 0


def test_one_training_step_tells_how_long_a_run_takes():
    splits = compare.try_out(SETTINGS)
    steps = 2 * 12  # epochs, batches
    assert 1e-5 * steps < estimate._seconds(SETTINGS, splits, "bn", 1) < 10 * steps


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.01, "1 s"), (40.4, "40 s"), (99, "99 s"), (100, "2 min"), (9000, "2.5 h")],
)
def test_times_are_said_shortly(seconds, said):
    assert duration(seconds) == said
