"""``uanref explore``: the page that it writes, and what it answers to bad input."""

from __future__ import annotations

import os

import pytest
from support import unprivileged

from uanref import cli
from uanref.derivations import find


def test_a_page_is_written(tmp_path, capsys):
    target = tmp_path / "page [1].html"
    assert cli.main(["explore", "uan", "--out", str(target)]) == 0
    assert f"Written to {target}" in capsys.readouterr().out.replace("\n", "")
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert find("uan").title in page
    assert list(tmp_path.iterdir()) == [target], "no temporary file is left"


def test_the_name_makes_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explore", "bn", "--size", "m=3", "--seed", "5"]) == 0
    assert (tmp_path / "bn.html").stat().st_size > 10_000


def test_a_page_is_overwritten_only_by_force(tmp_path, capsys):
    target = tmp_path / "bn.html"
    target.write_text("mine")
    assert cli.main(["explore", "bn", "--out", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert cli.main(["explore", "bn", "--out", str(target), "--force"]) == 0
    assert target.read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "expected one of linear"),
        (["uan", "--out", "."], "is a folder"),
        (["uan", "--out", "no/such/folder/page.html"], "there is no folder"),
        (["uan", "--size", "z=3"], "no axis 'z'"),
        (["uan", "--size", "m=900"], "smaller sizes"),
        (["bn", "--inputs", "nowhere.npz"], "nowhere.npz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_one_sentence(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explore", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    done = unprivileged.run("explore", "bn", "--out", str(tmp_path / "bn.html"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot be written" in done.stderr
    tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []
