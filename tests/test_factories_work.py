"""A norm of the reader's own while work goes on: packages, notebooks, changing files, odd names, failures."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.heavy import every, slow
from test_factories import GOOD, TINY, TRAIN, accuracies, refused

import uanref as un
from uanref import factories
from uanref.cli import main
from uanref.experiments import compare
from uanref.experiments.compare import Settings
from uanref.own_errors import OwnCodeError

OTHER = GOOD.replace("LayerNorm", "BatchNorm")
COMPARE = ["compare", "--model", "mlp", "--epochs", "1", "--quiet", "--out", "r"]
LATE = """import sys

import uanref as un


class Late(un.LayerNorm):
    calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 18 and self.training:
            {failure}
        return super().forward(x)


def make(num_features, rng):
    return Late(num_features)
"""
FAILURES = {
    "return [][1]": "IndexError: list index out of range",
    "raise ValueError('no\\nluck')": "ValueError: no luck",
    "raise NotImplementedError": "NotImplementedError",
    "assert x is None": "AssertionError",
    "self.gama": "AttributeError",
    "sys.exit(0)": "SystemExit: 0",
    "raise MemoryError('planted')": "MemoryError: planted",
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as if installed, of a name that no other test imports; the file of its norm."""
    name = f"norms_of_{tmp_path.name}"
    folder = tmp_path / "site" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "own.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    yield folder / "own.py"
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def of(package):
    return f"{package.parent.name}.own:make"


def layer_norm(seeds=2):
    """What a comparison of layer normalization gives, to tell it from another norm's."""
    found = accuracies(Settings(norms=("ln",), **TINY | {"seeds": seeds}), 1)
    return [accuracy for _, _, accuracy in found]


# --- packages, scripts, notebooks -----------------------------------------------------------------


@pytest.mark.slow
def test_a_package_goes_through_every_command(package, capsys):
    assert main([*COMPARE, "--norms", f"ln,{of(package)}", "--seeds", "2", "--jobs", "2"]) == 0
    results = json.loads(Path("r/results.json").read_text("utf-8"))
    assert results["factories"] == {of(package): factories.find(of(package)).digest}
    ln, own = ([run["test_accuracy"] for run in results["runs"] if run["norm"] == norm] for norm in ("ln", of(package)))
    assert ln == own
    assert main([*TRAIN, "--norm", of(package), "--epochs", "1", "--save", "a.npz"]) == 0
    capsys.readouterr()
    refused(capsys, ["evaluate", "a.npz"], f"--norm {of(package)}")
    assert main(["evaluate", "a.npz", "--norm", of(package)]) == 0
    assert main(["train", "--resume", "a.npz", "--norm", of(package), "--epochs", "2", "--quiet"]) == 0


SCRIPT = """
import json
import uanref as un
from uanref.experiments import compare
from uanref.experiments.compare import Settings


class Mine(un.LayerNorm):
    pass


def make(num_features, rng):
    return Mine(num_features)


class Made:
    def __call__(self, num_features, rng):
        return Mine(num_features)


settings = Settings(norms=("ln", make, Made(), lambda c, rng: Mine(c)), model="mlp", epochs=1, seeds=1)
splits = compare.try_out(settings)
found = compare.run(settings, splits, 2)
print(json.dumps([found.failed, [run.test_accuracy for run in found.runs], list(settings.norms)]))
"""


