"""Gradient stability: the measures against their definitions, and what is said of known ones."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from uanref.experiments import cells as files_of_cells
from uanref.experiments import gradient_stability, stepwise, trial
from uanref.experiments.experiment import Cell
from uanref.experiments.gradient_stability import EXPERIMENT, Spread
from uanref.experiments.gradient_stability_report import levels, ratio
from uanref.experiments.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED


def made(norm, seed, loss, logits=1.0):
    """A cell of two layers, the second ten times smaller, over two epochs; None for a diverged run."""

    def lines(value):
        return None if loss is None else {"1 Linear": [value, value], "2 Linear": [value / 10, value / 10]}

    result = {"loss": lines(loss), "logits": lines(logits), "noise": lines(0.5), "diverged": loss is None}
    result |= dict.fromkeys(("validation_accuracy", "test_accuracy"), None if loss is None else 0.9)
    return Cell({"dataset": "digits", "model": "mlp", "lr": 0.1, "norm": norm, "seed": seed}, result, {})


def grid(by_norm, seeds=4):
    return [made(norm, seed, *values) for seed in range(seeds) for norm, values in by_norm.items()]


CELLS = grid({"none": (1e-2, 10.0), "bn": (1e-3, 1.0), "uan": (1e-4, 1.0)})


def text(tables):
    console = Console(width=80)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


@pytest.mark.parametrize(("scale", "count"), [("tiny", 3 * 3), ("small", 5 * 8), ("paper", 5 * 8)])
def test_plan(scale, count):
    configs = EXPERIMENT.plan(scale, None)
    assert len(configs) == len({files_of_cells.name(c) for c in configs}) == count
    assert {c["seed"] for c in EXPERIMENT.plan(scale, 2)} == {0, 1}


def test_a_spread_is_the_variance_over_the_arrays():
    g = np.random.default_rng(0).standard_normal((7, 3, 4)) + 5.0
    spread = Spread()
    for one in g:
        spread.add(one)
    assert spread.variance() == pytest.approx(g.var(axis=0, ddof=1).mean(), rel=1e-12)
    assert spread.noise() == pytest.approx(((g - g.mean(axis=0)) ** 2).sum() / (g**2).sum(), rel=1e-12)
    still = Spread()
    for _ in range(3):
        still.add(np.zeros(2))
    assert (still.variance(), still.noise()) == (0.0, 0.0)


def test_the_logits_measure_is_that_of_finite_differences_and_changes_nothing():
    model, trainer = stepwise.begin(trial.BASE | {"norm": "uan"})
    model.to("float64")
    x = trainer.splits.train.batch(slice(0, 32)).astype("float64")
    before = {name: value.copy() for name, value in model.state_dict().items()}
    model.eval()
    found = gradient_stability.logit_variances(model, x)
    assert not model.training
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
    assert list(found) == ["1 Linear", "2 Linear", "3 Linear"]

    # The last layer: the sum of all logits has the gradient sum_n a_n in each of its rows.
    model.train()
    seen = x
    for layer in model.layers[:-1]:
        seen = layer.forward(seen)
    assert found["3 Linear"] == pytest.approx(seen.sum(axis=0).var(), rel=1e-10)


def test_weights_are_those_of_linear_layers_and_convolutions():
    model, _ = stepwise.begin(trial.BASE | {"norm": "mode", "model": "cnn"})
    assert list(gradient_stability.weights_of(model)) == ["1 Conv2d", "2 Conv2d", "3 Conv2d", "4 Linear"]


def test_a_cell_is_a_function_of_its_config():
    config = EXPERIMENT.plan("tiny", 1)[0] | {"norm": "bn"}
    first, measured = EXPERIMENT.compute(config)
    assert EXPERIMENT.compute(config)[0] == first
    assert measured == {}
    for measure in ("loss", "logits", "noise"):
        assert [len(line) for line in first[measure].values()] == [2, 2, 2]
        assert all(value > 0 for line in first[measure].values() for value in line)
    assert all(value < 1 for line in first["noise"].values() for value in line)


def test_looking_does_not_change_the_training():
    config = EXPERIMENT.plan("tiny", 1)[0] | {"norm": "uan"}
    found, _ = EXPERIMENT.compute(config)
    assert found["test_accuracy"] == trial.train(config).test_accuracy()


def test_a_diverged_run_has_no_numbers():
    result, _ = EXPERIMENT.compute(EXPERIMENT.plan("tiny", 1)[0] | {"optimizer": "sgd", "lr": 1e30})
    assert result["diverged"]
    assert result["loss"] is result["logits"] is result["test_accuracy"] is None


def test_levels_and_ratios():
    assert levels(CELLS, "bn", "loss", "max") == pytest.approx(dict.fromkeys(range(4), -3.0))
    assert levels(CELLS, "bn", "loss", "mean")[0] == pytest.approx(np.log10(0.55e-3))
    assert levels(CELLS, "bn", "noise", "mean")[0] == pytest.approx(0.275)
    assert ratio(CELLS, "uan", "none", "loss").mean == pytest.approx(2.0)
    assert levels([made("bn", 0, 0.0)], "bn", "loss", "max") == {0: pytest.approx(-30.0)}
    assert levels([made("bn", 0, None)], "bn", "loss", "max") == {}


def test_verdicts_of_known_variances():
    found = EXPERIMENT.verdicts(CELLS)
    assert [v.verdict for v in found] == [SUPPORTED, SUPPORTED, NOT_SUPPORTED, SUPPORTED]
    lost = EXPERIMENT.verdicts([*grid({"bn": (1.0,), "none": (1.0,)}), made("uan", 0, None)])
    assert {v.verdict for v in lost} == {NOT_TESTABLE}


def test_tables_fit():
    told = text(EXPERIMENT.tables([*CELLS, made("ln", 0, None), *grid({"uan-learned": (1.0, 1.0)})]))
    assert max(map(len, told.splitlines())) <= 80
    assert "1 div." in told


@pytest.mark.parametrize("cells", [[], CELLS[:1], CELLS[:4], [made("bn", 0, None)]])
def test_reports_of_incomplete_sweeps(cells, tmp_path):
    text(EXPERIMENT.tables(cells))
    assert {v.verdict for v in EXPERIMENT.verdicts(cells)} == {NOT_TESTABLE}
    for name in EXPERIMENT.pictures(cells, tmp_path):
        assert (tmp_path / name).stat().st_size > 0


def test_pictures(tmp_path):
    assert EXPERIMENT.pictures(CELLS, tmp_path) == ["loss.png", "logits.png", "noise.png", "ratios.png"]
