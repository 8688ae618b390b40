"""The page on the claims: made of handmade cells, from folders and from its own compact files, always the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from rich.table import Table
from rich.text import Text

from uanref.cli import main
from uanref.experiments import cells, collect, evidence, registry
from uanref.experiments.compact import read_compact, write_compact
from uanref.experiments.evidence_settings import settings
from uanref.experiments.experiment import Cell, Experiment
from uanref.experiments.statistics import paired
from uanref.experiments.verdicts import judge, untestable
from uanref.plots.intervals import intervals

ROOT = Path(__file__).parents[2]
COMMAND = "uanref report docs/evidence/*.json --page docs/evidence.md"


def plan(scale, seeds):
    return [{"norm": norm, "lr": 0.1, "seed": seed} for norm in ("bn", "uan") for seed in range(seeds or 4)]


def scores(found, norm):
    return {c.config["seed"]: c.result["accuracy"] for c in found if c.config["norm"] == norm}


def tables(found):
    made = Table("norm", "accuracy [%]", caption=Text("of *all* runs"))
    for norm in ("bn", "uan"):
        made.add_row(norm, Text(" ".join(f"{100 * value:.1f}" for value in scores(found, norm).values())))
    return [made]


def pictures(found, folder):
    pair = paired(scores(found, "uan"), scores(found, "bn"))
    intervals([("uan - bn", pair.mean, pair.low, pair.high)], folder / "pairs.png", x_label="x")
    return ["pairs.png"]


def verdicts(found):
    pair = paired(scores(found, "uan"), scores(found, "bn"))
    return [judge("UAN needs fewer updates", "by 1_000", pair, 0.01), untestable("BN is odd.", "Nobody knows")]


def toy(name):
    return Experiment(name, f"what of {name}?", plan, None, tables, pictures, verdicts)


@pytest.fixture(autouse=True)
def experiments(monkeypatch):
    monkeypatch.setattr(registry, "find", lambda name: {name: toy(name) for name in registry.NAMES}[name])


def handmade(name, gain=0.02, scale="small"):
    return [
        Cell(
            {"experiment": name, "scale": scale, "backend": "numpy"} | config,
            {"accuracy": 0.9 + config["seed"] / 300 + gain * (config["norm"] == "uan"), "curve": [0.1, 1 / 3] * 4},
            {"seconds": 30.0 + config["seed"], "versions": {"uanref": "0.5", "python": "3.11", "numpy": "2.4"}},
        )
        for config in plan(scale, 4)
    ]


def written(folder, *groups):
    for group in groups:
        for cell in group:
            file = folder / "cells" / f"{cells.name(cell.config, '0.5')}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(vars(cell)))
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_page_tells_what_it_has(tmp_path):
    found = {"convergence": handmade("convergence"), "cost": handmade("cost", gain=0.0)}
    assert evidence.write_page(found, tmp_path / "page.md", COMMAND) == []
    text = (tmp_path / "page.md").read_text()
    assert f"$ {COMMAND}\n" in text
    assert "## convergence\n\n*what of convergence?*\n\n8 runs, scale small, backend numpy." in text
    assert "Varied: norm (bn, uan); seed (4 of them). All: learning rate 0.1." in text
    assert "Made with uanref 0.5, python 3.11, numpy 2.4. 4.2 minutes of work in all." in text
    assert "| norm | accuracy \\[%\\] |" in text
    assert "| bn | 90.0 90.3 90.7 91.0 |" in text
    assert "of \\*all\\* runs" in text
    assert "![pairs](page/convergence/pairs.png)" in text
    assert "- **supported**: UAN needs fewer updates. Rule: by 1\\_000. Found: Mean difference +0.02, " in text
    assert "- **not supported**: UAN needs fewer updates. Rule: by 1\\_000. Found: Mean difference +0, " in text
    assert "- **not testable here**: BN is odd. Found: Nobody knows." in text
    assert (
        "| UAN learns faster than BN. | **supported** | 1 of 1 comparisons support it. [convergence](#convergence) |"
        in text
    )
    assert "| Gradients are more stable with UAN than with BN. | **not testable here** | No runs of this" in text
    assert text.index("## convergence") < text.index("## cost")
    assert "UAN's accuracy after 25 epochs" in text  # the authors' figures stand beside
    assert "| DenseNet-40 | 61.28 | 62.11 | 63.21 |" in text
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "page.md",
        "page/convergence.json",
        "page/convergence/pairs.png",
        "page/cost.json",
        "page/cost/pairs.png",
    ]


def test_every_link_of_a_page_leads_somewhere(tmp_path):
    (tmp_path / "reading.md").touch()
    evidence.write_page({"cost": handmade("cost")}, tmp_path / "page.md", COMMAND)
    text = (tmp_path / "page.md").read_text()
    for target in re.findall(r"(?<!\\)\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert f"\n## {target[1:]}\n" in text
        else:
            assert (tmp_path / target).is_file(), target


def test_the_page_from_folders_is_the_page_from_its_own_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one = written(tmp_path / "one", handmade("convergence")[::2], handmade("cost"))
    two = written(tmp_path / "two", handmade("convergence")[1::2], handmade("cost")[:3])
    (tmp_path / "docs").mkdir()
    assert run("report", one, two, "--page", "docs/evidence.md") == 0
    shown = capsys.readouterr().out
    assert "Written to docs/evidence.md, and what it shows to docs/evidence" in shown
    first = {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*") if path.is_file()}
    assert f"$ {COMMAND}\n".encode() in first[tmp_path / "docs" / "evidence.md"]
    assert read_compact(tmp_path / "docs/evidence/convergence.json") == handmade("convergence")
    assert run("report", *sorted((tmp_path / "docs/evidence").glob("*.json")), "--page", "docs/evidence.md") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*") if path.is_file()} == first
    assert run("report", two, one, "--page", "docs/evidence.md") == 0  # the order of folders does not matter
    assert {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*") if path.is_file()} == first


def test_a_name_with_a_space_is_quoted_in_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, handmade("cost"))
    assert run("report", ".", "--page", "my page.md") == 0
    page = (tmp_path / "my page.md").read_text()
    assert "$ uanref report 'my page'/*.json --page 'my page.md'\n" in page
    pictures = re.findall(r"!\[[^\]]*\]\((.*)\)", page)
    assert pictures
    for picture in pictures:
        assert " " not in picture  # Markdown ends the link there
        assert (tmp_path / unquote(picture)).is_file()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("page.txt", "does not end in .md: name a Markdown file"),
        ("missing/page.md", "there is no folder"),
        ("folder.md", "is a folder: name a file"),
        ("taken.md", "needs a folder"),
        ("results.md", "which holds results: name another file"),
        ("", "expected a name"),
    ],
)
def test_a_bad_target_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys, target, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collect, "read", lambda folders: pytest.fail("read"))
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "taken").touch()
    (tmp_path / "results" / "cells").mkdir(parents=True)
    assert run("report", tmp_path, "--page", target) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_a_read_only_place_is_refused(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "cells-here", handmade("cost"))

    def refuse(path, what):
        raise OSError(f"{what} cannot be written (no permission): name another place")

    monkeypatch.setattr("uanref.files.probe", refuse)  # root may write anywhere
    assert run("report", folder, "--page", tmp_path / "page.md") == 2
    assert "cannot be written (no permission): name another place" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_a_page_that_cannot_be_written_in_the_end_leaves_the_tables(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "cells-here", handmade("cost"))

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(evidence.files, "write_bytes", full)
    assert run("report", folder, "--page", tmp_path / "page.md") == 1
    shown = capsys.readouterr()
    assert "90.0 90.3 90.7 91.0" in shown.out
    assert "no page was written" in shown.err
    assert "Traceback" not in shown.err


def test_cells_of_several_scales_make_no_page(tmp_path, capsys):
    folder = written(tmp_path / "a", handmade("cost"), handmade("cost", scale="tiny"))
    assert run("report", folder, "--page", tmp_path / "page.md") == 1
    assert "no page was written: the cells of cost are of several scales" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    ("content", "words"), [("{}", "lacks"), ("no", "is no JSON"), (None, "cannot be read"), ("[]", "holds")]
)
def test_a_damaged_compact_file_is_one_sentence(tmp_path, capsys, content, words):
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    assert run("report", tmp_path / "x.json", "--page", tmp_path / "page.md") == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert str(tmp_path / "x.json") in shown.err
    assert not (tmp_path / "page.md").exists()


def test_a_compact_file_of_an_unknown_experiment_is_refused(tmp_path, capsys):
    write_compact(handmade("sorcery"), tmp_path / "x.json")
    assert run("report", tmp_path / "x.json") == 2
    assert "an experiment or a scale that this uanref does not know" in capsys.readouterr().err


def test_cells_that_an_experiment_does_not_understand_write_nothing(tmp_path):
    odd = [Cell(cell.config, {}, cell.measured) for cell in handmade("cost")]
    with pytest.raises(ValueError, match=r"the cells of cost make no page \(KeyError"):
        evidence.write_page({"convergence": handmade("convergence"), "cost": odd}, tmp_path / "page.md", COMMAND)
    assert not any(tmp_path.iterdir())


def test_cells_that_fit_no_compact_file_write_nothing(tmp_path):
    odd = [Cell(cell.config, cell.result | {"#": 1}, cell.measured) for cell in handmade("cost")]
    with pytest.raises(ValueError, match="the key '#'"):
        evidence.write_page({"convergence": handmade("convergence"), "cost": odd}, tmp_path / "page.md", COMMAND)
    assert not any(tmp_path.iterdir())


def test_a_picture_that_cannot_be_drawn_is_told(tmp_path, monkeypatch):
    def fail(found, folder):
        raise RuntimeError("no font")

    monkeypatch.setattr(registry, "find", lambda name: Experiment(name, "q?", plan, None, tables, fail, verdicts))
    told = evidence.write_page({"cost": handmade("cost")}, tmp_path / "page.md", COMMAND)
    assert len(told) == 1
    assert "cost: the pictures could not be drawn" in told[0]
    assert "![" not in (tmp_path / "page.md").read_text()


def test_settings_that_some_runs_lack_vary():
    first, *rest = handmade("cost")
    odd = Cell(first.config | {"width": 0.5, "norm_options": {"start": "data"}}, first.result, first.measured)
    told = settings([odd, *rest])
    assert 'width (0.5, not set); norm options ({"start": "data"}, not set)' in told
    plain = Cell(first.config | {"norm_options": {}, "lr": 0.1 / 3}, first.result, first.measured)
    assert "learning rate 0.0333333; seed 0; norm options none." in settings([plain])
    assert settings([first]).startswith("1 runs, scale small, backend numpy. All: norm bn; learning rate 0.1; seed 0.")


# --- the committed page ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_committed_page_is_what_the_committed_cells_give(tmp_path, monkeypatch):
    page = ROOT / "docs" / "evidence.md"
    if not page.exists():
        pytest.skip("no evidence is committed yet")
    monkeypatch.undo()  # the real experiments
    kept = sorted((ROOT / "docs" / "evidence").glob("*.json"))
    found = collect.read(kept)
    by_name = {group.experiment: cells for group, cells in found.groups.items()}
    assert list(by_name) == [path.stem for path in sorted(kept, key=lambda path: registry.NAMES.index(path.stem))]
    assert evidence.write_page(by_name, tmp_path / "evidence.md", COMMAND) == []
    assert (tmp_path / "evidence.md").read_text() == page.read_text()
    for file in kept:
        assert (tmp_path / "evidence" / file.name).read_bytes() == file.read_bytes()
    pictures = {path.relative_to(page.parent).as_posix() for path in page.with_suffix("").rglob("*.png")}
    assert pictures == set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text()))
    assert sum(path.stat().st_size for path in kept) <= 2e6
    assert sum((page.parent / path).stat().st_size for path in pictures) <= 1e6
    assert "The runs on this page do not judge it" not in page.read_text()
