"""The mechanism of all sweeps: which cells are computed, by whom, and what becomes of them."""

from __future__ import annotations

import json
import math
import os
import re
import signal

import pytest
from support import toy_experiment
from support.toy_experiment import EXPERIMENT

import uanref
from uanref import backend
from uanref.cli import main
from uanref.experiments import cells, pictures, registry, sweep
from uanref.experiments.experiment import Cell, Experiment

TINY = sweep.plan(EXPERIMENT, "tiny")
REAL_FIND = registry.find


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    toy_experiment.install(lambda owner, name, value: monkeypatch.setattr(owner, name, value))
    monkeypatch.setattr(pictures, "obstacle", lambda: "")  # which takes longer than the rest


def command(out, *options, scale="tiny", jobs="1"):
    return ["experiment", toy_experiment.NAME, "--scale", scale, "--jobs", jobs, "--out", str(out), "-q", *options]


def state(folder):
    """Return bytes and time of every cell's file."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "cells").iterdir()}


# --- plans and names --------------------------------------------------------------------------------


def test_a_plan_names_experiment_scale_and_backend():
    assert [config["norm"] for config in TINY] == ["none", "none", "bn", "bn"]
    for config in TINY:
        assert list(config)[:3] == ["experiment", "scale", "backend"]
    assert len(sweep.plan(EXPERIMENT, "tiny", 7)) == 14


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("huge",), "scale must be one of"),
        (("tiny", 0), "seeds must be"),
        (("tiny", 10**9), "seeds must be <= 10000"),
        (("tiny", None, "torch"), "backend"),
    ],
)
def test_a_plan_refuses(arguments, says):
    with pytest.raises(ValueError, match=says):
        sweep.plan(EXPERIMENT, *arguments)


def test_a_plan_has_no_cell_twice():
    twice = Experiment(**vars(EXPERIMENT) | {"plan": lambda scale, seeds: [{"seed": 0}, {"seed": 0}]})
    with pytest.raises(ValueError, match="has a cell twice"):
        sweep.plan(twice, "tiny")


def test_a_cells_name_depends_on_all_of_its_config_and_on_the_version():
    config = TINY[0]
    names = {cells.name(config | change) for change in ({}, {"seed": 9}, {"backend": "cupy"}, {"norm": "ln"}, {"x": 1})}
    names |= {cells.name(config, "0.0.1"), cells.name(config | {"norm_digest": "ab"})}
    assert len(names) == 7
    assert cells.name(dict(reversed(config.items()))) == cells.name(config)
    assert cells.name(config, uanref.__version__) == cells.name(config)


@pytest.mark.parametrize("name", ["nope", "compare", "uanref.experiments.cells", ""])
def test_an_unknown_name_is_refused_in_one_sentence(name):
    with pytest.raises(ValueError, match="experiment must be one of convergence"):
        REAL_FIND(name)


def test_on_a_gpu_there_is_one_process():
    assert sweep.processes("cupy", 4, 10) == 1
    assert sweep.processes("numpy", 4, 10) == 4
    assert sweep.processes("numpy", 4, 2) == 2
    assert sweep.processes("numpy", None, 100) == backend.cores()
    assert sweep.processes("numpy", None, 0) == 1


# --- one cell ---------------------------------------------------------------------------------------


def test_a_cell_has_what_was_measured_and_comes_back_as_it_was(tmp_path):
    cell = sweep.computed(EXPERIMENT.compute, sweep.plan(EXPERIMENT, "small")[0])
    assert {"seconds", "cpu_seconds", "memory_bytes", "versions", "host", "date"} <= cell.measured.keys()
    assert cell.measured["epoch_seconds"] == [0.5]
    cells.write(tmp_path, cell)
    assert cells.read(cells.path(tmp_path, cell.config)) == cell
    (file,) = (tmp_path / "cells").iterdir()
    assert list(json.loads(file.read_text("utf-8"))) == ["config", "result", "measured"]


@pytest.mark.parametrize("result", [{"a": math.nan}, {"a": math.inf}, {"a": {1, 2}}, {"a": object()}])
def test_what_json_cannot_say_is_a_failure_of_that_cell(result):
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        sweep.computed(lambda config: (result, {}), TINY[0])


def test_a_cell_is_computed_with_one_blas_thread_on_its_backend():
    import threadpoolctl

    def look(config):
        pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        return {"pools": pools, "threads": backend.threads(), "backend": backend.current()}, {}

    before = backend.threads()
    result = sweep.computed(look, TINY[0], threads=2).result
    assert set(result["pools"]) == {1}
    assert (result["threads"], backend.threads()) == (2, before)
    assert result["backend"] == "numpy"


# --- the sweep --------------------------------------------------------------------------------------


def test_the_cells_of_the_first_seed_come_first():
    seen = []
    outcome = sweep.run(EXPERIMENT, TINY, jobs=1, finished=seen.append)
    assert [(cell.config["seed"], cell.config["norm"]) for cell in seen] == [
        (0, "none"),
        (0, "bn"),
        (1, "none"),
        (1, "bn"),
    ]
    assert (outcome.failed, outcome.interrupted) == ([], False)


@pytest.mark.slow
def test_results_do_not_depend_on_jobs():
    plan = sweep.plan(EXPERIMENT, "small")
    found = []
    for jobs in (1, 3):
        seen = {}
        sweep.run(EXPERIMENT, plan, jobs, lambda cell, seen=seen: seen.update({cells.name(cell.config): cell.result}))
        found.append(seen)
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_a_failed_cell_costs_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAILS", "none")
    assert main(command(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert len(list((tmp_path / "cells").iterdir())) == 2
    assert err.count("norm none, seed 1: ") == err.count("norm none, seed 0: ") == 1
    assert "2 of 4 cells failed: norm none, seed 0: " in err
    assert "no space for none" in err
    assert "2 cells say so" in out
    assert "2 of 4 cells failed" in " ".join(out.split())
    monkeypatch.delenv("TOY_FAILS")
    before = state(tmp_path)
    assert main(command(tmp_path)) == 0
    assert state(tmp_path).items() > before.items()


def test_all_cells_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(toy_experiment, "EXPERIMENT", Experiment(**vars(EXPERIMENT) | {"compute": "no function"}))
    assert main(command(tmp_path / "r")) == 1
    assert "4 of 4 cells failed" in (err := capsys.readouterr().err)
    assert err.endswith("nothing was written\n")
    assert not (tmp_path / "r").exists()


def test_the_same_command_goes_on_and_touches_nothing_that_is_done(tmp_path, monkeypatch, capsys):
    assert main(command(tmp_path)) == 0
    first = capsys.readouterr().out
    done = state(tmp_path)
    assert len(done) == 4
    monkeypatch.setenv("TOY_FAILS", "none")  # whoever computes one again fails
    assert main(command(tmp_path)) == 0
    assert capsys.readouterr().out == first
    assert state(tmp_path) == done
    monkeypatch.delenv("TOY_FAILS")
    assert main(command(tmp_path, "--seeds", "3")) == 0
    assert len(state(tmp_path)) == 6
    assert state(tmp_path).items() > done.items()


@pytest.mark.parametrize("options", [("--seeds", "1"), ("--scale", "small")])
def test_cells_of_another_plan_are_refused_and_stay(options, tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    done = state(tmp_path)
    capsys.readouterr()
    assert main(command(tmp_path, *options)) == 2
    assert capsys.readouterr().err == (
        f"uanref: --out {tmp_path} holds cells of another plan: name another folder or add --force\n"
    )
    assert state(tmp_path) == done


def test_cells_of_another_version_are_refused_and_stay(tmp_path, monkeypatch, capsys):
    assert main(command(tmp_path)) == 0
    done = state(tmp_path)
    versions = cells.machine.versions()
    monkeypatch.setattr(cells.machine, "versions", lambda: versions | {"numpy": "99"})
    capsys.readouterr()
    assert main(command(tmp_path)) == 2
    assert f"holds cells made with numpy {versions['numpy']}, which is 99 here: name" in capsys.readouterr().err
    assert state(tmp_path) == done


def test_force_removes_cells_and_pictures_of_any_experiment(tmp_path):
    assert main(command(tmp_path)) == 0
    (tmp_path / "cost").mkdir()
    (tmp_path / "cost" / "old.png").touch()
    (tmp_path / "cost" / "mine.txt").touch()
    assert main(command(tmp_path, "--seeds", "1", "--force")) == 0
    assert len(state(tmp_path)) == 2
    assert [path.name for path in (tmp_path / "cost").iterdir()] == ["mine.txt"]
    assert (tmp_path / toy_experiment.NAME / "accuracy.png").read_bytes() == b"\x89PNG of 2"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_keeps_what_finished(number, code, tmp_path, monkeypatch, capsys):
    def compute(config):
        if config["seed"] == 1:
            os.kill(os.getpid(), number)
        return EXPERIMENT.compute(config)

    monkeypatch.setattr(toy_experiment, "EXPERIMENT", Experiment(**vars(EXPERIMENT) | {"compute": compute}))
    assert main(command(tmp_path)) == code
    out, err = capsys.readouterr()
    assert len(state(tmp_path)) == 2
    assert "2 cells say so" in out
    assert re.fullmatch(r"uanref: (interrupted|terminated): 2 of 4 cells finished\n", err)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAILS", "none")
    (tmp_path / "file").write_text("mine", "utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(command(place)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / toy_experiment.NAME).write_text("mine", "utf-8")
    assert main(command(tmp_path / "r")) == 2
    assert f"holds {toy_experiment.NAME}, which is no folder" in capsys.readouterr().err


def test_a_disk_that_is_full_costs_cells_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cells.files, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert main(command(tmp_path / "r")) == 1
    out, err = capsys.readouterr()
    assert "4 cells say so" in out
    assert "cannot be written (No space left)" in err


@pytest.mark.parametrize("part", ["tables", "pictures", "verdicts"])
def test_a_part_that_fails_leaves_the_others(part, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise KeyError("norm")

    monkeypatch.setattr(toy_experiment, "EXPERIMENT", Experiment(**vars(EXPERIMENT) | {part: broken}))
    assert main(command(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert ("accuracy (%)" in out, "SUPPORTED: bn" in out) == (part != "tables", part != "verdicts")
    assert (tmp_path / toy_experiment.NAME / "accuracy.png").exists() == (part != "pictures")
    assert len(state(tmp_path)) == 4
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "there is no experiment 'nope': uanref experiment list shows all"),
        (["cost", "--scale", "big"], "scale must be one of"),
        (["cost", "--seeds", "0"], "expected a whole number >= 1"),
        (["cost", "--jobs", "none"], "expected a whole number"),
        (["cost", "--backend", "torch"], "unknown backend 'torch'"),
        (["cost", "--out", ""], "expected a name"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", *arguments]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.strip().count("\n")) == ("", 0)
    assert list(tmp_path.iterdir()) == []


def test_the_list_has_every_experiment_with_its_numbers(capsys):
    assert main(["experiment", "list"]) == 0
    out = capsys.readouterr().out
    for name in registry.NAMES:
        assert re.search(rf"^{name} +│ is bn better than nothing\? +│ +4 │ +6 │ +10$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


# --- the time that is left --------------------------------------------------------------------------


def made(config, seconds):
    return Cell(config, {}, {"seconds": seconds})


def test_the_time_left_counts_each_kind_of_cell_as_it_took():
    left = sweep.TimeLeft(TINY, [], 2)
    assert left.left() is None
    left.add(made(TINY[0], 10.0))  # none: one of two
    assert left.left() == pytest.approx(30.0 / 2, abs=0.5)
    left.add(made(TINY[2], 40.0))  # bn: one of two
    assert left.left() == pytest.approx(50.0 / 2, abs=0.5)
    left.add(made(TINY[1], 10.0))
    left.add(made(TINY[3], 40.0))
    assert left.left() == 0.0


def test_an_edited_cell_makes_no_endless_time_left():
    assert sweep.TimeLeft(TINY[1:2], [made(TINY[0], 1e308)], 1).left() is None


def test_the_time_left_is_known_from_cells_that_are_there():
    assert sweep.TimeLeft(TINY[1:2], [made(TINY[0], 7.0)], 1).left() == pytest.approx(7.0, abs=0.5)
