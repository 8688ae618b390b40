"""A reader's own arrays: from_arrays, npz:FILE, and Debian's Fashion-MNIST."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uanref import data, models
from uanref.cli import main
from uanref.data import DataError, Splits, from_arrays
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import Adam
from uanref.training import checkpoint
from uanref.training.trainer import Trainer


def toy(n=60, shape=(5,), classes=3, dtype="float64"):
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    return (rng.standard_normal((n, *shape)) + y.reshape(-1, *[1] * len(shape))).astype(dtype), y


def parts(splits: Splits):
    return splits.train, splits.validation, splits.test


@given(
    n=st.integers(4, 300),
    test=st.floats(0.01, 0.6),
    validation=st.floats(0.01, 0.3),
    classes=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_each_row_is_in_one_part_and_each_class_in_proportion(n, test, validation, classes, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    y[:2] = 0, 1
    x = np.arange(n)[:, None] * np.ones(2)
    sizes = (n - round(test * n) - round(validation * n), round(validation * n), round(test * n))
    if min(sizes) < 1:
        with pytest.raises(ValueError, match="give more rows or other shares"):
            from_arrays(x, y, test, validation, rng)
        return
    splits = from_arrays(x, y, test, validation, rng)
    assert tuple(len(part) for part in parts(splits)) == sizes
    rows = [np.argsort(np.argsort(np.concatenate([part.images[:, 0] for part in parts(splits)])))]
    labels = np.concatenate([part.labels for part in parts(splits)])
    np.testing.assert_array_equal(labels, y[rows[0]])  # standardization keeps the order of the rows' numbers
    per_class = np.bincount(y)
    if per_class[per_class > 0].min() >= 10 * classes:
        for part, share in zip(parts(splits)[1:], (validation, test), strict=True):
            found = np.bincount(part.labels, minlength=len(per_class))
            assert np.abs(found - share * per_class).max() < 2
    assert splits.num_classes == y.max() + 1


def test_every_class_is_trained_on_even_the_smallest():
    y = np.array([0] * 30 + [1] * 30 + [2, 3, 4])
    splits = from_arrays(np.random.default_rng(0).standard_normal((63, 2)), y)
    assert set(splits.train.labels) == {0, 1, 2, 3, 4}


def test_tiny_numbers_and_strict_settings_of_numpy():
    x = np.where(np.arange(120).reshape(60, 2) % 7 == 0, 1.0, 1e-40)
    expected = from_arrays(x, Y)
    with np.errstate(all="raise"):
        splits = from_arrays(x, Y)
    np.testing.assert_array_equal(splits.test.images, expected.test.images)


def test_large_images_are_standardized_in_small_blocks():
    """512 x 512: a thousand at a time would be gigabytes of float64."""
    x = np.random.default_rng(0).integers(0, 256, (40, 512, 512), dtype="uint8")
    tracemalloc.start()
    try:
        splits = from_arrays(x, np.arange(40) % 2)
        splits.train.batch(slice(0, 2))
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()


def test_classes_of_a_row_each_are_split_all_the_same():
    splits = from_arrays(np.arange(20.0)[:, None], np.arange(20))
    assert [len(part) for part in parts(splits)] == [14, 2, 4]


def test_rows_are_shuffled_and_follow_from_the_generator():
    x, y = np.arange(200.0)[:, None], np.repeat([0, 1], 100)
    one, same = from_arrays(x, y), from_arrays(x, y, rng=np.random.default_rng(0))
    other = from_arrays(x, y, rng=np.random.default_rng(1))
    for a, b, c in zip(parts(one), parts(same), parts(other), strict=True):
        assert np.any(np.diff(a.images[:, 0]) < 0)
        assert np.any(np.diff(a.labels) < 0)
        np.testing.assert_array_equal(a.images, b.images)
        assert not np.array_equal(a.images, c.images)


@pytest.mark.parametrize(
    ("shape", "expected"), [((5,), (5,)), ((6, 7), (1, 6, 7)), ((3, 6, 7), (3, 6, 7)), ((1, 1, 1), (1, 1, 1))]
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int8", "int64", "bool", ">f8"])
def test_vectors_and_images_of_all_numbers(shape, expected, dtype):
    x, y = toy(shape=shape)
    x = (10 * x + 50).astype(dtype) if dtype != "bool" else x > 1
    before = x.copy()
    splits = from_arrays(x, y)
    assert splits.image_shape == expected
    for part in parts(splits):
        assert part.images.dtype == np.float32
        assert part.images.shape == (len(part), *expected)
    axes = (0, 2, 3) if len(expected) == 3 else 0
    np.testing.assert_allclose(splits.train.images.mean(axis=axes, dtype="f8"), 0, atol=1e-5)
    np.testing.assert_allclose(splits.train.images.std(axis=axes, dtype="f8"), 1, rtol=1e-4)
    np.testing.assert_array_equal(x, before)
    if x.dtype.itemsize < 4:
        assert splits.train.stored.dtype == (np.uint8 if dtype == "bool" else x.dtype)


X, Y = toy()


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.where(X[7, 2] == X, np.nan, X), Y, "x must be finite in float32, but row 7 holds nan"),
        (np.where(X[7, 2] == X, 1e300, X), Y, r"row 7 holds 1e\+300"),
        (X.astype(object), Y, "x must hold real numbers, got object"),
        (X.astype(complex), Y, "x must hold real numbers, got complex128"),
        (X.astype(str), Y, "x must hold real numbers, got <U"),
        (X.tolist(), Y, "x must be a NumPy array, got list"),
        (np.ma.masked_array(X, X > 1), Y, "x are masked"),
        (X[:, 0], Y, r"x must be vectors \(N, D\) or images .*, got shape \(60,\)"),
        (X[:, :0], Y, r"x of shape \(60, 0\) holds nothing"),
        (X, Y[:-1], "x has 60 rows but y has 59"),
        (X, Y.astype(float), "y must be integers, got float64: number the classes 0, 1, 2"),
        (X, Y.astype(str), "y must be integers, got <U"),
        (X, np.eye(3)[Y], r"y must have shape \(N,\), one class for each row, got \(60, 3\)"),
        (X, Y - 1, r"y must lie in 0 \.\.\. 65535, but holds -1 \.\.\. 1"),
        (X, Y + 10**12, r"y must lie in 0 \.\.\. 65535, but holds 1000000000000"),
        (X, 0 * Y, "y holds the class 0 alone"),
        (X[:0], Y[:0], "holds nothing"),
        (X, Y[:0], "y is empty"),
        (X[:4], Y[:4], "leave 1 for the test, 0 for validation and 3 to train on: give more rows or other shares"),
        (X[:2], Y[:2], "of 2 rows leave 0 for the test"),
    ],
)
def test_hostile_arrays_get_a_sentence(x, y, says):
    with pytest.raises(ValueError, match=says) as told:
        from_arrays(x, y)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("shares", "error"),
    [
        ({"test": 0}, ValueError),
        ({"test": 1.5}, ValueError),
        ({"test": np.nan}, ValueError),
        ({"validation": -0.1}, ValueError),
        ({"test": 0.6, "validation": 0.5}, ValueError),
        ({"test": 1}, ValueError),
        ({"test": "many"}, TypeError),
        ({"test": None}, TypeError),
        ({"rng": 3}, TypeError),
    ],
)
def test_bad_shares_are_refused(shares, error):
    with pytest.raises(error, match=re.escape(next(iter(shares)))):
        from_arrays(X, Y, **shares)


@pytest.mark.parametrize("norm", ["none", "bn", "uan", "ln", "mode"])
def test_vectors_are_trained_on_saved_and_resumed(tmp_path, norm):
    splits = from_arrays(*toy(120))
    trainers = []
    for epochs in (2, 1):
        model = models.build("mlp", norm, image_shape=splits.image_shape, num_classes=3)
        trainer = Trainer(model, SoftmaxCrossEntropy(), Adam(model.parameters(), 0.01), splits, progress="none")
        trainer.fit(epochs)
        trainers.append(trainer)
    checkpoint.save(tmp_path / "a.npz", trainers[1])
    resumed = checkpoint.resume(tmp_path / "a.npz", splits=splits, progress="none")
    resumed.fit(1)
    for name, array in trainers[0].model.state_dict().items():
        np.testing.assert_array_equal(array, resumed.model.state_dict()[name])
    assert trainers[0].history.curve("train_loss") == resumed.history.curve("train_loss")
    assert checkpoint.load_model(tmp_path / "a.npz").config["image_shape"] == [5]


def test_vectors_do_not_go_to_the_cnn():
    with pytest.raises(ValueError, match="the cnn takes images, and the data are vectors of 5 numbers: choose the mlp"):
        models.build("cnn", "bn", image_shape=(5,), num_classes=3)


# --- npz:FILE -------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_is_split_by_the_seed(save, tmp_path):
    x, y = toy(shape=(8, 8), dtype="uint8")
    save(tmp_path / "a.npz", x=x, y=y, more=np.arange(3))
    splits = data.load(f"npz:{tmp_path / 'a.npz'}", seed=3)
    expected = from_arrays(x, y, rng=np.random.default_rng(3))
    assert splits.name == f"npz:{tmp_path / 'a.npz'}"
    for part, other in zip(parts(splits), parts(expected), strict=True):
        np.testing.assert_array_equal(part.images, other.images)
        np.testing.assert_array_equal(part.labels, other.labels)


def test_train_resume_from_elsewhere_and_evaluate(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "mine.npz", x=toy(90)[0], y=toy(90)[1])
    monkeypatch.chdir(tmp_path)
    train = ["train", "--quiet", "--dataset", "npz:mine.npz", "--model", "mlp", "--schedule", "constant"]
    monkeypatch.setattr("uanref.experiments.single.Trained.draw", lambda self, path: None)
    code, out, err = run(capsys, *train, "--epochs", "1", "--save", "net.npz")
    assert (code, err) == (0, "")
    assert "63 vectors to train on, 9 to validate, 18 to test" in " ".join(out.split())
    assert checkpoint.load_meta("net.npz")["data"]["name"] == f"npz:{tmp_path / 'mine.npz'}"
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    code, _, err = run(capsys, "train", "--quiet", "--resume", "../net.npz", "--epochs", "2", "--save", "two.npz")
    assert (code, err) == (0, "")
    code, out, err = run(capsys, "evaluate", "two.npz")
    assert (code, err) == (0, "")
    assert "accuracy" in out
    (tmp_path / "mine.npz").rename(tmp_path / "moved.npz")
    code, out, err = run(capsys, "evaluate", "two.npz")
    assert code == 2
    assert "name its new place" in err
    assert run(capsys, "evaluate", "two.npz", "--dataset", "npz:../moved.npz")[0] == 0


def test_vectors_and_the_default_cnn_are_told(tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", x=X, y=Y)
    code, _, err = run(capsys, "train", "--dataset", f"npz:{tmp_path / 'mine.npz'}", "--epochs", "1")
    assert code == 2
    assert "choose the mlp" in err


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X}, "lacks y, it holds x: numpy.savez"),
        ({"x_train": X, "y_train": Y}, "lacks x and y, it holds x_train, y_train"),
        ({"x": X, "y": Y[:3]}, "x has 60 rows but y has 3"),
        ({"x": np.full((60, 5), np.nan), "y": Y}, "x must be finite"),
        ({"x": X.astype(object), "y": Y}, "pickled objects in x.npy: they are never loaded"),
        ({"x": X, "y": Y.astype(float)}, "y must be integers"),
        ({"x": X, "y": Y.astype(str)}, "no plain numbers in y.npy"),
    ],
)
def test_hostile_files_get_a_sentence(arrays, says, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=says):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none\.npz: No such file"):
        data.load(f"npz:{tmp_path / 'none.npz'}")
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        data.load(f"npz:{tmp_path}")


# --- fashion --------------------------------------------------------------------------------------


def test_fashion_is_debians_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(data.splits, "FASHION", str(tmp_path / "fashion-mnist"))
    with pytest.raises(DataError, match=r"apt install dataset-fashion-mnist.*idx:FOLDER"):
        data.load("fashion")
    seen = []
    monkeypatch.setattr(data.splits, "read_idx_folder", lambda folder: seen.append(folder) or data.fashion_small())
    (tmp_path / "fashion-mnist").mkdir()
    splits = data.load("fashion")
    assert seen == [str(tmp_path / "fashion-mnist")]
    assert (splits.name, len(splits.train), len(splits.test)) == ("fashion", 4500, 1000)
