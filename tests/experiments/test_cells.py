"""Cells: what a finished run leaves, and what another comparison makes of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from uanref.cli import main
from uanref.experiments import cells, compare, compare_pictures
from uanref.experiments.settings import Settings

TINY = {"model": "mlp", "epochs": 1, "seeds": 1}
ARGUMENTS = ["compare", "--model", "mlp", "--epochs", "1", "--jobs", "1", "--quiet"]


@pytest.fixture(scope="module")
def settings():
    return Settings(**TINY, norms=("none", "bn"))


@pytest.fixture(scope="module")
def runs(settings):
    return [compare.train_one(settings, *task) for task in settings.runs()]


def written(folder, settings, runs):
    for run in runs:
        cells.write(folder, settings, run)
    return sorted((folder / "cells").glob("*.json"))


def test_a_cell_holds_config_result_and_measured(settings, runs, tmp_path):
    for path in written(tmp_path, settings, runs):
        cell = json.loads(path.read_text(encoding="utf-8"))
        assert list(cell) == ["config", "result", "measured"]
        assert path.stem == cells.name(cell["config"])
        assert not any("second" in key for key in [*cell["result"], *cell["result"]["history"]["epochs"][0]])
        assert {"seconds", "cpu_seconds", "memory_bytes", "versions", "host", "date"} <= set(cell["measured"])


def test_results_are_a_function_of_the_config(settings, runs, tmp_path):
    again = [compare.train_one(settings, *task, threads=2) for task in settings.runs()]
    for one, other in zip(
        written(tmp_path / "a", settings, runs), written(tmp_path / "b", settings, again), strict=True
    ):
        one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
        assert (one["config"], one["result"]) == (other["config"], other["result"])


def test_what_is_read_is_what_was_written(settings, runs, tmp_path):
    written(tmp_path, settings, runs)
    found = {run.norm: run for run in cells.kept(tmp_path, settings, "--out x")}
    for run in runs:
        assert found[run.norm].to_dict() == run.to_dict()
        assert found[run.norm].layers == run.layers
    np.testing.assert_array_equal(found["bn"].activations.samples, runs[1].activations.samples)
    assert found["bn"].activations.channels == runs[1].activations.channels
    assert found["none"].activations is None


def test_a_diverged_run_is_a_cell_too(tmp_path):
    settings = Settings(**TINY, norms=("none",), optimizer="sgd", lrs=(1e30,))
    written(tmp_path, settings, [compare.train_one(settings, "none", 1e30, 0)])
    (run,) = cells.kept(tmp_path, settings, "--out x")
    assert run.diverged
    assert "non-finite" in run.history.stopped


@pytest.mark.parametrize("spoil", ["", "{}", "[]", "null", "half", "config", "version", "npz", "huge"])
def test_a_damaged_cell_does_not_count(spoil, settings, runs, tmp_path, monkeypatch):
    written(tmp_path, settings, runs[1:])
    (path,) = (tmp_path / "cells").glob("*.json")
    text = path.read_text(encoding="utf-8")
    if spoil == "npz":
        path.with_suffix(".npz").write_bytes(b"PK no archive")
    elif spoil == "huge":
        monkeypatch.setattr(cells, "_LARGEST", 100)
    else:
        cell = json.loads(text)
        cell["config"]["epochs"] = 7
        other = json.loads(text)
        other["measured"]["versions"]["numpy"] = "1"
        variants = {"half": text[: len(text) // 2], "config": json.dumps(cell), "version": json.dumps(other)}
        path.write_text(variants.get(spoil, spoil), encoding="utf-8")
    assert cells.kept(tmp_path, settings, "--out x") == []


@pytest.fixture
def undrawn(monkeypatch):
    """Draw nothing: it takes longer than the rest."""
    monkeypatch.setattr(compare_pictures, "obstacle", lambda: "")
    monkeypatch.setattr(compare_pictures, "draw", lambda comparison, folder: ([], []))


def test_every_setting_has_a_cell_of_its_own():
    changes = [
        {},
        {"model": "cnn"},
        {"epochs": 2},
        {"components": 4},
        {"batch_size": 32},
        {"optimizer": "adamw"},
        {"dataset": "fashion-small"},
    ]
    found = {cells.name(cells.config(Settings(**TINY | change), "bn", 0.01, 0)) for change in changes}
    assert len(found) == len(changes)


@pytest.mark.usefixtures("undrawn")
def test_a_killed_comparison_is_gone_on_with(tmp_path, monkeypatch):
    arguments = [*ARGUMENTS, "--norms", "none,bn", "--seeds", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    whole = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"]
    (tmp_path / "results.json").unlink()  # as if it had been killed
    first = sorted((tmp_path / "cells").glob("*.json"))[0]
    first.unlink()
    trained = []
    train_one = compare.train_one
    monkeypatch.setattr(compare, "train_one", lambda *task: trained.append(task[1:4]) or train_one(*task))
    assert main(arguments) == 0
    assert len(trained) == 1
    runs = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"]
    assert [run["test_accuracy"] for run in runs] == [run["test_accuracy"] for run in whole]
    assert first.exists()


@pytest.mark.usefixtures("undrawn")
def test_cells_of_another_comparison_are_not_mixed_in(tmp_path, capsys, settings, runs):
    written(tmp_path, settings, runs)
    arguments = [*ARGUMENTS, "--norms", "none", "--seeds", "1", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "holds runs of another comparison" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    (cell,) = (tmp_path / "cells").glob("*.json")
    assert json.loads(cell.read_text(encoding="utf-8"))["config"]["norm"] == "none"
    assert math.isfinite(json.loads(cell.read_text(encoding="utf-8"))["measured"]["seconds"])
