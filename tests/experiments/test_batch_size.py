"""Batch size: what a scale plans, that a cell is a function of its config, and what is said of known accuracies."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from uanref.data import Batches
from uanref.experiments import cells as files_of_cells
from uanref.experiments import stepwise, trial
from uanref.experiments.batch_size import EXPERIMENT, train_mode_accuracy
from uanref.experiments.batch_size_report import drops, generalization_gap, mode_gap
from uanref.experiments.experiment import Cell
from uanref.experiments.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED


def made(norm, size, seed, accuracy):
    """A cell with this test accuracy; None for a diverged run."""
    alive = accuracy is not None
    result = {
        "train_mode": 0.7 if alive else None,
        "train_accuracy": 0.9 if alive else None,
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy,
        "diverged": not alive,
        "parameters": 1,
        "classes": 10,
        "updates": 5,
    }
    config = {"dataset": "digits", "model": "mlp", "epochs": 1, "norm": norm, "batch_size": size, "seed": seed}
    return Cell(config, result, {})


def grid(by_norm, sizes=(2, 16, 64), seeds=4):
    return [
        made(norm, size, seed, accuracy)
        for seed in range(seeds)
        for norm, row in by_norm.items()
        for size, accuracy in zip(sizes, row, strict=True)
    ]


CELLS = grid({"none": (0.95, 0.95, 0.9), "bn": (0.6, 0.95, 0.96), "uan": (0.5, 0.95, 0.9), "uan-learned": (0.9,) * 3})


def text(tables):
    console = Console(width=80)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


@pytest.mark.parametrize(("scale", "count"), [("tiny", 3 * 3 * 2), ("small", 10 * 8 * 8), ("paper", 5 * 8 * 8)])
def test_plan(scale, count):
    configs = EXPERIMENT.plan(scale, None)
    assert len(configs) == len({files_of_cells.name(c) for c in configs}) == count
    assert len({c["epochs"] for c in configs}) == 1
    (base,) = {round(c["lr"] / (c["batch_size"] / 64) ** 0.5, 12) for c in configs}
    assert base == (0.001 if scale == "paper" else 0.003)
    assert {c["seed"] for c in EXPERIMENT.plan(scale, 2)} == {0, 1}


def test_a_cell_is_a_function_of_its_config():
    config = EXPERIMENT.plan("tiny", 1)[0] | {"norm": "uan", "batch_size": 32}
    first, measured = EXPERIMENT.compute(config)
    assert EXPERIMENT.compute(config)[0] == first
    assert measured == {}
    assert first["updates"] == 23
    assert first["train_mode"] != first["train_accuracy"]
    assert 0.3 < first["test_accuracy"] < 1


def test_without_statistics_of_the_batch_both_modes_are_one_function():
    first, _ = EXPERIMENT.compute(EXPERIMENT.plan("tiny", 1)[0] | {"norm": "ln", "batch_size": 64})
    assert first["train_mode"] == first["train_accuracy"]


def test_train_mode_leaves_the_network_as_it_is():
    model, trainer = stepwise.begin(trial.BASE | {"norm": "bn"})
    before = {name: value.copy() for name, value in model.state_dict().items()}
    batches = Batches(trainer.splits.train, 8, rng=np.random.default_rng(0), shuffle=True)
    model.eval()
    assert 0 <= train_mode_accuracy(model, batches) <= 1
    assert not model.training
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


def test_gaps():
    assert mode_gap(CELLS[0].result) == pytest.approx(-0.2)
    assert generalization_gap(CELLS[0].result) == pytest.approx(-0.05)
    assert mode_gap(made("bn", 2, 0, None).result) is generalization_gap(made("bn", 2, 0, None).result) is None


def test_a_drop_starts_at_the_best_size_on_validation():
    found = drops(CELLS)
    assert found["bn"] == pytest.approx(dict.fromkeys(range(4), 0.36))
    assert found["none"] == dict.fromkeys(range(4), 0.0)
    diverged = drops(grid({"bn": (None, 0.9, 0.8)}))
    assert diverged["bn"] == pytest.approx(dict.fromkeys(range(4), 0.8))  # guessing is 0.1


def test_verdicts_of_known_drops():
    found = EXPERIMENT.verdicts(CELLS)
    assert [v.verdict for v in found] == [SUPPORTED, NOT_TESTABLE, NOT_SUPPORTED, SUPPORTED]
    level = grid({"bn": (0.95, 0.96, 0.96), "uan": (0.95, 0.96, 0.96)})
    assert [v.verdict for v in EXPERIMENT.verdicts(level)] == [NOT_SUPPORTED, NOT_TESTABLE, NOT_SUPPORTED, NOT_TESTABLE]


def test_what_ln_loses_too_is_not_the_doing_of_bns_statistics():
    for ln, said in ((0.60, NOT_SUPPORTED), (0.605, NOT_SUPPORTED), (0.62, SUPPORTED), (0.9, SUPPORTED)):
        found = EXPERIMENT.verdicts(grid({"bn": (0.6, 0.96, 0.96), "ln": (ln, 0.96, 0.96)}))
        assert [v.verdict for v in found[:2]] == [SUPPORTED, said]
        assert "LN's" in found[1].rule


def test_tables_fit_and_tell_who_diverged():
    sizes = (2, 4, 8, 16, 32, 64, 128, 256)
    told = text(EXPERIMENT.tables(grid({"bn": (None, *[0.97] * 7), "uan-learned": (0.9,) * 8}, sizes)))
    assert max(map(len, told.splitlines())) <= 80
    assert "4 div." in told


@pytest.mark.parametrize("cells", [[], CELLS[:1], CELLS[:4], [c for c in CELLS if c.config["norm"] == "none"]])
def test_reports_of_incomplete_sweeps(cells, tmp_path):
    text(EXPERIMENT.tables(cells))
    assert {v.verdict for v in EXPERIMENT.verdicts(cells)} == {NOT_TESTABLE}
    for name in EXPERIMENT.pictures(cells, tmp_path):
        assert (tmp_path / name).stat().st_size > 0


def test_pictures(tmp_path):
    assert EXPERIMENT.pictures(CELLS, tmp_path) == ["batch-size.png", "drops.png"]
    assert all((tmp_path / name).stat().st_size > 0 for name in ("batch-size.png", "drops.png"))
