"""Cells: what a finished run leaves, and what another comparison makes of it."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from support.heavy import every

import uanref
from uanref import factories, npz
from uanref.cli import main
from uanref.experiments import cells, compare, compare_cells, compare_pictures, pictures
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
        cells.write(folder, *compare_cells.cell(settings, run))
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
    found = {run.norm: run for run in compare_cells.kept(tmp_path, settings, "--out x")}
    for run in runs:
        assert found[run.norm].to_dict() == run.to_dict()
        assert found[run.norm].layers == run.layers
    np.testing.assert_array_equal(found["bn"].activations.samples, runs[1].activations.samples)
    assert found["bn"].activations.channels == runs[1].activations.channels
    assert found["none"].activations is None


def test_a_diverged_run_is_a_cell_too(tmp_path):
    settings = Settings(**TINY, norms=("none",), optimizer="sgd", lrs=(1e30,))
    written(tmp_path, settings, [compare.train_one(settings, "none", 1e30, 0)])
    (run,) = compare_cells.kept(tmp_path, settings, "--out x")
    assert run.diverged
    assert "non-finite" in run.history.stopped


@pytest.mark.parametrize("spoil", ["", "{}", "[]", "null", "half", "config", "npz", "huge"])
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
        variants = {"half": text[: len(text) // 2], "config": json.dumps(cell)}
        path.write_text(variants.get(spoil, spoil), encoding="utf-8")
    assert compare_cells.kept(tmp_path, settings, "--out x") == []


@pytest.mark.parametrize(
    ("package", "says"), [("numpy", "numpy 1, which is"), ("uanref", "uanref 1, which is"), ("matplotlib", None)]
)
def test_cells_of_other_versions_are_refused_and_stay(package, says, settings, runs, tmp_path):
    (path,) = written(tmp_path, settings, runs[1:])
    cell = json.loads(path.read_text(encoding="utf-8"))
    cell["measured"]["versions"][package] = "1"
    other = path.with_stem(cells.name(cell["config"], cell["measured"]["versions"]["uanref"]))
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).rename(other.with_suffix(suffix))
    other.write_text(json.dumps(cell), encoding="utf-8")
    if says is None:  # which no result depends on
        assert len(compare_cells.kept(tmp_path, settings, "--out x")) == 1
        return
    with pytest.raises(FileExistsError, match=f"^--out x holds cells made with {says} .* here: name another folder"):
        compare_cells.kept(tmp_path, settings, "--out x")
    assert json.loads(other.read_text(encoding="utf-8")) == cell


def edits(*paths):
    """Return what somebody may have written into each place of a cell, named by its path and what stands there."""
    wrong = ["text", [], {}, True, -1, 0.5, 1e300, float("nan"), 10**30, None]
    return [(path, value) for path in paths for value in wrong]


EDITS = [
    (path, value)
    for path, value in [
        *edits("config", "result", "measured", "result.history", "result.layers", "measured.versions"),
        *edits("result.parameters", "result.activations", "result.history.epochs", "result.history.steps"),
        *edits("result.history.gradient_norms", "measured.epoch_seconds", "result.history.epochs.0.epoch"),
        *edits("result.history.steps.0", "result.history.stopped", "measured.seconds", "result.test_accuracy"),
        *edits("result.history.epochs.0.train_loss", "measured.epoch_seconds.0", "measured.host"),
    ]
    # What the place may hold.
    if not (isinstance(value, int | float) and abs(value) <= 1e300 and path.endswith(("seconds", "loss", "seconds.0")))
    and (path, value)
    not in [
        ("result.test_accuracy", 0.5),
        ("result.history.epochs.0.train_loss", None),
        ("measured.epoch_seconds.0", None),
        ("measured.host", "text"),
        ("result.layers", {}),
    ]
]
EDITS += [("measured.seconds", -1), ("measured.epoch_seconds.0", -1), ("measured.seconds", True)]
EDITS = [(path, value) for path, value in EDITS if not (path == "result.activations" and value is True)]


@pytest.mark.parametrize(("path", "value"), every(9, EDITS))
def test_an_edited_cell_is_refused_in_one_sentence(path, value, settings, runs, tmp_path):
    (file,) = written(tmp_path, settings, runs[1:])
    cell = json.loads(file.read_text("utf-8"))
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    owner = cell
    for part in way:
        owner = owner[part]
    owner[last] = value
    file.write_text(json.dumps(cell), "utf-8")
    told = []
    assert compare_cells.kept(tmp_path, settings, "--out x", told.append) == []
    (sentence,) = told
    assert sentence.startswith(f"one kept cell is not usable and computed again: {file}: it ")
    assert len(sentence) < 400 + len(str(file))


def drop(text, key):
    def without(value):
        if isinstance(value, dict):
            return {name: without(entry) for name, entry in value.items() if name != key}
        return [without(entry) for entry in value] if isinstance(value, list) else value

    return json.dumps(without(json.loads(text)))


@pytest.mark.parametrize(
    "spoil",
    [
        *(lambda text, key=key: drop(text, key) for key in ("result", "parameters", "train_loss", "lr", "seconds")),
        lambda text: "[" * 100_000,
        lambda text: "9" * 10_000,
        lambda text: text.replace('"host"', '"hosts"'),
        lambda text: text.encode()[:-1] + b"\xff",
    ],
)
def test_a_spoiled_cell_is_refused_in_one_sentence(spoil, settings, runs, tmp_path):
    (file,) = written(tmp_path, settings, runs[1:])
    content = spoil(file.read_text("utf-8"))
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    told = []
    assert compare_cells.kept(tmp_path, settings, "--out x", told.append) == []
    assert len(told) == 1
    assert "\n" not in told[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"samples": np.zeros((3, 5))}, "do not fit each other: channels"),
        ({"means": np.zeros((2, 4))}, "do not fit each other"),
        ({"samples": np.zeros((4, 0))}, "do not fit each other"),
        ({"samples": np.full((4, 5), np.nan)}, "something else than finite numbers in samples"),
        ({"weights": np.full((1, 4), -1.0)}, "something else than finite numbers >= 0 in weights"),
        ({"means": np.zeros((1, 4), dtype=bool)}, "something else than finite numbers in means"),
        ({"channels": np.zeros(4)}, "something else than whole numbers >= 0 in channels"),
        ({"more": np.zeros(4)}, "holds channels, samples, weights, means, variances, more, expected channels, samples"),
        (None, "holds variances, means, weights, samples, channels, expected channels"),
        ("missing", r"lacks [0-9a-f]+\.npz"),
    ],
)
def test_edited_arrays_are_refused_in_one_sentence(change, says, settings, runs, tmp_path):
    (file,) = written(tmp_path, settings, runs[1:])
    arrays = npz.read(path := file.with_suffix(".npz"))
    if change == "missing":
        path.unlink()
    elif change is None:
        npz.write(path, dict(reversed(arrays.items())))
    else:
        npz.write(path, arrays | change)
    told = []
    assert compare_cells.kept(tmp_path, settings, "--out x", told.append) == []
    (sentence,) = told
    assert re.search(says, sentence)


def test_runs_of_a_function_without_a_file_cannot_be_gone_on_with_and_say_so(tmp_path, monkeypatch):
    make = eval("lambda num_features, rng: uanref.LayerNorm(num_features)", {"uanref": uanref})
    settings = Settings(**TINY, norms=("bn", make))
    (label,) = settings.factories
    told = []
    assert compare_cells.kept(tmp_path, settings, "--out x", told.append) == []
    assert told == [f"{label} comes from no file: if this process ends early, no other can go on with its runs"]
    runs = [compare.train_one(settings, *task) for task in settings.runs()]
    written(tmp_path, settings, runs)
    assert len(compare_cells.kept(tmp_path, settings, "--out x")) == 2  # this process can
    monkeypatch.setattr(factories, "_PROCESS", "another")
    with pytest.raises(FileExistsError, match="cells of another plan"):
        compare_cells.kept(tmp_path, settings, "--out x")


def test_several_are_told_of_at_once(settings, runs, tmp_path):
    for path in written(tmp_path, settings, runs):
        path.write_text("{}", "utf-8")
    told = []
    assert compare_cells.kept(tmp_path, settings, "--out x", told.append) == []
    (sentence,) = told
    assert sentence.startswith("2 kept cells are not usable and computed again")
    assert "it lacks config, result, measured: it is damaged" in sentence


@pytest.fixture
def undrawn(monkeypatch):
    """Draw nothing: it takes longer than the rest."""
    monkeypatch.setattr(pictures, "obstacle", lambda: "")
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
    found = {cells.name(compare_cells.config(Settings(**TINY | change), "bn", 0.01, 0)) for change in changes}
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
    assert "holds cells of another plan" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    (cell,) = (tmp_path / "cells").glob("*.json")
    assert json.loads(cell.read_text(encoding="utf-8"))["config"]["norm"] == "none"
    assert math.isfinite(json.loads(cell.read_text(encoding="utf-8"))["measured"]["seconds"])
