"""The experiment on inference: its plan, a tiny cell, and a report of cells whose right answer is known."""

from __future__ import annotations

import json

import pytest

from uanref import models
from uanref.experiments import inference, trial
from uanref.experiments.experiment import SCALES, Cell


@pytest.mark.parametrize("scale", SCALES)
def test_a_plan_trains_every_update_with_every_start(scale):
    plan = inference.plan(scale, 2)
    assert len(plan) == 2 * 2 * 2
    assert len({json.dumps(config, sort_keys=True) for config in plan}) == len(plan)
    assert len(inference.plan("small", None)) == 20


def test_both_accuracies_are_of_one_training():
    config = inference.plan("tiny", 1)[0] | {"epochs": 1}
    result, _ = inference.compute(config)
    assert inference.compute(config)[0] == result
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    trained = trial.train(config)
    assert result["test_accuracy"] == result["running_test_accuracy"] == trained.test_accuracy()
    inference.switch(trained.model, "mixture")
    assert result["mixture_test_accuracy"] == trained.test_accuracy() != result["test_accuracy"]
    from_the_start = trial.train(config | {"norm_options": config["norm_options"] | {"inference": "mixture"}})
    assert from_the_start.test_accuracy() == result["mixture_test_accuracy"]


def test_switch_reaches_every_layer():
    model = models.build("cnn", "uan", image_shape=(1, 8, 8), num_classes=10)
    inference.switch(model, "mixture")
    assert [layer.inference for _, layer in model.modules() if hasattr(layer, "inference")] == ["mixture"] * 3


def test_a_diverged_run_has_no_accuracies():
    config = inference.plan("tiny", 1)[0] | {"lr": 1e30, "optimizer": "sgd"}
    result, _ = inference.compute(config)
    assert result["diverged"]
    assert {value for name, value in result.items() if name.endswith("accuracy")} == {None}


def cell(seed, running, mixture, update="backprop", start="paper"):
    config = trial.BASE | {"norm_options": {"update": update, "start": start}, "seed": seed}
    result = {
        "running_test_accuracy": running,
        "mixture_test_accuracy": mixture,
        "diverged": running is None,
    }
    return Cell(config, result, {})


def test_the_report_of_known_cells(tmp_path):
    cells = [cell(seed, 0.9, 0.5) for seed in range(4)]
    cells += [cell(seed, 0.9, 0.898 + 0.001 * seed, "em") for seed in range(4)]
    (table,) = inference.tables(cells)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0] == ("backprop, paper", "90.00 ± 0.00", "50.00 ± 0.00", "-40.00", "-40.00 to -40.00")
    assert rows[1][:4] == ("em, paper", "90.00 ± 0.00", "89.95 ± 0.13", "-0.05")
    assert [one.verdict for one in inference.verdicts(cells)] == ["not supported", "supported"]
    assert inference.pictures(cells, tmp_path) == ["differences.png"]
    assert (tmp_path / "differences.png").stat().st_size > 5000


def test_a_diverged_run_counts_as_guessing_is_no_pair_and_few_cells_say_nothing(tmp_path):
    cells = [cell(0, None, None), cell(1, 0.9, 0.8)]
    (table,) = inference.tables(cells)
    (row,) = zip(*(column.cells for column in table.columns), strict=True)
    assert row[1] == "50.00 ± 56.57"
    assert row[3:] == ("-10.00", "")
    assert "diverged, which count as guessing and are in no difference: 1." in str(table.caption)
    assert [one.verdict for one in inference.verdicts(cells)] == ["not testable here"]
    lost = [cell(seed, None, None) for seed in range(5)]  # no difference at all must not say "as well as"
    assert [one.verdict for one in inference.verdicts(lost)] == ["not testable here"]
    assert inference.tables(lost)
    assert inference.pictures(lost, tmp_path) == ["differences.png"]
    assert inference.verdicts([]) == []
    assert inference.pictures([], tmp_path) == []
