"""Convergence: what a scale plans, that a cell is a function of its config, and what is said of known times."""

from __future__ import annotations

import math

import pytest
from rich.console import Console

from uanref.experiments import cells as files_of_cells
from uanref.experiments import convergence, stepwise, trial
from uanref.experiments.convergence import EXPERIMENT
from uanref.experiments.convergence_times import at_equal_rates, faster, highest, own_rates, times, tolerated
from uanref.experiments.experiment import Cell
from uanref.experiments.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED

RATES = (0.01, 0.1, 1.0)
SETTING = {"dataset": "digits", "model": "mlp", "updates": 20, "every": 10, "target": 0.9}


def made(norm, lr, seed, reached):
    """A cell that reached its target after ``reached`` updates, None for never, "diverged" at once."""
    diverged = reached == "diverged"
    reached = None if diverged else reached
    result = {
        "curve": [] if diverged else [0.5, 0.6] if reached is None else [0.91, 0.92],
        "updates_to_target": reached,
        "speed": 1 / reached if reached else 0.0,
        "validation_accuracy": None if diverged else 0.92,
        "test_accuracy": None if diverged else 0.9,
        "diverged": diverged,
        "parameters": 1,
    }
    return Cell(SETTING | {"norm": norm, "lr": lr, "seed": seed}, result, {})


def grid(by_norm, seeds=4):
    return [
        made(norm, rate, seed, reached)
        for seed in range(seeds)
        for norm, row in by_norm.items()
        for rate, reached in zip(RATES, row, strict=True)
    ]


CELLS = grid({"none": (20, "diverged", None), "bn": (20, 10, "diverged"), "uan": (10, 20, None)})


def text(tables):
    console = Console(width=80)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


@pytest.mark.parametrize(("scale", "count"), [("tiny", 3 * 3 * 2), ("small", 10 * 9 * 7), ("paper", 5 * 9 * 6)])
def test_plan(scale, count):
    configs = EXPERIMENT.plan(scale, None)
    assert len(configs) == len({files_of_cells.name(c) for c in configs}) == count
    assert all(c["updates"] % c["every"] == 0 for c in configs)
    assert "epochs" not in configs[0]
    assert {c["seed"] for c in EXPERIMENT.plan(scale, 2)} == {0, 1}


def test_small_rates_span_more_than_two_decades():
    rates = convergence.SCALES["small"].rates
    assert max(rates) / min(rates) >= 100


def test_a_cell_is_a_function_of_its_config():
    config = EXPERIMENT.plan("tiny", 1)[1] | {"norm": "bn", "lr": 0.03}
    first, measured = EXPERIMENT.compute(config)
    assert EXPERIMENT.compute(config)[0] == first
    assert measured == {}
    assert len(first["curve"]) == 24 // 4
    assert first["validation_accuracy"] == first["curve"][-1]
    reached = [4 * (i + 1) for i, accuracy in enumerate(first["curve"]) if accuracy >= 0.8]
    assert first["updates_to_target"] == reached[0]
    assert first["speed"] == 1 / reached[0]
    assert not first["diverged"]


def test_updates_train_as_epochs_do():
    config = trial.BASE | {"norm": "uan", "epochs": 2}
    trained = trial.train(config)
    model, trainer = stepwise.begin(config)
    numbers = list(stepwise.updates(trainer, 2 * len(trainer.batches)))
    assert numbers == list(range(1, 25))
    for name, parameter in trained.model.parameters().items():
        assert (parameter.value == model.parameters()[name].value).all()


def test_a_run_that_diverges_never_arrives():
    config = EXPERIMENT.plan("tiny", 1)[0] | {"optimizer": "sgd", "lr": 1e30, "target": 0.99}
    result, _ = EXPERIMENT.compute(config)
    assert result["diverged"]
    assert result["updates_to_target"] is result["test_accuracy"] is result["validation_accuracy"] is None
    assert result["speed"] == 0.0


@pytest.mark.parametrize(
    ("a", "b", "score"),
    [(9, 10, 1), (10, 9, 0), (91, 100, 0.5), (10, math.inf, 1), (math.inf, 10, 0), (math.inf, math.inf, 0.5)],
)
def test_faster_is_a_tenth_fewer_updates_and_never_is_infinite(a, b, score):
    assert faster(a, b) == score


def test_times_and_rates():
    assert times(CELLS, "none", 0.1) == dict.fromkeys(range(4), math.inf)
    assert own_rates(CELLS) == {"none": 0.01, "bn": 0.1, "uan": 0.01}
    assert [highest(CELLS, norm) for norm in ("none", "bn", "uan")] == [0.01, 0.1, 0.1]
    assert tolerated(CELLS, "uan") == dict.fromkeys(range(4), -1.0)
    never = grid({"none": (None, None, None)})
    assert highest(never, "none") is None
    assert tolerated(never, "none") == pytest.approx(dict.fromkeys(range(4), -3.0))  # a step below the lowest
    # At 0.01 UAN is faster, at 0.1 slower, at 1 neither arrives and nothing is counted.
    assert at_equal_rates(CELLS, "uan", "bn").mean == 0.0


def test_verdicts_of_known_times():
    found = EXPERIMENT.verdicts(CELLS)
    assert [v.verdict for v in found] == [NOT_SUPPORTED, NOT_SUPPORTED, SUPPORTED, SUPPORTED]  # own rates: 10 and 10
    assert "0.1, without a norm 0.01" in found[2].because
    better = grid({"none": (20, None, None), "bn": (20, 20, None), "uan": (10, 10, None)})
    assert [v.verdict for v in EXPERIMENT.verdicts(better)][:2] == [SUPPORTED, SUPPORTED]
    worse = grid({"none": (20, None, None), "bn": (None, None, None), "uan": (20, None, None)})
    assert [v.verdict for v in EXPERIMENT.verdicts(worse)] == [SUPPORTED, SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED]


def test_rates_that_the_grid_does_not_reach_are_not_testable():
    found = EXPERIMENT.verdicts(grid({"none": (20, 20, 20), "bn": (20, 20, 20), "uan": (20, 20, 20)}))
    assert [v.verdict for v in found] == [NOT_SUPPORTED, NOT_SUPPORTED, NOT_TESTABLE, NOT_TESTABLE]


def test_tables_tell_medians_and_who_never_arrived():
    told = text(EXPERIMENT.tables(CELLS))
    assert max(map(len, told.splitlines())) <= 80
    assert "never" in told
    assert "4/4" in told
    assert "0/4" in told


def test_a_diverged_run_at_a_norms_own_rate_counts_as_guessing():
    cells = [made("bn", 0.01, seed, "diverged" if seed == 0 else 10) for seed in range(4)]
    assert "70.0 ± 40.0" in text(EXPERIMENT.tables(cells))  # 10, 90, 90, 90


@pytest.mark.parametrize(
    "cells",
    [[], CELLS[:1], CELLS[:5], [c for c in CELLS if c.config["norm"] == "none"], grid({"bn": ("diverged",) * 3})],
)
def test_reports_of_incomplete_sweeps(cells, tmp_path):
    text(EXPERIMENT.tables(cells))
    assert {v.verdict for v in EXPERIMENT.verdicts(cells)} == {NOT_TESTABLE}
    for name in EXPERIMENT.pictures(cells, tmp_path):
        assert (tmp_path / name).stat().st_size > 0


def test_pictures(tmp_path):
    assert EXPERIMENT.pictures(CELLS, tmp_path) == ["curves.png", "rates.png", "survival.png"]
    assert all((tmp_path / name).stat().st_size > 0 for name in ("curves.png", "rates.png", "survival.png"))
