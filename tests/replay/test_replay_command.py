"""``uanref replay``: the page that it writes, and what it answers to bad input."""

from __future__ import annotations

import pytest
from support import recordings as toy

from uanref import cli
from uanref.training import recording


@pytest.fixture
def run(tmp_path):
    """A folder as ``uanref train`` leaves it, with the recordings of three trainings."""
    folder = tmp_path / "run [1]"
    folder.mkdir()
    for norm, seed in (("bn", 0), ("uan", 0), ("uan", 1)):
        recording.write(folder / f"{norm}{seed}-replay.npz", toy.recording(norm, seed))
    return folder


def test_a_page_is_written_of_the_first_bn_and_uan(run, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert cli.main(["replay", str(run), "--out", str(target)]) == 0
    out = capsys.readouterr().out.replace("\n", "")
    assert f"Written to {target}" in out
    assert "bn:0 and uan:0" in out
    page = target.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "<title>Training, watched again: bn, seed 0 | uan, seed 0</title>" in page


def test_runs_are_chosen_and_the_page_has_a_name_of_its_own(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["replay", str(run), "--runs", "uan:1"]) == 0
    assert "<title>Training, watched again: uan, seed 1</title>" in (tmp_path / "replay.html").read_text("utf-8")


def test_a_page_is_overwritten_only_by_force(run, tmp_path, capsys):
    target = tmp_path / "page.html"
    target.write_text("mine")
    assert cli.main(["replay", str(run), "--out", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert cli.main(["replay", str(run), "--out", str(target), "--force"]) == 0
    assert target.read_text("utf-8") != "mine"


@pytest.mark.parametrize(
    ("place", "more", "told"),
    [
        ("nowhere", [], "nowhere does not exist: name a folder of uanref compare, or a checkpoint of uanref train"),
        (".", [], "holds no recordings: name a folder of uanref compare, or a checkpoint of uanref train --save"),
        ("run [1]", ["--runs", "bn:7"], "there is no run 'bn:7': there are bn:0, uan:0, uan:1"),
        ("run [1]", ["--runs", "bn,uan:0,uan:1"], "at most 2 runs stand side by side"),
        ("run [1]", ["--out", "missing/page.html"], "there is no folder missing, create it first"),
        ("run [1]/bn0-replay.npz/x", [], "does not exist"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_sentence(run, tmp_path, monkeypatch, capsys, place, more, told):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["replay", place, *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "replay.html").exists()


def test_a_damaged_recording_is_told_and_the_others_are_shown(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = run / "bn0-replay.npz"
    path.write_bytes(path.read_bytes()[:-300])
    assert cli.main(["replay", str(run)]) == 0
    shown = capsys.readouterr()
    assert "bn0-replay.npz is not a recording, or damaged or cut short" in shown.err
    assert "uan:0 and uan:1" in shown.out.replace("\n", "")
    for each in run.iterdir():
        each.write_bytes(each.read_bytes()[:100])
    assert cli.main(["replay", str(run), "--force"]) == 2
    assert "damaged" in capsys.readouterr().err
