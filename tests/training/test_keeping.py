"""The file of a run: at every epoch's end, and never less than it held."""

from __future__ import annotations

import errno
import gc
import os
import sys
import zipfile

import numpy as np
import pytest

from uanref import models
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import SGD
from uanref.training import archive, checkpoint
from uanref.training.keeping import Keeper
from uanref.training.trainer import Trainer


def make_trainer():
    rng = np.random.default_rng(0)
    few = Dataset("few", rng.standard_normal((10, 1, 2, 2)).astype(np.float32), np.arange(10) % 2, 2)
    model = models.build("mlp", "bn", image_shape=(1, 2, 2), num_classes=2)
    splits = Splits("few", 2, (1, 2, 2), few, few, few)
    return Trainer(model, SoftmaxCrossEntropy(), SGD(model.parameters(), 0.1), splits, progress="none")


def run(path, epochs, *, tell=lambda sentence: None, stop_in=None):
    """Train, with Ctrl-C in epoch ``stop_in``, and return the keeper and the trainer."""
    trainer = make_trainer()
    keeper = Keeper(path, trainer, tell)
    step = trainer._train_step

    def stopping(x, labels):
        if trainer.epoch + 1 == stop_in:
            raise KeyboardInterrupt
        return step(x, labels)

    trainer._train_step = stopping
    trainer.fit(epochs, after_epoch=keeper.keep)
    keeper.finish(trainer)
    return keeper, trainer


def epoch_of(path):
    return checkpoint.load_meta(path)["epoch"]


def test_every_epoch_ends_with_a_checkpoint(tmp_path):
    path = tmp_path / "a.npz"
    trainer, seen = make_trainer(), []
    keeper = Keeper(path, trainer)
    trainer.fit(3, after_epoch=lambda t: (keeper.keep(t), seen.append(epoch_of(path))))
    assert seen == [1, 2, 3]
    assert keeper.place == path
    assert keeper.told() == f"epoch 3 is saved in {path}"


def test_before_the_first_epoch_ends_there_is_nothing_to_save(tmp_path):
    keeper, _ = run(tmp_path / "a.npz", 3, stop_in=1)
    assert list(tmp_path.iterdir()) == []
    assert keeper.told() == "nothing was saved"


@pytest.mark.parametrize("stop_in", [1, 2, 3, 4])
def test_an_interrupted_run_never_takes_the_place_of_more(tmp_path, stop_in):
    path, told = tmp_path / "a.npz", []
    run(path, 3)
    before = path.read_bytes()
    keeper, trainer = run(path, 5, tell=told.append, stop_in=stop_in)
    assert len(told) == 1
    assert "a.npz holds 3 epochs of an earlier training" in told[0]
    done = stop_in - 1
    if done < 3:
        assert path.read_bytes() == before
    if done == 0:
        assert keeper.told() == f"nothing was saved, {path} is as it was"
        assert list(tmp_path.iterdir()) == [path]
    else:
        assert keeper.place == (path if done == 3 else tmp_path / "a.1.npz")
        assert epoch_of(keeper.place) == trainer.epoch == done
        assert len(list(tmp_path.iterdir())) == (1 if done == 3 else 2)


def test_a_run_that_is_done_takes_its_place(tmp_path):
    path = tmp_path / "a.npz"
    run(path, 3)
    keeper, _ = run(path, 2)
    assert epoch_of(path) == 2
    assert keeper.place == path
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_beside_it_stays_too(tmp_path):
    path = tmp_path / "a.npz"
    run(path, 4)
    run(path, 5, stop_in=3)
    run(path, 5, stop_in=2)
    assert {p.name: epoch_of(p) for p in tmp_path.iterdir()} == {"a.npz": 4, "a.1.npz": 2, "a.2.npz": 1}


def test_a_file_that_is_no_checkpoint_is_replaced_by_the_first_one(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no checkpoint")
    run(path, 3, stop_in=1)
    assert path.read_bytes() == b"no checkpoint"
    run(path, 3, stop_in=2)
    assert epoch_of(path) == 1


def test_going_on_in_the_same_file(tmp_path):
    path, told = tmp_path / "a.npz", []
    _, trainer = run(path, 2)
    keeper = Keeper(path, trainer, told.append)
    trainer.fit(1, after_epoch=keeper.keep)
    assert epoch_of(path) == 3
    assert told == []


def fail_at(monkeypatch, epochs, error):
    """Let saving fail at the ends of some epochs."""
    write = archive.write

    def failing(path, arrays, meta):
        if f'"epoch": {epochs[0]}, "generators"' in meta if epochs else False:
            epochs.pop(0)
            raise error
        write(path, arrays, meta)

    monkeypatch.setattr(archive, "write", failing)


def test_a_full_disk_ends_no_training_and_the_next_epoch_tries_again(tmp_path, monkeypatch):
    path, told = tmp_path / "a.npz", []
    fail_at(monkeypatch, [2], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    keeper, trainer = run(path, 3, tell=told.append)
    assert trainer.epoch == epoch_of(path) == 3
    assert keeper.error is None
    assert told == [f"{path} cannot be written (No space left on device): the next epoch's end tries again"]


def test_a_disk_that_stays_full_leaves_the_last_that_went(tmp_path, monkeypatch):
    path, told = tmp_path / "a.npz", []
    fail_at(monkeypatch, [2, 3, 3], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    keeper, trainer = run(path, 3, tell=told.append)
    assert trainer.epoch == 3
    assert epoch_of(path) == 1
    assert isinstance(keeper.error, OSError)
    assert len(told) == 1
    assert keeper.told() == f"epoch 1 is saved in {path}"


def test_ctrl_c_while_saving_saves_once_more(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    fail_at(monkeypatch, [2], KeyboardInterrupt())
    keeper, trainer = run(path, 5)
    assert trainer.history.stopped == "interrupted"
    assert trainer.epoch == epoch_of(path) == 2
    assert keeper.told() == f"epoch 2 is saved in {path}"


def test_ctrl_c_while_saving_again_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    fail_at(monkeypatch, [2, 2], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(path, 5)
    assert epoch_of(path) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_no_temporary_file_stays(tmp_path, monkeypatch, function):
    path = tmp_path / "a.npz"
    run(path, 1)
    before = path.read_bytes()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(path, 2)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("inside", [False, True])
def test_ctrl_c_inside_the_zip_file_is_still_ctrl_c(tmp_path, monkeypatch, inside):
    """Closing a half-written archive raises a ValueError over the interruption, and again when it is collected."""
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    if inside:
        monkeypatch.setattr(zipfile._ZipWriteFile, "close", interrupted)
    else:
        monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "a.npz", trainer)
    gc.collect()
    assert ignored == []
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_one_that_numpy_reads(tmp_path):
    run(tmp_path / "a.npz", 1)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert stored["model/1.weight"].shape == (128, 4)
