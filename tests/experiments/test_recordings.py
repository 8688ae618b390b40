"""Recordings of ``compare`` and ``train``: written beside what they are of, found again, and a loss to nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.idx import write_images

from uanref import files
from uanref.cli import main
from uanref.experiments import cells, recordings
from uanref.experiments.recordings import find
from uanref.experiments.run import Run
from uanref.training import checkpoint, recording
from uanref.training.recorder import Recorder
from uanref.training.recording import RecordingError
from uanref.training.recording_keeping import beside
from uanref.training.trainer import Trainer

TRAIN = ["train", "--dataset", "idx:idx", "--model", "mlp", "--norm", "uan", "--batch-size", "20", "--quiet"]
COMPARE = ["compare", "--dataset", "idx:idx", "--model", "mlp", "--batch-size", "20", "--jobs", "1", "--quiet"]


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    """Few images in the working folder, and no pictures, which would take longer than the trainings."""
    (tmp_path / "idx").mkdir()
    write_images(tmp_path / "idx", 60, 20, (4, 4), 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uanref.experiments.single.Trained.draw", lambda self, path: None)
    monkeypatch.setattr("uanref.experiments.compare_pictures.draw", lambda comparison, folder: ([], []))


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    _out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, err


def contents(path):
    """What a recording says, but for the seconds of its epochs."""
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays}
    found["epochs"][:, 5] = 0.0
    return {name: array.tobytes() for name, array in found.items()}


def stop_in(monkeypatch, epoch):
    """Ctrl-C in the second step of an epoch."""
    plainly, calls = Trainer._train_step, []

    def step(self, x, labels):
        if self.epoch + 1 == epoch:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
        return plainly(self, x, labels)

    monkeypatch.setattr(Trainer, "_train_step", step)


def test_train_records_beside_its_checkpoint(capsys, tmp_path):
    assert run(capsys, *TRAIN, "--epochs", "3", "--save", "net.npz")[0] == 0
    (one,) = find(tmp_path / "net.npz")
    assert one.path.name == "net-replay.npz"
    assert (one.label, one.norm, one.seed, one.lr) == ("uan:0", "uan", 0, 0.01)
    found, history = recording.read(one.path), checkpoint.load_meta("net.npz")["history"]
    assert (found.model, found.stopped) == ("mlp", "")
    assert [epoch.train_loss for epoch in found.epochs] == [epoch["train_loss"] for epoch in history["epochs"]]
    assert found.steps[-1] == 3 * found.steps_per_epoch - 1
    assert find(one.path)[0].path == one.path
    assert [each.path.name for each in find(tmp_path)] == ["net-replay.npz"]


def test_ctrl_c_and_resume_give_the_recording_of_the_straight_run(capsys, monkeypatch):
    run(capsys, *TRAIN, "--epochs", "4", "--save", "whole.npz")
    with monkeypatch.context() as patched:
        stop_in(patched, epoch=3)
        assert run(capsys, *TRAIN, "--epochs", "4", "--save", "net.npz")[0] == 130
    half = recording.read("net-replay.npz")
    assert half.stopped == "interrupted"
    assert half.steps.max() < 2 * half.steps_per_epoch
    code, err = run(capsys, "train", "--resume", "net.npz", "--epochs", "4", "--save", "net.npz", "--quiet")
    assert (code, err) == (0, "")
    assert contents("net-replay.npz") == contents("whole-replay.npz")


@pytest.mark.parametrize("what", ["missing", "damaged", "another"])
def test_resume_without_a_usable_recording_starts_one_and_says_so(capsys, what):
    run(capsys, *TRAIN, "--epochs", "2", "--save", "net.npz", "--schedule", "constant")
    path = beside(Path("net.npz"))
    if what == "missing":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        run(capsys, *TRAIN, "--epochs", "2", "--save", "other.npz", "--schedule", "constant", "--seed", "1")
        shutil.copy("other-replay.npz", path)
    code, err = run(capsys, "train", "--resume", "net.npz", "--epochs", "4", "--save", "net.npz", "--quiet")
    assert code == 0
    assert "net-replay.npz" in err
    assert "the recording begins with epoch 3" in err
    found = recording.read(path)
    assert found.steps.min() >= 2 * found.steps_per_epoch
    assert len(found.epochs) == 4


def test_a_recording_that_cannot_be_written_costs_nothing_else(capsys):
    Path("net-replay.npz").mkdir()
    code, err = run(capsys, *TRAIN, "--epochs", "2", "--save", "net.npz")
    assert code == 0
    assert err.count("net-replay.npz cannot be written") == 1
    assert checkpoint.load_meta("net.npz")["epoch"] == 2


def test_a_recorder_that_fails_costs_nothing_else(capsys, monkeypatch):
    def failing(self, *arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Recorder, "recording", failing)
    code, err = run(capsys, *TRAIN, "--epochs", "2", "--save", "net.npz")
    assert code == 0
    assert "nothing is recorded" in err
    assert run(capsys, *COMPARE, "--norms", "bn", "--seeds", "1", "--epochs", "1", "--out", "out")[0] == 0
    with pytest.raises(RecordingError, match="holds no recordings"):
        find(Path("out"))


def test_compare_records_every_run(capsys, tmp_path):
    options = ["--norms", "uan,bn", "--seeds", "2", "--epochs", "2", "--out", "out"]
    assert run(capsys, *COMPARE, *options) == (0, "")
    found = find(tmp_path / "out")
    assert [one.label for one in found] == ["bn:0", "bn:1", "uan:0", "uan:1"]  # as NORMS has them
    assert find(tmp_path / "out" / "cells") == found
    for one in found:
        cell = cells.read(one.path.with_name(one.path.name.replace(cells.RECORDING, ".json")))
        assert (cell.config["norm"], cell.config["seed"], cell.config["lr"]) == (one.norm, one.seed, one.lr)
        read = recording.read(one.path)
        assert [epoch.train_loss for epoch in read.epochs] == [
            epoch["train_loss"] for epoch in cell.result["history"]["epochs"]
        ]
    assert run(capsys, *COMPARE, *options, "--force", "--jobs", "2")[0] == 0  # from other processes the same
    again = find(tmp_path / "out")
    assert [one.path for one in again] == [one.path for one in found]
    assert run(capsys, *COMPARE, "--norms", "bn", "--seeds", "1", "--epochs", "1", "--out", "out", "--force")[0] == 0
    assert [one.label for one in find(tmp_path / "out")] == ["bn:0"]  # --force removed the others


def test_an_unfinished_comparison_keeps_what_it_recorded(capsys, monkeypatch, tmp_path):
    options = [*COMPARE, "--norms", "bn", "--seeds", "2", "--epochs", "2", "--out", "out"]
    assert run(capsys, *options)[0] == 0
    first, second = (one.path for one in find(tmp_path / "out"))
    before = first.stat().st_mtime_ns, contents(second)
    second.with_name(second.name.replace(cells.RECORDING, ".json")).unlink()  # as after a kill in between
    second.unlink()
    (tmp_path / "out" / "results.json").unlink()
    assert run(capsys, *options)[0] == 0
    assert (first.stat().st_mtime_ns, contents(second)) == before


def test_a_full_disk_for_recordings_is_told_and_costs_no_cell(capsys, monkeypatch, tmp_path):
    plainly = files.write_bytes

    def full(path, content):
        if str(path).endswith(cells.RECORDING):
            raise OSError(28, "No space left on device", str(path))
        plainly(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    code, err = run(capsys, *COMPARE, "--norms", "bn", "--seeds", "1", "--epochs", "1", "--out", "out")
    assert code == 0
    assert "No space left on device): there is no replay of that run" in " ".join(err.split())
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2  # the cell, and its activations


def test_labels_tell_rates_and_files_apart(capsys, tmp_path):
    run(capsys, *COMPARE, "--norms", "bn", "--seeds", "1", "--epochs", "1", "--lr", "0.1,0.01", "--out", "out")
    assert [one.label for one in find(tmp_path / "out")] == ["bn:0:0.01", "bn:0:0.1"]
    for name in ("a", "b"):
        run(capsys, *TRAIN, "--epochs", "1", "--save", f"{name}.npz")
    assert [one.label for one in find(tmp_path)] == ["uan:0:a-replay", "uan:0:b-replay"]


def test_what_holds_no_recording_is_refused_in_a_sentence(capsys, tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere does not exist: name a folder"):
        find(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match=r"holds no recordings: name a folder"):
        find(tmp_path)
    run(capsys, *TRAIN, "--epochs", "1", "--save", "net.npz")
    (tmp_path / "net-replay.npz").unlink()
    with pytest.raises(RecordingError, match=r"net\.npz is no recording, and there is no net-replay\.npz beside it"):
        find(tmp_path / "net.npz")
    run(capsys, *TRAIN, "--epochs", "1", "--save", "other.npz")
    with pytest.raises(RecordingError, match=r"net\.npz is no recording, .* holds some, name that"):
        find(tmp_path / "net.npz")


def test_files_of_a_comparison_lead_to_its_recordings(capsys, tmp_path):
    run(capsys, *COMPARE, "--norms", "bn", "--seeds", "1", "--epochs", "1", "--out", "out")
    (one,) = find(tmp_path / "out")
    assert [each.path for each in find(one.path.with_name(one.path.name.replace(".replay.npz", ".json")))] == [one.path]
    with pytest.raises(RecordingError, match=r"results\.json is no recording, .*out holds some, name that"):
        find(tmp_path / "out" / "results.json")
    with pytest.raises(RecordingError, match=r"no recordings: .*the first recording comes with its first finished run"):
        find(tmp_path / "idx")


def test_damaged_recordings_are_told_where_others_are_left(capsys, tmp_path):
    run(capsys, *TRAIN, "--epochs", "1", "--save", "net.npz")
    (tmp_path / "bad-replay.npz").write_bytes(b"PK no archive")
    told = []
    assert [one.label for one in find(tmp_path, told.append)] == ["uan:0"]
    assert len(told) == 1
    assert "bad-replay.npz is not a recording" in told[0]
    (tmp_path / "net-replay.npz").unlink()
    with pytest.raises(RecordingError, match=r"bad-replay\.npz is not a recording"):
        recordings.find(tmp_path)


def test_a_run_is_compared_without_its_recording():
    assert "recording" not in repr(Run("bn", 0.1, 0, 0.5, 3, None, {}, recording=b"x"))


def test_what_compare_did_not_record_is_told_at_its_end(capsys, monkeypatch):
    def failing(self, *arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Recorder, "recording", failing)
    options = ["--norms", "bn", "--seeds", "2", "--epochs", "1"]
    code, err = run(capsys, *COMPARE, *options, "--out", "out")
    assert code == 0
    told = " ".join(err.split())
    assert "bn, lr 0.01, seed 0: nothing is recorded (MemoryError" in told
    assert "; 1 more likewise" in told


def test_a_checkpoint_under_a_recordings_name_stays(capsys):
    run(capsys, *TRAIN, "--epochs", "1", "--save", "net-replay.npz")
    before = Path("net-replay.npz").read_bytes()
    code, err = run(capsys, *TRAIN, "--epochs", "2", "--save", "net.npz")
    assert code == 0
    assert err.count("net-replay.npz is a checkpoint and stays: there is no replay of this training") == 1
    assert Path("net-replay.npz").read_bytes() == before


def test_the_recording_of_an_earlier_training_does_not_pass_for_that_of_a_new_one(capsys, monkeypatch):
    run(capsys, *TRAIN, "--epochs", "1", "--save", "net.npz")
    monkeypatch.setattr(Recorder, "recording", lambda self, *arguments, **options: None)
    assert run(capsys, *TRAIN, "--epochs", "2", "--save", "net.npz", "--seed", "1")[0] == 0
    assert not Path("net-replay.npz").exists()


def test_a_recording_that_goes_on_survives_a_full_disk(capsys, monkeypatch):
    run(capsys, *TRAIN, "--epochs", "1", "--save", "net.npz", "--schedule", "constant")
    before = Path("net-replay.npz").read_bytes()

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_bytes", full)
    code, err = run(capsys, "train", "--resume", "net.npz", "--epochs", "2", "--save", "net.npz", "--quiet")
    assert code == 0
    assert "net-replay.npz cannot be written (No space left on device)" in " ".join(err.split())
    assert Path("net-replay.npz").read_bytes() == before
