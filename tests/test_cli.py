"""The command line: what it prints, writes and answers to bad input."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import numpy as np
import pytest
import typer
from matplotlib.image import imread
from support.idx import write_images

from uanref import __version__, backend, data, machine
from uanref.cli import main
from uanref.cli.app import app
from uanref.experiments import compare_report
from uanref.experiments.compare import Comparison, Settings, train_one
from uanref.layers.activation import Tanh
from uanref.plots import DPI
from uanref.verify import check

TINY = ["--model", "mlp", "--epochs", "1", "--seeds", "1", "--jobs", "1"]
PICTURES = ("curves.png", "activations.png", "gradients.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One small comparison that several tests look at."""
    folder = tmp_path_factory.mktemp("compare") / "new" / "results"
    assert main(["compare", *TINY, "--norms", "bn,uan", "--epochs", "2", "--quiet", "--out", str(folder)]) == 0
    return folder


def assert_refused(capsys, arguments, *words, code=2):
    """Exit code 2 and one line on standard error that holds all ``words``; nothing on standard output."""
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    for word in words:
        assert str(word) in err, err


# --- compare --------------------------------------------------------------------------------------


def test_compare_writes_what_it_promises(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted([*PICTURES, "cells", "results.json"])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert set(results) == {"command", "versions", "runs"}
    assert results["command"].startswith("uanref compare --model mlp")
    assert results["versions"]["uanref"] == __version__
    assert results["versions"]["numpy"] == np.__version__
    assert [(run["norm"], run["seed"], run["lr"]) for run in results["runs"]] == [("bn", 0, 0.01), ("uan", 0, 0.01)]
    for run in results["runs"]:
        assert set(run) == {"norm", "seed", "lr", "test_accuracy", "seconds_per_epoch", "parameters", "history"}
        assert 0.3 < run["test_accuracy"] <= 1  # two epochs on digits
        assert run["seconds_per_epoch"] > 0
        assert len(run["history"]["epochs"]) == 2
        assert {"train_loss", "validation_accuracy", "epoch"} <= set(run["history"]["epochs"][0])
    bn, uan = (run["parameters"] for run in results["runs"])
    # K = 3 components with mean, variance and prior on 128 + 64 channels.
    assert uan - bn == 3 * 3 * (128 + 64)


@pytest.mark.parametrize("name", PICTURES)
def test_compare_pictures_decode(folder, name):
    height, width, channels = imread(folder / name).shape
    assert channels == 4
    assert 5 * DPI <= width <= 14 * DPI
    assert 3 * DPI <= height <= 14 * DPI
    assert imread(folder / name)[..., :3].std() > 0.01  # not blank


def test_compare_prints_a_table_that_fits(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    arguments = ["compare", *TINY, "--norms", "none,bn", "--lr", "0.01,0.001", "--out", str(tmp_path / "r")]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    table, written = out.split("Written to ")
    assert all(len(line) <= 80 for line in table.splitlines())
    for text in (
        "norm",
        "test accuracy (%)",
        "epochs to 95 %",
        "s/epoch",
        "parameters",
        "none",
        "bn",
        "0.01",
        "0.001",
        "to train on",
    ):
        assert text in table
    assert "results.json" in written
    # What will be done, and a line per finished run where there is no terminal.
    plan, first, *rest = err.splitlines()
    assert re.fullmatch(
        rf"4 runs \(2 norms x 2 learning rates\) of 1 epochs, 1 at a time, into {tmp_path / 'r'}: about \d+ s", plan
    )
    assert re.fullmatch(r"1 of 4 runs: none, lr 0.01, seed 0: [\d.]+ % in [\d.]+ s; about \d+ s left", first)
    assert len(rest) == 3
    assert "left" not in rest[-1]


def test_compare_quiet_has_no_progress(tmp_path, capsys):
    assert main(["compare", *TINY, "--norms", "none", "--quiet", "--out", str(tmp_path / "r")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "none" in out


def test_compare_keeps_older_results_unless_forced(folder, capsys):
    before = (folder / "results.json").read_bytes()
    arguments = ["compare", *TINY, "--norms", "bn", "--quiet", "--out", str(folder)]
    assert_refused(capsys, arguments, "already holds results.json", "--force")
    assert (folder / "results.json").read_bytes() == before


def test_compare_force_overwrites(tmp_path):
    arguments = ["compare", *TINY, "--norms", "bn", "--quiet", "--out", str(tmp_path)]
    (tmp_path / "results.json").write_text("old", encoding="utf-8")
    assert main([*arguments, "--force"]) == 0
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"][0]["norm"] == "bn"


def test_divergence_is_a_result_and_an_exit_code(tmp_path, capsys):
    arguments = ["compare", *TINY, "--norms", "none", "--optimizer", "sgd", "--lr", "1e30", "--out", str(tmp_path)]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "1 of 1 diverged" in " ".join(out.split())
    assert "every run diverged" in err
    (run,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["runs"]
    assert run["test_accuracy"] is None
    assert "non-finite" in run["history"]["stopped"]


BAD_NUMBERS = [
    (option, value)
    for option, values in {
        "--seeds": ("0", "-1", "1.5", "nan", "many", ""),
        "--epochs": ("0", "-3", "inf"),
        "--components": ("0", "-1", "x"),
        "--batch-size": ("0", "-64", "1e3"),
        "--jobs": ("0", "-1", "two"),
        "--lr": ("0", "-0.1", "nan", "inf", "0.1,nan", "0.1,,0.2", "", ",", "fast"),
        "--norms": ("", ",", "bn,,uan"),
    }.items()
    for value in values
]


@pytest.mark.parametrize(("option", "value"), BAD_NUMBERS)
def test_compare_refuses_bad_numbers_and_lists(option, value, tmp_path, capsys):
    out = tmp_path / "results"
    assert_refused(capsys, ["compare", *TINY, "--out", out, option, value], option, "expected", "got")
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--norms", "bn,layernorm", ["layernorm", "uan-learned"]),
        ("--norms", "bn,uan,bn", ["norms", "bn", "twice"]),
        ("--lr", "0.1,0.01,0.10", ["learning rates", "0.1", "twice"]),
        ("--dataset", "mnist", ["mnist", "digits", "fashion-small"]),
        ("--dataset", "idx:/nowhere/at-all", ["/nowhere/at-all"]),
        ("--model", "transformer", ["transformer", "mlp", "cnn"]),
        ("--optimizer", "lion", ["lion", "adamw"]),
        ("--backend", "jax", ["jax", "numpy", "cupy"]),
        ("--batch-size", "1", ["BatchNorm"]),
        ("--components", "10000000000000", []),
        ("--unknown", "1", ["--unknown"]),
    ],
)
def test_compare_refuses_bad_names(option, value, words, tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    assert_refused(capsys, ["compare", *TINY, "--norms", "bn,uan", "--out", out, option, value], *words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "idx"
    folder.mkdir()
    write_images(folder, 60, 20, (8, 8), 4)
    for part in ("train", "t10k"):
        plain = folder / f"{part}-labels-idx1-ubyte"
        plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return folder


def test_compare_trains_on_idx_files(idx_folder, tmp_path, capsys):
    idx_folder = idx_folder.rename(tmp_path / "a [bold] name")  # must not be read as markup
    arguments = ["compare", *TINY, "--dataset", f"idx:{idx_folder}", "--norms", "uan", "--out", tmp_path / "r"]
    assert main([str(argument) for argument in arguments]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "54 images to train on, 6 to validate, 20 to test" in out
    assert "[bold]" in out


@pytest.mark.parametrize("spoil", ["truncate", "garbage", "missing"])
def test_compare_refuses_spoiled_idx_files(spoil, idx_folder, tmp_path, capsys):
    victim = idx_folder / "train-images-idx3-ubyte"
    if spoil == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-7] if spoil == "truncate" else b"no such thing")
    arguments = ["compare", *TINY, "--dataset", f"idx:{idx_folder}", "--out", tmp_path / "r"]
    assert_refused(capsys, arguments, "train-images-idx3-ubyte")
    assert not (tmp_path / "r").exists()


def test_compare_refuses_an_out_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert_refused(capsys, ["compare", *TINY, "--out", tmp_path / "file"], "--out", "is a file")
    assert_refused(capsys, ["compare", *TINY, "--out", tmp_path / "file" / "below"], "--out")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write")
def test_compare_refuses_an_unwritable_out(capsys):
    assert_refused(capsys, ["compare", *TINY, "--out", "/proc/self/results"], "--out", "/proc/self/results")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write")
def test_compare_tells_what_to_do_where_runs_cannot_be_created(capsys, monkeypatch):
    monkeypatch.chdir("/proc/self")
    assert_refused(capsys, ["compare", *TINY], "--out runs/compare-", "cannot be written", "name another place")


@pytest.mark.parametrize("command", ["compare --out", "train --save", "train --resume", "bench --json", "evaluate"])
def test_names_of_files_may_not_be_empty(command, capsys):
    named = {"evaluate": "CHECKPOINT"}.get(command, command.split()[-1])
    assert_refused(capsys, [*command.split(), ""], named, "expected a name, got ''")


def test_tables_of_numbers_are_not_cut_on_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["compare", *TINY, "--norms", "none", "--quiet", "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "test accuracy (%)" in out
    assert main(["info"]) == 0
    assert all(len(line) <= 40 for line in capsys.readouterr().out.splitlines())


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"], ["check", "--only", "ReLU"]])
def test_a_reader_that_goes_away_gets_no_traceback(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        command = [sys.executable, "-m", "uanref", *arguments]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_is_one_sentence():
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "uanref", "info"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "uanref: No space left on device\n"


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("command", [["compare"], ["train"], ["check"], ["bench"]])
def test_cupy_without_a_gpu_is_one_sentence(command, capsys):
    usable, reason = backend.available("cupy")
    assert not usable
    assert_refused(capsys, [*command, "--backend", "cupy"], " ".join(reason.split()))


@pytest.mark.parametrize("command", [["check"], ["bench"], ["train"]])
def test_an_unknown_backend_is_one_sentence(command, capsys):
    assert_refused(capsys, [*command, "--backend", "jax"], "unknown backend 'jax'", "numpy, cupy")


@pytest.mark.parametrize("kind", ["CompileException", "JitifyException"])
def test_what_cupy_raises_of_its_own_is_one_sentence(kind, monkeypatch, capsys):
    def fail(**options):
        raise type(kind, (Exception,), {"__module__": "cupy.cuda.compiler"})("error:\n" + "x" * 1000)

    monkeypatch.setattr(check, "run", fail)
    assert_refused(capsys, ["check"], "CuPy failed (error: xxx", "uanref info")


def test_other_exceptions_are_not_hidden(monkeypatch):
    def fail(**options):
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr(check, "run", fail)
    with pytest.raises(AssertionError, match="a mistake of ours"):
        main(["check"])


def test_on_a_gpu_all_runs_share_one_process(tmp_path, monkeypatch, capsys):
    """The host in the place of the GPU: what is tested is how many processes start and what is said and kept."""
    used = []

    def unordered(function, tasks, jobs):
        used.append(jobs)
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "available", lambda name: (True, "pretended"))
    monkeypatch.setattr(backend, "module", lambda name: np)
    monkeypatch.setattr("uanref.experiments.parallel.unordered", unordered)
    arguments = ["compare", "--model", "mlp", "--norms", "none", "--seeds", "4", "--out", str(tmp_path / "r")]
    monkeypatch.setattr("uanref.experiments.compare.try_out", lambda settings: data.load("digits"))
    assert main([*arguments, "--backend", "cupy", "--jobs", "3"]) == 130  # nothing ran
    assert "all runs share the GPU in one process: --jobs 3 is not used" in capsys.readouterr().err
    assert main([*arguments, "--backend", "cupy"]) == 130
    assert "--jobs" not in capsys.readouterr().err
    assert main([*arguments, "--jobs", "3"]) == 130
    assert used == [1, 1, 3]


def test_results_name_the_gpu(monkeypatch):
    comparison = Comparison(Settings(model="mlp", norms=("none",), epochs=1, seeds=1), "split")
    comparison.runs.append(train_one(comparison.settings, "none", 0.01, 0))
    object.__setattr__(comparison.settings, "backend", "cupy")
    monkeypatch.setattr(machine, "device", lambda: {"GPU": "a card"})
    assert compare_report.results(comparison, "uanref compare")["device"] == {"GPU": "a card"}


def test_a_full_disk_while_drawing_costs_the_pictures_alone(tmp_path, capsys, monkeypatch):
    def fail(self, target, **kwargs):
        if not isinstance(target, io.BytesIO):  # the attempt in memory
            raise OSError(28, "No space left on device", "results")

    monkeypatch.setattr("uanref.plots.FigureCanvasAgg.print_figure", fail)
    out = tmp_path / "results"
    assert main(["compare", *TINY, "--norms", "bn", "--quiet", "--out", str(out)]) == 1
    printed, err = capsys.readouterr()
    assert "test accuracy" in printed
    assert err.count("No space left on device") == 3
    assert err.count("\n") == 1
    assert sorted(path.name for path in out.iterdir()) == ["cells", "results.json"]


# --- interruption ---------------------------------------------------------------------------------


def _start(arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "uanref", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, to be interrupted as a terminal would
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_keeps_what_was_finished(jobs, tmp_path):
    # Seed 0 of "none" finishes in a moment; the many others would take minutes.
    arguments = ["compare", "--model", "mlp", "--epochs", "3", "--seeds", "400", "--jobs", jobs, "--out", "r"]
    process = _start(arguments, tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("1600 runs (4 norms x 400 seeds) of 3 epochs")
    first = process.stderr.readline()
    assert "1 of 1600 runs" in first, first
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(r"interrupted: \d+ of 1600 runs finished", err)
    results = json.loads((tmp_path / "r" / "results.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"interrupted: \d+ of 1600 runs finished", results["note"])
    assert 1 <= len(results["runs"]) < 1600
    assert results["note"].split()[1] == str(len(results["runs"]))
    assert "none" in out
    assert {path.name for path in (tmp_path / "r").iterdir()} <= {*PICTURES, "cells", "results.json"}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_before_anything_finished_leaves_nothing(jobs, tmp_path):
    process = _start(["compare", "--epochs", "100000", "--jobs", jobs, "--out", "runs/r"], tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs" / "r").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "nothing was written" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_training_saves_what_it_has(tmp_path):
    arguments = ["train", "--model", "mlp", "--norm", "bn", "--epochs", "100000", "--save", "x.npz"]
    process = _start(arguments, tmp_path)
    assert process.stderr is not None
    assert "epoch 1/100000" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "is saved" in err
    assert "(interrupted)" in out
    assert main(["evaluate", str(tmp_path / "x.npz")]) == 0


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupt)
    assert_refused(capsys, ["check"], "uanref: interrupted", code=130)


# --- the other commands ---------------------------------------------------------------------------

TRAIN = ["train", "--model", "mlp", "--norm", "bn", "--quiet"]


def test_train_save_evaluate_resume(tmp_path, capsys):
    path = tmp_path / "bn.npz"
    assert main([*TRAIN, "--epochs", "2", "--schedule", "constant", "--save", str(path)]) == 0
    trained = capsys.readouterr().out
    score = re.search(r"test\s+(accuracy [\d.]+ %)", trained)
    assert score is not None, trained

    assert main(["evaluate", str(path)]) == 0
    assert score.group(1) in capsys.readouterr().out

    more = tmp_path / "more.npz"
    assert main(["train", "--resume", str(path), "--epochs", "3", "--save", str(more), "--quiet"]) == 0
    resumed = capsys.readouterr().out
    whole = tmp_path / "whole.npz"
    assert main([*TRAIN, "--epochs", "3", "--schedule", "constant", "--save", str(whole)]) == 0
    straight = capsys.readouterr().out

    def scores(text):
        return re.findall(r"accuracy [\d.]+ %, loss [\d.]+", text)

    assert len(scores(resumed)) == 3
    assert scores(resumed) == scores(straight)


def test_train_prints_lines_where_there_is_no_terminal(capsys):
    assert main(["train", "--model", "mlp", "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 2
    assert "parameters" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--norm", "nope"], ["nope", "uan-learned"]),
        (["--model", "nope"], ["nope", "mlp"]),
        (["--schedule", "nope"], ["nope", "cosine"]),
        (["--optimizer", "nope"], ["nope", "adamw"]),
        (["--dataset", "nope"], ["nope", "digits"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--lr", "0"], ["--lr", "> 0"]),
        (["--epochs", "0"], ["--epochs"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--components", "0"], ["--components"]),
        (["--components", "9" * 20], ["--components", "<= 1000"]),
        (["--epochs", "9" * 20], ["--epochs", "<= 1000000"]),
        (["--batch-size", "9" * 20], ["--batch-size", "<= 1000000"]),
        (["--seed", "-1"], ["--seed", ">= 0"]),
        (["--save", "/nowhere/at/all.npz"], ["--save", "/nowhere/at"]),
        (["--save", "."], ["--save", "folder"]),
        (["--resume", "/nowhere/at/all.npz"], ["/nowhere/at/all.npz"]),
        (["--resume", "x.npz", "--norm", "bn", "--batch-size", "8"], ["--norm, --batch-size", "checkpoint"]),
    ],
)
def test_train_refuses(arguments, words, capsys):
    assert_refused(capsys, ["train", "--quiet", *arguments], *words)


def test_only_plain_files_are_written_and_read(tmp_path, capsys):
    """A rename would replace a link or a device, and a pipe would be read for ever."""
    target, link, pipe = tmp_path / "kept.npz", tmp_path / "link.npz", tmp_path / "pipe"
    target.write_bytes(b"kept")
    link.symlink_to(target)
    os.mkfifo(pipe)
    for path in (link, pipe):
        assert_refused(capsys, ["train", "--quiet", "--save", path], "not a plain file")
    assert_refused(capsys, ["evaluate", pipe], "no plain file")
    assert target.read_bytes() == b"kept"
    assert link.is_symlink()


def test_train_divergence_is_exit_code_1(tmp_path, capsys):
    arguments = ["train", "--model", "mlp", "--norm", "none", "--optimizer", "sgd", "--lr", "1e30", "--quiet"]
    assert_refused(capsys, [*arguments, "--save", tmp_path / "x.npz"], "non-finite", code=1)
    assert list(tmp_path.iterdir()) == []


def test_resume_refuses_epochs_that_are_done(tmp_path, capsys):
    path = tmp_path / "bn.npz"
    assert main([*TRAIN, "--epochs", "1", "--save", str(path)]) == 0
    capsys.readouterr()
    assert_refused(capsys, ["train", "--resume", path, "--epochs", "1"], "1 epochs behind it", "--epochs")
    assert_refused(capsys, ["train", "--resume", path, "--epochs", "2"], "learning rate falls to 0 at epoch 1")


def test_evaluate_refuses(tmp_path, capsys):
    assert_refused(capsys, ["evaluate", tmp_path / "none.npz"], "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    assert_refused(capsys, ["evaluate", tmp_path / "bad.npz"], "bad.npz")
    path = tmp_path / "bn.npz"
    assert main([*TRAIN, "--epochs", "1", "--save", str(path)]) == 0
    capsys.readouterr()
    assert_refused(capsys, ["evaluate", path, "--dataset", "fashion-small"], "(1, 8, 8)", "(1, 28, 28)")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"uanref {__version__}\n"


def test_info_names_versions_and_backends(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for text in (__version__, np.__version__, "scipy", "matplotlib", "backend numpy", "backend cupy", "cores"):
        assert text in out
    assert "OMP_NUM_THREADS=1" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def numbers():
    """Return every option of every command that takes a number, with what its command needs besides."""
    needed = {"step": ["bn"], "explore": ["bn"], "evaluate": ["net.npz"], "vectors": ["--out", "v"]}
    commands = typer.main.get_command(app).commands
    return [
        ([name, *needed.get(name, [])], parameter.opts[0], parameter.metavar)
        for name, command in commands.items()
        for parameter in command.params
        if parameter.metavar in ("N", "K", "RATE")
    ]


def test_every_number_is_found():
    found = {(command[0], option) for command, option, _ in numbers()}
    assert {("train", "--epochs"), ("train", "--lr"), ("compare", "--jobs"), ("step", "--seed")} <= found
    for command in app.registered_commands:
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
            kind, *about = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else [hint]
            if {int, float} & {kind, *typing.get_args(kind)}:  # Typer's own parsers know no range
                assert about, (command, name)
                assert about[0].parser is not None, (command, name)


@pytest.mark.parametrize(("command", "option", "kind"), numbers())
def test_every_number_has_a_range(command, option, kind, capsys):
    wrong = ["-1", "x", "", "1e3", "nan", "9" * 5000, "1" + "0" * 20] if kind != "RATE" else ["-1", "0", "nan", "1e999"]
    for text in wrong:
        assert_refused(capsys, [*command, f"{option}={text}"], option, "expected a")
    if kind != "RATE":
        assert main([*command, f"{option}={'9' * 5000}"]) == 2
        err = capsys.readouterr().err
        assert "expected a whole number <=" in err
        assert len(err) < 300


@pytest.mark.parametrize("arguments", [["nonsense"], ["compare", "surplus"], ["evaluate"]])
def test_usage_errors_are_one_sentence(arguments, capsys):
    assert_refused(capsys, arguments)


@pytest.mark.parametrize(
    "command", [[], ["compare"], ["train"], ["evaluate"], ["check"], ["bench"], ["info"], ["vectors"]]
)
def test_help(command, capsys):
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: uanref" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "..." not in out.split("Commands:")[-1].replace("A,B,...", "")  # no sentence is cut


def test_no_command_shows_the_help(capsys):
    assert main([]) in (0, 2)  # which one is a choice of Click that changed
    assert "compare" in "".join(capsys.readouterr())


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("UANREF_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown data set"):
        main(["train", "--dataset", "nope"])


HEAVY = (
    *("scipy", "matplotlib", "cloudpickle", "cupy", "rich", "threadpoolctl", "torch", "sklearn"),
    *("zipfile", "concurrent.futures", "importlib.resources", "importlib.metadata", "email", "unittest", "asyncio"),
)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("uanref", (*HEAVY, "typer", "subprocess", "uanref.gradcheck")),
        ("uanref.cli", (*HEAVY, "uanref.gradcheck")),
        ("numpy", HEAVY),
    ],
)
def test_importing_loads_nothing_heavy(module, heavy):
    """NumPy itself is in the list to show that what it brings along is none of these."""
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_imported_late_is_there():
    code = "import uanref; print(uanref.gradcheck.check_layer.__module__, 'gradcheck' in uanref.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "uanref.gradcheck.contract True\n"
    with pytest.raises(AttributeError, match="'uanref' has no attribute 'nothing'"):
        importlib.import_module("uanref").nothing  # noqa: B018


def test_output_survives_a_terminal_without_unicode(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = ["compare", *TINY, "--seeds", "2", "--norms", "none", "--out", str(tmp_path / "r")]
    done = subprocess.run([sys.executable, "-m", "uanref", *command], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"none" in done.stdout


def test_check_passes_its_options_on(monkeypatch, capsys):
    asked = {}

    def run(**options):
        asked.update(options)
        return [check.CheckRow("Linear", {"fast": 1e-10}, 3, 0, True, "not shown")]

    monkeypatch.setattr(check, "run", run)
    assert main(["check", "--only", "linear", "--seed", "3", "--versions", "fast, definition"]) == 0
    out, err = capsys.readouterr()
    assert "1 checked, all passed" in out
    assert "not shown" not in out
    assert err == ""
    assert asked == {"seed": 3, "only": "linear", "versions": ("fast", "definition")}
    assert main(["check"]) == 0
    assert asked["versions"] == (("definition",) if backend.is_plain() else ("definition", "fast"))


@pytest.mark.parametrize("command", ["check", "bench"])
@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ("fused", ["unknown version 'fused'", "definition,fast"]),
        ("fast,", ["--versions", "single commas"]),
        ("", ["--versions", "got ''"]),
    ],
)
def test_versions_that_are_none(command, versions, words, capsys):
    assert_refused(capsys, [command, "--versions", versions], *words)


def test_check_shows_the_details_of_what_failed(monkeypatch, capsys):
    class Wrong(Tanh):
        def backward(self, dy):
            return super().backward(dy) * (1 + 1e-5)

    class Breaks(Tanh):
        def forward(self, x):
            raise ZeroDivisionError("planted [bold]mistake[/bold]")

    layers = {"Right": Tanh, "Wrong": Wrong, "Breaks": Breaks}
    cases = [check.Case(name, make, (3, 4), True) for name, make in layers.items()]
    monkeypatch.setattr(check, "cases", lambda: cases)
    assert main(["check"]) == 1
    out, err = capsys.readouterr()
    table, details = out.split("3 checked, 2 failed")
    assert all(name in table for name in layers)
    assert "Right:" not in details
    (wrong,) = check.run(only="wrong")
    assert wrong.details in details
    assert "FAIL x" in details
    assert "Breaks, definition: ZeroDivisionError: planted [bold]mistake[/bold]" in details
    assert err == "uanref: 2 of 3 checks failed\n"


def test_bench_on_a_device_takes_no_peer(monkeypatch, capsys):
    monkeypatch.setattr(backend, "require", lambda name: None)
    assert_refused(
        capsys,
        ["bench", "--backend", "cupy", "--against", "torch", "--sweep"],
        "--backend cupy measures no peer and no host",
        "leave out --against, --sweep",
    )
    assert_refused(capsys, ["bench", "--repeats", "0"], "--repeats", ">= 1")
