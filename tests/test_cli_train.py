"""``uanref train``: what is on the disk and on the screen, whatever comes in between."""

from __future__ import annotations

import errno
import os
import re
import shutil

import numpy as np
import pytest
from support.checkpoints import state
from support.idx import write_images

from uanref.cli import main
from uanref.training import archive, checkpoint
from uanref.training.trainer import Trainer

TRAIN = ["train", "--model", "mlp", "--norm", "bn", "--batch-size", "20", "--schedule", "constant", "--quiet"]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder ``work/idx`` of few images, ``work`` being the working folder."""
    folder = tmp_path / "work" / "idx"
    folder.mkdir(parents=True)
    write_images(folder, 60, 20, (4, 4), 3)
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes longer than these trainings; those who ask for the picture do not take this."""
    monkeypatch.setattr("uanref.experiments.single.Trained.draw", lambda self, path: None)


def run(capsys, *arguments):
    """Return exit code, output and errors, having seen no traceback."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def stop(monkeypatch, method, epoch, error=KeyboardInterrupt):
    """Raise ``error`` when a trainer's method is called in that epoch (1, 2, ...)."""
    function = getattr(Trainer, method)

    def stopping(self, *arguments):
        if self.epoch + 1 == epoch:
            raise error
        return function(self, *arguments)

    monkeypatch.setattr(Trainer, method, stopping)


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("norm", ["bn", "uan"])
def test_ctrl_c_in_an_epoch_and_resume_give_the_bits_of_the_straight_run(images, capsys, monkeypatch, schedule, norm):
    train = [*TRAIN, "--dataset", "idx:idx", "--schedule", schedule, "--norm", norm, "--epochs", "4"]
    assert run(capsys, *train, "--save", "straight.npz")[0] == 0
    with monkeypatch.context() as patch:
        stop(patch, "_train_step", epoch=3)
        code, out, err = run(capsys, *train, "--save", "a.npz")
    assert code == 130
    assert "(interrupted)" in out
    assert re.search(r"test\s+accuracy", out)
    assert err == "uanref: interrupted: epoch 2 is saved in a.npz\n"
    assert checkpoint.load_meta("a.npz")["epoch"] == 2

    with monkeypatch.context() as patch:
        stop(patch, "_train_step", epoch=3)
        code, _, err = run(capsys, "train", "--resume", "a.npz", "--epochs", "4", "--save", "a.npz", "--quiet")
    assert code == 130
    assert err == "uanref: interrupted: nothing was saved, a.npz is as it was\n"
    assert checkpoint.load_meta("a.npz")["epoch"] == 2

    assert run(capsys, "train", "--resume", "a.npz", "--epochs", "4", "--save", "a.npz", "--quiet")[0] == 0
    assert state("a.npz") == state("straight.npz")


@pytest.mark.usefixtures("no_picture")
def test_more_epochs_than_first_said_give_the_bits_of_a_longer_run(images, capsys):
    train = [*TRAIN, "--dataset", "idx:idx"]
    assert run(capsys, *train, "--epochs", "3", "--save", "straight.npz")[0] == 0
    assert run(capsys, *train, "--epochs", "1", "--save", "a.npz")[0] == 0
    assert run(capsys, "train", "--resume", "a.npz", "--epochs", "3", "--save", "a.npz", "--quiet")[0] == 0
    assert state("a.npz") == state("straight.npz")


@pytest.mark.usefixtures("no_picture")
def test_ctrl_c_in_the_first_epoch_leaves_an_older_checkpoint(images, capsys, monkeypatch):
    train = [*TRAIN, "--dataset", "idx:idx", "--save", "a.npz"]
    assert run(capsys, *train, "--epochs", "2")[0] == 0
    before = (images.parent / "a.npz").read_bytes()
    stop(monkeypatch, "_train_step", epoch=1)
    code, _, err = run(capsys, *train, "--epochs", "5")
    assert code == 130
    assert "interrupted: nothing was saved, a.npz is as it was" in err
    assert (images.parent / "a.npz").read_bytes() == before


