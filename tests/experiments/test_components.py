"""The experiment on components: its plan, two tiny cells, and a report of cells whose right answer is known."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from uanref import data, models
from uanref.experiments import components, components_report, trial
from uanref.experiments.experiment import SCALES, Cell
from uanref.experiments.mixture_measures import MEASURES
from uanref.norms.mixture_constraints import softplus


def printed(tables):
    console = Console(width=80, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.export_text()


@pytest.mark.parametrize("scale", SCALES)
def test_a_plan_changes_one_factor_at_a_time_and_repeats_nothing(scale):
    plan = components.plan(scale, 2)
    assert len({json.dumps(config, sort_keys=True) for config in plan}) == len(plan)
    base = components_report.LEVELS
    assert all(sum(config[factor] != base[factor] for factor in base) <= 1 for config in plan)
    assert {config["seed"] for config in plan} == {0, 1}


def test_the_plan_covers_what_it_says():
    plan = components.plan("small", None)
    assert len(plan) == 5 * (8 + 2 + 1 + 1 + 1)
    assert {config["components"] for config in plan} == set(range(1, 9))
    assert {config["start"] for config in plan} == {"paper", "data", "narrow"}
    paper = components.plan("paper", 1)[0]
    assert (paper["dataset"], paper["model"], paper["epochs"], paper["batch_size"]) == ("fashion", "shallow", 100, 256)


def test_narrow_draws_sigma_itself_not_the_raw_variance():
    built = {}
    for seed in (0, 1):
        model = models.build("mlp", "uan", image_shape=(1, 8, 8), num_classes=10)
        components.narrow(model, seed)
        built[seed] = [layer for _, layer in model.modules() if hasattr(layer, "raw_variance")]
        sigma = np.sqrt(softplus(np.concatenate([one.raw_variance.value for one in built[seed]], axis=1)))
        assert 0.001 * 0.99 < sigma.min() < 0.0015
        assert 0.0095 < sigma.max() < 0.01 * 1.01
        assert built[seed][0].raw_variance.value.dtype == np.float32
    assert not np.array_equal(built[0][0].raw_variance.value, built[1][0].raw_variance.value)


@pytest.mark.parametrize("change", [{"start": "narrow"}, {"start": "data", "update": "em", "components": 2}])
def test_a_cell_is_a_function_of_its_config(change):
    config = components.plan("tiny", 1)[0] | {"epochs": 1} | change
    result, measured = components.compute(config)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert components.compute(config)[0] == result
    assert measured == {}
    over = result["over_training"]
    assert {name: len(over[name]) for name in MEASURES} == dict.fromkeys(MEASURES, 2)  # before, and after one epoch
    assert over["accuracy"] == [result["validation_accuracy"]]
    assert all(len(layers) == 2 for layers in over["distance"])
    if change["start"] == "narrow":
        assert over["distance"][0][0] > 20
        assert over["entropy"][0][0] < 0.1


def test_looking_changes_nothing():
    config = components.plan("tiny", 1)[0]
    plain = trial.train(config, data.load("digits", seed=0))
    assert components.compute(config)[0]["test_accuracy"] == plain.test_accuracy()


def test_a_diverged_run_is_a_result():
    config = components.plan("tiny", 1)[0] | {"lr": 1e30, "optimizer": "sgd"}
    result, _ = components.compute(config)
    assert result["diverged"]
    assert result["test_accuracy"] is None
    assert result["validation_accuracy"] is None
    json.dumps(result, allow_nan=False)


def cell(seed, accuracy=0.9, distance=0.5, bent=0.01, diverged=False, **changes):
    k = changes.get("components", 3)
    layers = [distance - 0.1, distance + 0.1] if k > 1 else [None, None]
    over = {
        "live": [[1.0, 1.0]] * 2,
        "entropy": [[0.5, 0.5] if k > 1 else [None, None]] * 2,
        "distance": [[9.0, 9.0] if k > 1 else [None, None], layers],
        "ratio": [[2.0, 2.0] if k > 1 else [None, None]] * 2,
        "bent": [[0.0, 0.0], [bent, bent]],
        "accuracy": [accuracy],
    }
    if diverged:
        over = {name: values[:1] if name != "accuracy" else [] for name, values in over.items()}
    result = {
        "validation_accuracy": None if diverged else accuracy,
        "test_accuracy": None if diverged else accuracy,
        "diverged": diverged,
        "parameters": 7,
        "over_training": over,
    }
    return Cell(components.BASE | {"seed": seed} | changes, result, {})


def test_the_table_has_every_level_of_every_factor_that_was_changed():
    cells = [cell(seed) for seed in range(3)]
    cells += [cell(seed, 0.8, components=1) for seed in range(3)]
    cells += [cell(0, start="narrow"), cell(1, start="narrow", diverged=True)]
    (table,) = components_report.tables(cells)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[0] for row in rows] == ["K 1", "K 3", "start paper", "start narrow"]
    assert rows[0][1:] == ("80.00 ± 0.00", "1", "", "", "", "0.01")
    assert rows[1][1:] == ("90.00 ± 0.00", "1", "0.5", "0.5", "2", "0.01")
    assert rows[3][1] == "50.00 ± 56.57\n1 of 2 diverged"
    assert max(map(len, printed([table]).splitlines())) <= 80


def test_verdicts_follow_the_numbers():
    def said(cells):
        return [one.verdict for one in components_report.verdicts(cells)]

    single = [cell(seed, 0.8, components=1) for seed in range(5)]
    better = [cell(seed, 0.81 + 0.001 * seed, distance=3.0, bent=0.2) for seed in range(5)]
    near = [cell(seed, 0.804, distance=1.9, bent=0.04) for seed in range(5)]
    assert said([*single, *better]) == ["supported"] * 3
    assert said([*single, *near]) == ["not supported"] * 3
    assert said([*single[:2], *better[:2]]) == ["not testable here"] * 3
    assert said([]) == ["not testable here"] * 3
    apart = [cell(seed, distance=106.0, bent=0.4, start="narrow") for seed in range(5)]
    found = components_report.verdicts([*single, *near, *apart])
    assert [one.verdict for one in found] == ["not supported"] * 3 + ["supported"] * 2
    assert [one.claim.rsplit("(", 1)[1] for one in found[1:]] == ["paper start)."] * 2 + ["narrow start)."] * 2
    lost = [cell(seed, diverged=True) for seed in range(5)]
    assert said([*single, *lost]) == ["not supported", "not testable here", "not testable here"]


@pytest.mark.slow
def test_pictures_are_drawn_of_complete_and_of_few_cells(tmp_path):
    cells = [cell(seed, components=k) for seed in range(2) for k in (1, 2, 3)]
    drawn = components_report.pictures([*cells, cell(0, diverged=True, start="narrow")], tmp_path)
    assert drawn == ["accuracy.png", "live.png", "entropy.png", "distance.png", "bent.png", "number.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in drawn)
    assert components_report.pictures([cell(0)], tmp_path) == []
    assert components_report.pictures([], tmp_path) == []
    assert printed(components_report.tables([]))


def test_points_are_medians_over_the_runs_that_came_so_far():
    runs = [cell(0, distance=1.0), cell(1, distance=3.0), cell(2, distance=4.0), cell(3, diverged=True)]
    assert components_report._points(runs, "distance") == [(0.0, 9.0, 9.0, 9.0), (1.0, 3.0, 1.0, 4.0)]
    assert components_report._points(runs, "accuracy") == [(1.0, 90.0, 90.0, 90.0)]