@pytest.mark.parametrize("way", [pytest.param("script", marks=pytest.mark.slow), "stdin"])
def test_functions_of_main_reach_the_processes(tmp_path, way):
    environment = {**os.environ, "PYTHONPATH": str(Path(un.__file__).parents[1])}
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"] if way == "script" else [sys.executable, "-"]
    done = subprocess.run(
        command, input=SCRIPT, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    failed, scores, norms = json.loads(done.stdout)
    assert failed == []
    assert len(set(norms)) == len(norms) == len(scores) == 4
    assert len(set(scores)) == 1, "Mine is layer normalization"


# --- files that change ----------------------------------------------------------------------------


def test_a_file_that_changes_meanwhile_changes_nothing(mine):
    settings = Settings(norms=("mine.py:make",), **TINY | {"seeds": 3})
    digest = settings.factories["mine.py:make"].digest
    splits = compare.try_out(settings)
    mine.write_text(OTHER)  # before a process has read it
    found = compare.run(settings, splits, 2, finished=lambda run: mine.unlink(missing_ok=True))
    assert found.failed == []
    assert [run.test_accuracy for run in found.runs] == layer_norm(3)
    mine.write_text(OTHER)
    again = Settings(norms=("mine.py:make",), **TINY)
    assert again.factories["mine.py:make"].digest != digest
    assert [accuracy for *_, accuracy in accuracies(again, 2)] != layer_norm()


def test_a_package_that_changes_meanwhile_is_said(package):
    settings = Settings(norms=("ln", of(package)), **TINY)
    splits = compare.try_out(settings)
    package.write_text(OTHER + "# longer, which the cache of compiled files sees\n")
    found = compare.run(settings, splits, 2)
    assert [run.test_accuracy for run in found.runs] == layer_norm()  # the other norm's go on
    assert len(found.failed) == 2
    assert all(f"the file of {of(package)} was changed while it was in use" in sentence for sentence in found.failed)
    with pytest.raises(OwnCodeError, match=r"changed after it was imported: import it again \(importlib.reload\)"):
        Settings(norms=(of(package),))
    # This process has what it has imported, under the digest that it had then.
    assert [run.test_accuracy for run in compare.run(settings, splits, 1).runs[2:]] == layer_norm()


def test_a_function_whose_module_changes_is_said(package):
    module = importlib.import_module(of(package).partition(":")[0])
    settings = Settings(norms=(module.make,), **TINY)
    splits = compare.try_out(settings)
    package.write_text(OTHER + "# longer, which the cache of compiled files sees\n")
    found = compare.run(settings, splits, 2)
    assert len(found.failed) == 2
    assert all("was changed while it was in use: start again" in sentence for sentence in found.failed)
    with pytest.raises(OwnCodeError, match="changed after it was imported"):
        Settings(norms=(module.make,))
    package.write_text("def make(")
    found = compare.run(settings, splits, 2)
    assert all("cannot be imported again (SyntaxError: " in sentence for sentence in found.failed), found.failed
    package.write_text(OTHER)
    importlib.reload(module)
    again = Settings(norms=(module.make,), **TINY)
    assert [accuracy for *_, accuracy in accuracies(again, 2)] != layer_norm()


# --- odd names ------------------------------------------------------------------------------------

ODD = ("a b,c", "_hidden", "$x^2$", "[red]r[", "Größe·日本", "100%{0}\\d", "-dash", "a:b", "q'\"&<b>", "tab\there")


@pytest.mark.slow
def test_odd_names_stand_in_tables_pictures_and_files(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a folder, with $ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ODD:
        (folder / f"{name}.py").write_text(GOOD.replace("LayerNorm", "UAN"))  # which the third picture shows
    norms = ",".join(f"./{name}.py:make" for name in ODD)
    assert main([*COMPARE, "--norms", norms, "--seeds", "1", "--jobs", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not [path.name for path in folder.glob("r/*") if path.name.startswith(".")]
    assert {path.name for path in folder.glob("r/*.png")} == {"activations.png", "curves.png", "gradients.png"}
    results = json.loads((folder / "r" / "results.json").read_text("utf-8"))
    labels = [f"{name}.py:make".replace("\t", "\\t") for name in ODD]
    assert list(results["factories"]) == labels == [run["norm"] for run in results["runs"]]
    for label in labels:
        assert label in out, label
    cells = sorted(path.name for path in (folder / "r" / "cells").iterdir())
    assert len(cells) == 3 * len(ODD)  # what was found, activations, the recording
    assert all(set(name.partition(".")[0]) <= set("0123456789abcdef") for name in cells)


def test_one_name_in_folders_of_odd_names(tmp_path):
    norms = []
    for name in ("a b", "a,b", "ä"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(GOOD)
        norms.append(f"{tmp_path}/{name}/mine.py:make")
    assert Settings(norms=tuple(norms)).norms == ("a b/mine.py:make", "a,b/mine.py:make", "ä/mine.py:make")


@pytest.mark.parametrize("name", [slow("$x^2$"), "Größe·日本"])
def test_odd_names_stand_in_the_curves_of_a_training(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(GOOD)
    assert main([*TRAIN, "--norm", f"{name}.py:make", "--epochs", "1", "--save", "a.npz"]) == 0
    assert capsys.readouterr().err == ""
    assert Path("a-curves.png").is_file()
    assert main(["evaluate", "a.npz", "--norm", f"{name}.py:make"]) == 0


# --- failures in the middle -----------------------------------------------------------------------


@pytest.mark.parametrize("failure", every(3, FAILURES))
def test_a_training_whose_norm_fails_is_work_that_failed(mine, capsys, failure):
    mine.write_text(LATE.format(failure=failure))
    assert main([*TRAIN, "--norm", "mine.py:make", "--epochs", "3"]) == 1
    assert capsys.readouterr().err == f"uanref: mine.py:make failed at mine.py:12: {FAILURES[failure]}" + (
        ": 'Late' object has no attribute 'gama'\n" if "gama" in failure else "\n"
    )


def test_a_training_whose_norm_fails_keeps_its_last_epoch(mine, capsys):
    mine.write_text(LATE.format(failure="return [][1]"))
    assert main([*TRAIN, "--norm", "mine.py:make", "--epochs", "3", "--save", "a.npz"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "uanref: mine.py:make failed at mine.py:12: IndexError: list index out of range; epoch 1 is saved in a.npz\n"
    )
    mine.write_text(LATE.format(failure="pass"))
    with pytest.warns(UserWarning, match="another digest"):
        un.load("a.npz", norm="mine.py:make")
    assert not list(mine.parent.glob(".*"))


def test_a_package_that_fails_in_the_middle_is_one_sentence(package, capsys):
    package.write_text(LATE.format(failure="self.gama"))
    (package.parent / "maker.py").write_text("from .own import Late\n\n\ndef make(c, rng):\n    return Late(c)\n")
    name = f"{package.parent.name}.maker:make"
    assert main([*TRAIN, "--norm", name, "--epochs", "3"]) == 1
    assert capsys.readouterr().err.startswith(f"uanref: {name} failed at own.py:12: AttributeError: ")


@pytest.mark.parametrize("jobs", ["1", slow("2")])
@pytest.mark.parametrize("failure", ["return [][1]", slow("sys.exit(0)")])
def test_a_comparison_in_which_a_norm_fails_keeps_the_others(mine, capsys, jobs, failure):
    mine.write_text(LATE.format(failure=failure))
    arguments = [*COMPARE, "--epochs", "2", "--seeds", "1", "--jobs", jobs]
    assert main([*arguments, "--norms", "ln,mine.py:make"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 runs failed: mine.py:make, lr 0.01, seed 0: mine.py:12: " in err
    assert FAILURES[failure] in err
    assert err.count("\n") == 1
    assert "\nln " in out
    results = json.loads(Path("r/results.json").read_text("utf-8"))
    assert [run["norm"] for run in results["runs"]] == ["ln"]
    assert main([*arguments, "--norms", "mine.py:make", "--force"]) == 1
    assert "1 of 1 runs failed: mine.py:make" in capsys.readouterr().err