@pytest.mark.usefixtures("no_picture")
def test_ctrl_c_while_the_test_set_is_scored(images, capsys, monkeypatch):
    stop(monkeypatch, "evaluate", epoch=3)
    code, out, err = run(capsys, *TRAIN, "--dataset", "idx:idx", "--epochs", "2", "--save", "a.npz")
    assert code == 130
    assert "interrupted: epoch 2 is saved in a.npz" in err
    assert "validation" in out
    assert checkpoint.load_meta("a.npz")["epoch"] == 2


@pytest.mark.usefixtures("no_picture")
def test_a_full_disk_costs_the_file_and_not_the_score(images, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive, "write", full)
    code, out, err = run(capsys, *TRAIN, "--dataset", "idx:idx", "--epochs", "2", "--save", "a.npz")
    assert code == 1
    assert re.search(r"test\s+accuracy [\d.]+ %", out)
    assert err.splitlines() == [
        "uanref: a.npz cannot be written (No space left on device): the next epoch's end tries again",
        "uanref: a.npz could not be written (No space left on device): nothing was saved",
    ]


@pytest.mark.usefixtures("no_picture")
def test_a_divergence_says_what_is_saved(images, capsys, monkeypatch):
    train = [*TRAIN, "--dataset", "idx:idx", "--epochs", "3", "--save", "a.npz"]
    step = Trainer._train_step

    def diverging(self, x, labels):
        return step(self, x * np.float32(np.inf if self.epoch == 1 else 1), labels)

    monkeypatch.setattr(Trainer, "_train_step", diverging)
    code, _, err = run(capsys, *train)
    assert code == 1
    assert "non-finite" in err
    assert "epoch 1 is saved in a.npz" in err
    assert checkpoint.load_meta("a.npz")["epoch"] == 1


@pytest.mark.usefixtures("no_picture")
def test_resuming_from_another_folder_finds_the_data(images, capsys, monkeypatch, tmp_path):
    path = tmp_path / "a.npz"
    assert run(capsys, *TRAIN, "--dataset", "idx:idx", "--epochs", "1", "--save", path)[0] == 0
    assert checkpoint.load_meta(path)["data"]["name"] == f"idx:{images}"
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "train", "--resume", path, "--epochs", "2", "--save", path, "--quiet")[0] == 0
    code, out, _ = run(capsys, "evaluate", path)
    assert code == 0
    assert "20 to test" in " ".join(out.split())


@pytest.mark.usefixtures("no_picture")
def test_data_that_moved_are_named_anew(images, capsys, tmp_path):
    path = tmp_path / "a.npz"
    assert run(capsys, *TRAIN, "--dataset", "idx:idx", "--epochs", "1", "--save", path)[0] == 0
    resume = ["train", "--resume", path, "--epochs", "2", "--quiet"]
    moved = images.rename(tmp_path / "moved")
    code, _, err = run(capsys, *resume)
    assert code == 2
    assert f"there is no folder {images}" in err
    assert "--dataset" in err
    code, _, err = run(capsys, "evaluate", path)
    assert code == 2
    assert "--dataset" in err

    assert run(capsys, *resume, "--dataset", f"idx:{moved}", "--save", path)[0] == 0
    assert checkpoint.load_meta(path)["data"]["name"] == f"idx:{moved}"

    shutil.copy(moved / "t10k-images-idx3-ubyte", moved / "train-images-idx3-ubyte")
    shutil.copy(moved / "t10k-labels-idx1-ubyte", moved / "train-labels-idx1-ubyte")
    code, _, err = run(capsys, "train", "--resume", path, "--epochs", "3", "--dataset", f"idx:{moved}")
    assert code == 2
    assert "was trained on other data than" in err


