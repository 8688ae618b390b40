"""``uanref report``: cells of several folders, read whatever they hold, shown and drawn."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from support import toy_experiment, unprivileged

from uanref.cli import main
from uanref.experiments import cells, collect, compare_cells, compare_pictures, compare_report, pictures
from uanref.experiments.compare_again import comparisons
from uanref.experiments.experiment import Cell, Experiment
from uanref.experiments.measuring import Measuring
from uanref.experiments.run import Run
from uanref.experiments.settings import Settings
from uanref.training.history import History

TOY = toy_experiment.NAME


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    toy_experiment.install(lambda owner, name, value: monkeypatch.setattr(owner, name, value))
    monkeypatch.setattr(pictures, "obstacle", lambda: "")  # which takes longer than the rest


@pytest.fixture
def folder(tmp_path):
    """Return a folder with four cells."""
    assert main(["experiment", TOY, "--scale", "tiny", "--jobs", "1", "--out", str(tmp_path / "r"), "-q"]) == 0
    return tmp_path / "r"


def rewritten(file, change):
    """Change a cell's content and give it the name that belongs to it."""
    cell = json.loads(file.read_text("utf-8"))
    change(cell)
    file.unlink()
    target = file.with_stem(cells.name(cell["config"], cell["measured"]["versions"]["uanref"]))
    target.write_text(json.dumps(cell), "utf-8")


def first(folder):
    return sorted((folder / "cells").glob("*.json"))[0]


