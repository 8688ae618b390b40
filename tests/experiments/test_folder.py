"""The folder of a comparison: whose it is, and what stands in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from uanref.cli import main
from uanref.experiments import cells, folder
from uanref.experiments.folder import claimed

TINY = ["--model", "mlp", "--epochs", "1", "--seeds", "1", "--jobs", "1", "--quiet"]
HOLD = """
import sys
from pathlib import Path
from uanref.experiments.folder import claimed
with claimed(Path(sys.argv[1]), "--out"):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(place):
    return sorted(path.name for path in place.iterdir())


def test_without_results_it_disappears(tmp_path):
    wanted = tmp_path / "a" / "b"
    with claimed(wanted, "--out") as place:
        assert place == wanted
        assert names(place) == [folder.LOCK]
    assert names(tmp_path) == []
    with pytest.raises(ZeroDivisionError), claimed(wanted, "--out"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_it_keeps_what_it_holds_or_was_there(tmp_path):
    (tmp_path / "mine").mkdir()
    new = tmp_path / "mine" / "new"
    with claimed(tmp_path / "mine", "--out"):
        pass
    with claimed(new, "--out"):
        (new / "results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileExistsError, match="--force"), claimed(new, "--out"):
        pass
    assert names(new) == ["results.json"]


def test_force_removes_what_a_comparison_wrote_and_nothing_else(tmp_path):
    ours = [f"{cells.FOLDER}/{'0' * 32}.json", f"{cells.FOLDER}/{'a' * 32}.npz", "results.json", "curves.png"]
    ours += [".pictures-x/curves.png", f"{cells.FOLDER}/.{'0' * 32}.json.x1.tmp", ".results.json.x1.tmp"]
    theirs = [f"{cells.FOLDER}/notes.json", f"{cells.FOLDER}/.notes", "mine.png", "curves.svg"]
    for name in (*ours, *theirs):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old", encoding="utf-8")
    with claimed(tmp_path, "--out", force=True):
        for name in ours:
            assert not (tmp_path / name).exists()
    for name in theirs:
        assert (tmp_path / name).exists()


def test_pictures_without_results_go_before_new_ones_come(tmp_path):
    (tmp_path / "gradients.png").write_text("of a comparison that was killed", encoding="utf-8")
    with claimed(tmp_path, "--out"):
        assert names(tmp_path) == [folder.LOCK]


def test_a_second_process_is_refused_at_once_and_a_kill_frees_the_folder(tmp_path, capsys):
    out = tmp_path / "r"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    for force in ([], ["--force"]):
        assert main(["compare", *TINY, "--out", str(out), *force]) == 2
        err = capsys.readouterr().err
        assert "another uanref is at work" in err
        assert err.count("\n") == 1
    holder.kill()
    holder.communicate()
    assert names(out) == [folder.LOCK]
    with claimed(out, "--out"):
        pass
    assert names(out) == []


def test_one_process_does_not_get_it_twice_either(tmp_path):
    with claimed(tmp_path, "--out"), pytest.raises(FileExistsError, match="at work"), claimed(tmp_path, "--out"):
        pass


def test_default_names_of_the_same_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda text: "runs/compare-now")
    with claimed(None, "--out") as first, claimed(None, "--out") as second:
        assert first != second
        (first / "results.json").write_text("{}", encoding="utf-8")
    assert names(tmp_path / "runs") == ["compare-now"]
    with claimed(None, "--out") as third:
        assert third.name == "compare-now-2"


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_links_in_it_are_not_followed(tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    (away / f"{'0' * 32}.json").write_text("kept", encoding="utf-8")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "cells").symlink_to(away)
    (tmp_path / "r" / folder.LOCK).symlink_to(away / "lock")
    with pytest.raises(OSError, match="--out"), claimed(tmp_path / "r", "--out", force=True):
        pass
    (tmp_path / "r" / folder.LOCK).unlink()
    with pytest.raises(OSError, match="no folder"), claimed(tmp_path / "r", "--out", force=True):
        pass
    assert names(away) == [f"{'0' * 32}.json"]