def test_the_curves_are_beside_the_checkpoint_or_where_one_says(images, capsys):
    train = [*TRAIN, "--dataset", "idx:idx", "--epochs", "2"]
    code, out, _ = run(capsys, *train, "--save", "a.npz")
    assert code == 0
    assert "Curves in a-curves.png" in out
    assert (images.parent / "a-curves.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, *train, "--curves", "mine.png")
    assert code == 0
    assert sorted(os.listdir()) == ["a-curves.png", "a-replay.npz", "a.npz", "idx", "mine.png"]


@pytest.mark.parametrize(("option", "expected"), [([], 0), (["--curves", "c.png"], 1)])
def test_a_picture_fails_alone(images, capsys, monkeypatch, option, expected):
    def fail(*arguments, **named):
        raise RuntimeError("latex could\nnot be found")

    monkeypatch.setattr("uanref.plots.FigureCanvasAgg.print_figure", fail)
    arguments = [*TRAIN, "--dataset", "idx:idx", "--epochs", "1", "--save", "a.npz", *option]
    code, out, err = run(capsys, *arguments)
    assert code == expected
    assert re.search(r"test\s+accuracy", out)
    picture = option[-1] if option else "a-curves.png"
    assert err == f"uanref: {picture} could not be drawn (latex could not be found)\n"
    assert sorted(os.listdir()) == ["a-replay.npz", "a.npz", "idx"]


def test_a_place_for_curves_that_cannot_be_is_refused_first(images, capsys):
    code, _, err = run(capsys, *TRAIN, "--dataset", "idx:idx", "--curves", "nowhere/c.png")
    assert code == 2
    assert "--curves" in err


@pytest.mark.usefixtures("no_picture")
def test_a_checkpoint_with_more_epochs_is_not_written_over_by_less(images, capsys, monkeypatch):
    train = [*TRAIN, "--dataset", "idx:idx", "--save", "a.npz"]
    assert run(capsys, *train, "--epochs", "3")[0] == 0
    before = (images.parent / "a.npz").read_bytes()
    with monkeypatch.context() as patch:
        stop(patch, "_train_step", epoch=2)
        code, _, err = run(capsys, *train, "--epochs", "5")
    assert code == 130
    assert "a.npz holds 3 epochs of an earlier training: this one goes to a.1.npz" in err
    assert "epoch 1 is saved in a.1.npz" in err
    assert (images.parent / "a.npz").read_bytes() == before
    code, out, _ = run(capsys, *train, "--epochs", "2")
    assert code == 0
    assert "Written to a.npz" in out
    assert checkpoint.load_meta("a.npz")["epoch"] == 2


@pytest.mark.parametrize("option", ["--save", "--curves"])
def test_a_name_too_long_to_be_written_is_refused_before_training(images, capsys, monkeypatch, option):
    """255 bytes are a name, but its temporary name is longer."""
    stop(monkeypatch, "fit", epoch=1, error=AssertionError("it trained"))
    code, out, err = run(capsys, *TRAIN, "--dataset", "idx:idx", option, "a" * 251 + ".npz")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert option in err
    assert os.listdir() == ["idx"]


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("option", ["--save", "--resume"])
def test_the_picture_does_not_take_the_checkpoints_place(images, capsys, option):
    train = [*TRAIN, "--dataset", "idx:idx", "--epochs", "1"]
    assert run(capsys, *train, "--save", "a.npz")[0] == 0
    before = (images.parent / "a.npz").read_bytes()
    others = train if option == "--save" else ["train", "--epochs", "2"]
    code, out, err = run(capsys, *others, option, "a.npz", "--curves", "./a.npz")
    assert (code, out) == (2, "")
    assert "--curves a.npz is the checkpoint" in err
    assert (images.parent / "a.npz").read_bytes() == before


@pytest.mark.usefixtures("no_picture")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_weights_that_overflow_in_the_last_step_cost_the_file_and_not_the_score(images, capsys, monkeypatch):
    """The guard looks at outputs: a last step into infinity is noticed where the weights are written."""
    step = Trainer._train_step

    def overflowing(self, x, labels):
        numbers = step(self, x, labels)
        if self.epoch == 1:
            self.model.parameters()["1.weight"].value[0, 0] = np.inf
        return numbers

    monkeypatch.setattr(Trainer, "_train_step", overflowing)
    train = [*TRAIN, "--dataset", "idx:idx", "--batch-size", "60", "--epochs", "2", "--save", "a.npz"]
    code, out, err = run(capsys, *train)
    assert code == 1
    assert re.search(r"test\s+accuracy", out)
    assert "model/1.weight is not finite: a diverged run is not saved" in err
    assert "epoch 1 is saved in a.npz" in err