def test_it_shows_what_the_sweep_showed_and_changes_nothing(folder, capsys):
    again = ["experiment", TOY, "--scale", "tiny", "--jobs", "1", "--out", str(folder), "-q"]
    capsys.readouterr()
    assert main(again) == 0
    shown = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for place in (folder, folder / "cells"):
        assert main(["report", str(place)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.partition("\n")[0] == f"{TOY}, tiny (4 cells): is bn better than nothing?"
        assert out.partition("\n")[2] == shown.partition("\n")[2].partition("Written to")[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_pictures_are_drawn_where_one_says(folder, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    for _ in range(2):
        assert main(["report", str(folder), "--out", str(out)]) == 0
        assert f"Written to {out / 'tiny'}: {TOY}/accuracy.png" in capsys.readouterr().out
    assert [path.relative_to(out).as_posix() for path in sorted(out.rglob("*"))] == [
        "tiny",
        f"tiny/{TOY}",
        f"tiny/{TOY}/accuracy.png",
    ]


def test_folders_of_two_machines_count_as_one(folder, tmp_path, capsys):
    other = tmp_path / "other"
    (other / "cells").mkdir(parents=True)
    files = sorted((folder / "cells").iterdir())
    for file in files[2:]:
        file.rename(other / "cells" / file.name)
    shutil.copy(files[0], other / "cells")
    assert main(["report", str(folder), str(other)]) == 0
    out, err = capsys.readouterr()
    assert f"{TOY}, tiny (4 cells)" in out
    assert err == "uanref: one cell is there more than once, the first of each counts\n"


def test_the_cells_come_in_the_order_of_the_plan(folder):
    (found,) = collect.read([folder]).groups.values()
    assert [(cell.config["norm"], cell.config["seed"]) for cell in found] == [
        ("none", 0),
        ("none", 1),
        ("bn", 0),
        ("bn", 1),
    ]


def test_results_that_differ_are_told_and_the_first_counts(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    rewritten(first(other), lambda cell: cell["result"].update(validation_accuracy=0.125))
    found = collect.read([folder, other])
    assert found.notes[0].startswith("4 cells are there more than once")
    assert found.notes[1] == f"1 of them hold another result, first {first(other)}"
    (group,) = found.groups.values()
    assert all(cell.result["validation_accuracy"] != 0.125 for cell in group)


def test_cells_of_any_version_are_read(folder, capsys):
    def older(cell):
        cell["measured"]["versions"] = {"uanref": "0.0.9"}
        cell["config"]["more"] = [1, 2]

    rewritten(first(folder), older)
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "(4 cells)" in out
    assert err == "uanref: the cells are of several versions of uanref: 0.0.9, 0.1.0\n".replace(
        "0.1.0", cells.uanref.__version__
    )


def test_several_experiments_and_scales_follow_each_other(folder, monkeypatch, capsys):
    def other(cell):
        cell["config"]["experiment"] = "convergence"

    def larger(cell):
        cell["config"]["scale"] = "paper"

    files = sorted((folder / "cells").iterdir())
    rewritten(files[0], other)
    rewritten(files[1], larger)
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    titles = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines() if " cells): " in line]
    assert titles == ["convergence, tiny", f"{TOY}, paper", f"{TOY}, tiny"]


def test_the_same_cells_from_a_gpu_are_no_more_seeds(folder, tmp_path, capsys):
    other = tmp_path / "gpu"
    shutil.copytree(folder, other)
    for file in sorted((other / "cells").iterdir()):
        rewritten(file, lambda cell: cell["config"].update(backend="cupy"))
    capsys.readouterr()
    assert main(["report", str(folder), str(other), "--out", str(tmp_path / "p")]) == 0
    out = capsys.readouterr().out
    titles = [line.partition(":")[0] for line in out.splitlines() if " cells): " in line]
    assert titles == [f"{TOY}, tiny (4 cells)", f"{TOY}, tiny-cupy (4 cells)"]
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["tiny", "tiny-cupy"]
    assert main(["report", str(folder), str(other), "--page", str(tmp_path / "page.md")]) == 1
    assert "are of several scales or backends" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_what_a_cell_says_leads_to_no_other_folder(folder, tmp_path, capsys):
    for file in sorted((folder / "cells").iterdir()):
        rewritten(file, lambda cell: cell["config"].update(experiment="compare", scale="../../escaped"))
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["report", str(folder), "--out", str(tmp_path / "a" / "b")]) == 1
    assert capsys.readouterr().err.endswith("none of the cells can be read\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_that_cannot_be_drawn_leave_no_folder(folder, tmp_path, monkeypatch, capsys):
    def broken(found, place):
        raise RuntimeError("no font")

    broken_one = Experiment(**vars(toy_experiment.EXPERIMENT) | {"pictures": broken})
    monkeypatch.setattr(toy_experiment, "EXPERIMENT", broken_one)
    assert main(["report", str(folder), "--out", str(tmp_path / "a" / "b")]) == 1
    assert "the pictures could not be drawn (no font)" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def set_entry(part, name, value):
    return lambda cell: cell[part].update({name: value})


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_entry("config", "experiment", "nope"), "is of an experiment or a scale that this uanref does not know"),
        (set_entry("config", "experiment", ["list"]), "is of an experiment or a scale"),
        (set_entry("config", "scale", "big"), "is of an experiment or a scale"),
        (set_entry("config", "scale", {}), "is of an experiment or a scale"),
        (set_entry("config", "backend", "jax"), "is of a backend that this uanref does not know"),
        (set_entry("config", "backend", ["cupy"]), "is of a backend that this uanref does not know"),
        (set_entry("config", "norm", "\x1b[2J"), "which is no name or sentence"),
        (set_entry("config", "norm", "x" * 20_000), "which is no name or sentence"),
        (set_entry("config", "\x1b[2J", 1), "which is no name or sentence"),
        (set_entry("result", "validation_accuracy", 10**400), "which is no number of a result"),
        (set_entry("result", "deep", nest(100)), "16 deep"),
        (set_entry("measured", "versions", {}), None),
        (set_entry("measured", "versions", {"uanref": 3}), None),
        (lambda cell: cell.update(more=1), "holds 'more', which this uanref does not know"),
        (lambda cell: cell.pop("result"), "lacks result"),
        (lambda cell: cell.update(result=[]), "as result, expected an object"),
    ],
)
def test_an_edited_cell_is_left_out_in_one_sentence(change, says, folder, capsys):
    capsys.readouterr()
    if says is None:
        cell = json.loads(first(folder).read_text("utf-8"))
        change(cell)
        first(folder).write_text(json.dumps(cell), "utf-8")
    else:
        rewritten(first(folder), change)
    assert main(["report", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "(3 cells)" in out
    assert err.startswith("uanref: one cell is left out: ")
    assert (says or "measured.versions") in err
    assert err.endswith("uanref: one cell was left out\n")
    assert "\x1b" not in out + err
    assert len(err) < 1000


@pytest.mark.parametrize("content", [b"", b"null", b"[" * 100_000, b'{"a": NaN}', b"\xff", b"1e999"])
def test_a_spoiled_cell_is_left_out_in_one_sentence(content, folder, capsys):
    capsys.readouterr()
    first(folder).write_bytes(content)
    assert main(["report", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "(3 cells)" in out
    assert err.count("\n") == 2


def test_a_cell_that_leads_nowhere_is_left_out_in_one_sentence(folder, capsys):
    file = first(folder)
    file.unlink()
    file.symlink_to(folder / "nowhere")
    capsys.readouterr()
    assert main(["report", str(folder)]) == 1
    assert f"{file}: it cannot be read (No such file or directory)\n" in capsys.readouterr().err


def test_a_cell_under_another_name_is_left_out(folder):
    first(folder).rename(folder / "cells" / f"{'0' * 32}.json")
    found = collect.read([folder])
    assert found.damaged == 1
    assert "holds another config than its name says" in found.notes[0]


def test_cells_that_lack_what_an_experiment_shows_are_a_sentence(folder, capsys):
    for file in sorted((folder / "cells").iterdir()):
        rewritten(file, lambda cell: cell.update(result={}))
    capsys.readouterr()
    assert main(["report", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "SUPPORTED" in out
    assert "the tables cannot be made of these cells (KeyError" in err


@pytest.mark.parametrize("what", ["missing", "empty", "file", "link"])
def test_a_folder_without_cells_is_refused(what, tmp_path, folder, capsys):
    place = tmp_path / what
    if what == "empty":
        place.mkdir()
    elif what == "file":
        place.touch()
    elif what == "link":
        place.mkdir()
        (place / "cells").symlink_to(folder / "cells")
    capsys.readouterr()
    assert main(["report", str(place)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["report"]) == 2


@pytest.mark.slow
def test_a_folder_that_only_can_be_read_is_enough(tmp_path):
    """In a process of its own, without root's rights: of a comparison, as that process knows no toy."""
    out = tmp_path / "r"
    assert main(["compare", "--model", "mlp", "--epochs", "1", "--seeds", "1", "--norms", "bn", "--out", str(out)]) == 0
    for place in (out / "cells", out):
        place.chmod(0o500)
    try:
        done = unprivileged.run("report", str(out))
        assert (done.returncode, done.stderr) == (0, "")
        assert "test accuracy (%)" in done.stdout
        done = unprivileged.run("report", str(out), "--out", str(out / "pictures"))
        assert done.returncode == 1
        assert "the pictures could not be written (Permission denied)" in done.stderr
    finally:
        for place in (out, out / "cells"):
            place.chmod(0o700)


@pytest.mark.slow
def test_comparisons_are_reported_too(tmp_path, capsys):
    options = ["--model", "mlp", "--epochs", "1", "--jobs", "1", "--quiet"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["compare", *options, "--norms", "none,bn", "--seeds", "2", "--out", str(one)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main(["compare", *options, "--norms", "bn", "--seeds", "1", "--batch-size", "32", "--out", str(two)]) == 0
    capsys.readouterr()
    assert main(["report", str(one), str(two), "--out", str(tmp_path / "p")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "compare (5 cells): what do different norms do to one network?"
    for row in shown[2:4]:  # none, bn
        assert row in lines
    assert sum("test accuracy (%)" in line for line in lines) == 2
    drawn = {path.name for path in (tmp_path / "p" / "compare").iterdir()}
    assert drawn == {f"{i}-{name}" for i in (1, 2) for name in compare_pictures.NAMES if name != "activations.png"}


def test_a_missing_file_of_cells_is_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nothing\.json cannot be read \(No such file or directory\): name another"
    ):
        collect.read([tmp_path / "nothing.json"])
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    with pytest.raises(OSError, match=r"loop\.json cannot be read"):
        collect.read([tmp_path / "loop.json"])


def compared(seed=0, lr=0.01, norm="bn", **more):
    """Return the cell of a comparison's run that met NaN at once."""
    settings = Settings(model="mlp", norms=("bn",), seeds=1, epochs=1)
    run = Run(
        norm="bn", lr=lr, seed=seed, test_accuracy=math.nan, parameters=1, history=History(stopped="nan"), layers={}
    )
    config = compare_cells.config(settings, "bn", lr, seed) | {"norm": norm} | more
    measured = {**Measuring().taken(), "epoch_seconds": []}
    return Cell(config, compare_cells.cell(settings, run)[0].result, measured)


def test_a_run_of_two_comparisons_is_one_run():
    """Of the same learning rate, but the first in one of them alone: only there activations are kept."""
    (found,) = comparisons([compared(activations=flag, seed=seed) for flag in (True, False) for seed in (0, 1)])
    assert [run.seed for run in found.of("bn", 0.01)] == [0, 1]


def test_two_versions_of_a_readers_norm_are_two_rows():
    own = [compared(norm="mine.py:make", norm_digest=digest * 64, seed=seed) for digest in "ab" for seed in (0, 1)]
    (found,) = comparisons([*own, compared()])
    assert found.settings.norms == ("bn", "mine.py:make (aaaaaaaa)", "mine.py:make (bbbbbbbb)")
    assert [len(found.of(norm, 0.01)) for norm in found.settings.norms] == [1, 2, 2]
    (found,) = comparisons(own[:2])
    assert found.settings.norms == ("mine.py:make",)


def test_a_seed_beyond_all_memory_is_a_number_like_others():
    (found,) = comparisons([compared(seed=2**50)])
    assert "Each seed (0 to 1125899906842624)" in compare_report.caption(found)


def test_a_mistake_of_an_experiment_is_shown_whole_where_one_asks_for_it(folder, monkeypatch):
    def broken(_):
        raise KeyError("norm")

    broken_one = Experiment(**vars(toy_experiment.EXPERIMENT) | {"tables": broken})
    monkeypatch.setattr(toy_experiment, "EXPERIMENT", broken_one)
    monkeypatch.setenv("UANREF_DEBUG", "1")
    with pytest.raises(KeyError, match="norm"):
        main(["report", str(folder)])
