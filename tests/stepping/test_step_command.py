"""``uanref step``: what it prints without a terminal, and what it answers to bad input."""

from __future__ import annotations

import numpy as np
import pytest

from uanref import cli
from uanref.cli import options
from uanref.derivations import DERIVATIONS, find


def test_the_help_names_every_derivation():
    assert options.DERIVATION_NAMES.split(", ") == [derivation.name for derivation in DERIVATIONS]


@pytest.mark.parametrize("arguments", [["--plain"], []], ids=["asked for", "no terminal"])
def test_the_walk_is_printed(arguments, capsys):
    assert cli.main(["step", "uan", *arguments]) == 0
    out = capsys.readouterr().out
    assert find("uan").title in out
    assert out.count("✓") == 24
    assert "WRONG" not in out


def test_sizes_and_files_are_taken(tmp_path, capsys):
    assert cli.main(["step", "bn", "--size", "m=3", "--size", "c=1"]) == 0
    assert "(m, c) = (3, 1)" in capsys.readouterr().out
    inputs = find("bn").example(seed=2)
    inputs["x"][0, 0] = 9.125
    np.savez(tmp_path / "mine.npz", **inputs)
    assert cli.main(["step", "bn", "--inputs", str(tmp_path / "mine.npz")]) == 0
    assert "9.12500" in capsys.readouterr().out


def test_a_mistake_is_planted(capsys):
    assert cli.main(["step", "bn", "--mistake", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "mu <- centred: sign flipped" in listed
    assert cli.main(["step", "bn", "--mistake", "mu <- centred: sign flipped"]) == 0
    out = capsys.readouterr().out
    assert "planted mistake: mu <- centred: sign flipped" in out
    assert out.count("WRONG") == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "expected one of linear"),
        (["uan", "--size", "z=3"], "no axis 'z'"),
        (["uan", "--size", "m"], "axis=length"),
        (["uan", "--size", "m=400"], "smaller sizes"),
        (["uan", "--seed", "-1"], "--seed"),
        (["bn", "--inputs", "nowhere.npz"], "nowhere.npz"),
        (["bn", "--mistake", "none such"], "--mistake list"),
        (["conv", "--size", "u=9"], "does not fit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_one_sentence(arguments, told, capsys):
    assert cli.main(["step", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err
