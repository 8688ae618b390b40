"""Shell completion: the script for the shell, and what is proposed when Tab is pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shellingham

import uanref
from uanref.cli import completion, main
from uanref.data import splits
from uanref.models import MODELS, NORMS


@pytest.fixture
def bash(monkeypatch):
    monkeypatch.setattr(shellingham, "detect_shell", lambda *_: ("bash", "/bin/bash"))


def proposed(monkeypatch, capsys, typed):
    """Return what bash would be told after ``typed``, the cursor at its end."""
    words = typed.split() + [""] * typed.endswith(" ")
    monkeypatch.setenv("_UANREF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.split()


def test_the_script_for_bash_is_printed(bash, capsys):
    assert main(["--show-completion"]) == 0
    out, err = capsys.readouterr()
    assert "complete -o default -F _uanref_completion uanref" in out
    assert err == ""


def test_it_is_installed_once(bash, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias mine=ls\n", encoding="utf-8")
    for _ in range(2):
        assert main(["--install-completion"]) == 0
    assert "installed" in capsys.readouterr().out
    lines = (tmp_path / ".bashrc").read_text(encoding="utf-8").split("\n")
    assert lines[0] == "alias mine=ls"
    assert sum("uanref" in line for line in lines) == 1


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
@pytest.mark.parametrize("found", ["dash", None])
def test_another_shell_is_refused_in_one_sentence(option, found, monkeypatch, capsys):
    def detect(*_):
        if found is None:
            raise shellingham.ShellDetectionFailure
        return found, f"/bin/{found}"

    monkeypatch.setattr(shellingham, "detect_shell", detect)
    assert main([option]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "bash, zsh, fish" in err


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("uanref com", ["compare"]),
        ("uanref e", ["experiment", "evaluate", "explore"]),
        ("uanref experiment c", ["convergence", "components", "classification", "cost"]),
        ("uanref experiment l", ["list"]),
        ("uanref experiment cost --scale t", ["tiny"]),
        ("uanref experiment cost --backend c", ["cupy"]),
        ("uanref report ", []),
        ("uanref train --opt", ["--optimizer"]),
        ("uanref train --norm ", list(NORMS)),
        ("uanref train --norm=ua", ["uan", "uan-learned", "uan-joint", "uan-public"]),
        ("uanref compare --norms bn,uan-l", ["bn,uan-learned"]),
        ("uanref compare --norms bn,b", []),
        ("uanref compare --model ", list(MODELS)),
        ("uanref compare --dataset d", ["digits"]),
        ("uanref evaluate net.npz --dataset f", ["fashion-small", "fashion"]),
        ("uanref train --schedule c", ["constant", "cosine"]),
        ("uanref compare --optimizer ad", ["adam", "adamw"]),
        ("uanref check --backend c", ["cupy"]),
        ("uanref bench --versions fast,", ["fast,definition"]),
        ("uanref bench --case uan,digits-u", ["uan,digits-uan"]),
        ("uanref bench --against torch,", [f"torch,{name}" for name in completion.PEERS if name != "torch"]),
        ("uanref step lay", ["layer-norm"]),
        ("uanref explore so", ["softmax-cross-entropy"]),
        ("uanref train --save ", []),  # the shell then proposes files
    ],
)
def test_names_are_proposed(typed, expected, monkeypatch, capsys):
    assert proposed(monkeypatch, capsys, typed) == expected


def test_what_is_proposed_is_accepted():
    for name in set(completion.datasets("")) - {"fashion"}:  # which is Debian's to install
        assert len(splits.load(name).train) > 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself(bash, tmp_path, capsys):
    """The printed script, loaded by bash, asks the command and gets the answer."""
    assert main(["--show-completion"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    command = tmp_path / "uanref"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uanref "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    press = "source ./script; COMP_WORDS=(uanref com); COMP_CWORD=1; _uanref_completion ./uanref; echo ${COMPREPLY[@]}"
    environment = {**os.environ, "PYTHONPATH": str(Path(uanref.__file__).parents[1])}
    done = subprocess.run(
        ["bash", "--norc", "-c", press], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("compare\n", "")
