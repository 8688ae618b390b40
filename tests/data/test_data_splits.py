import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.idx import write_images

from uanref import data
from uanref.data import DataError, Standardizer, stratified_split

label_arrays = hnp.arrays("int64", st.integers(0, 200), elements=st.integers(0, 6))
weights = st.lists(st.integers(1, 9), min_size=1, max_size=4)


# --- stratified_split ---------------------------------------------------------------------------


@given(labels=label_arrays, weights=weights, seed=st.integers(0, 99))
def test_parts_hold_every_sample_once_and_every_class_in_proportion(labels, weights, seed):
    fractions = [w / sum(weights) for w in weights]
    parts = stratified_split(labels, fractions, np.random.default_rng(seed))

    assert len(parts) == len(fractions)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part in parts:
        assert (np.diff(part) > 0).all()
    assert len(parts[0]) == math.floor(fractions[0] * len(labels) + 0.5)
    for c in np.unique(labels):
        for i, (part, fraction) in enumerate(zip(parts, fractions, strict=True)):
            gap = abs((labels[part] == c).sum() - fraction * (labels == c).sum())
            assert gap < (1 if i == 0 or len(parts) == 2 else len(parts) - 1) + 1e-9


@given(labels=label_arrays, seed=st.integers(0, 99))
def test_a_split_follows_from_the_generator(labels, seed):
    first, again = (stratified_split(labels, (0.3, 0.7), np.random.default_rng(seed)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_draws_other_samples():
    labels = np.arange(200) % 5
    a, b = (stratified_split(labels, (0.5, 0.5), np.random.default_rng(seed))[0] for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_every_sample_of_a_class_can_be_drawn():
    rng, drawn = np.random.default_rng(0), np.zeros(20, int)
    for _ in range(400):
        drawn[stratified_split(np.arange(20) % 2, (0.25, 0.75), rng)[0]] += 1
    assert drawn.sum() == 400 * 5
    assert (abs(drawn - 100) < 50).all()  # binomial with a deviation of 8.7


@pytest.mark.parametrize("bad", [(), (0.5, 0.4), (0.5, 0.6), (1.5, -0.5), (1.0, 0.0), (math.nan, 0.5)])
def test_fractions_that_are_no_shares_are_refused(bad):
    with pytest.raises(ValueError, match="fractions must be positive and sum to 1"):
        stratified_split(np.zeros(4, int), bad, np.random.default_rng(0))


@pytest.mark.parametrize("bad", [np.zeros((2, 2), int), np.zeros(3)])
def test_labels_that_are_none_cannot_be_split(bad):
    with pytest.raises(ValueError, match="labels must be integers"):
        stratified_split(bad, (0.5, 0.5), np.random.default_rng(0))


# --- Standardizer -------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
)
def test_standardized_channels_have_mean_0_and_deviation_1(seed, shape, scale):
    rng = np.random.default_rng(seed)
    images = (scale * (rng.standard_normal(shape) + rng.standard_normal((shape[1], 1, 1)))).astype("float32")
    before = images.copy()
    standardized = Standardizer.fit(images).apply(images)
    assert standardized.dtype == np.float32
    assert standardized.shape == images.shape
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(standardized.mean(axis=(0, 2, 3), dtype="float64"), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(axis=(0, 2, 3), dtype="float64"), 1, rtol=1e-5)


def test_statistics_are_taken_over_all_blocks(monkeypatch):
    monkeypatch.setattr(data.splits, "_BLOCK", 3)
    images = np.random.default_rng(0).standard_normal((10, 2, 3, 3)).astype("float32")
    fitted = Standardizer.fit(images)
    np.testing.assert_allclose(fitted.mean, images.mean(axis=(0, 2, 3), dtype="float64"), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, images.std(axis=(0, 2, 3), dtype="float64"), rtol=1e-12)
    expected = (images - fitted.mean[:, None, None]) / fitted.std[:, None, None]
    np.testing.assert_allclose(fitted.apply(images), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e-42, 3e38])
def test_a_constant_channel_becomes_zero(value):
    images = np.random.default_rng(0).standard_normal((50, 2, 3, 3)).astype("float32")
    images[:, 1] = value
    fitted = Standardizer.fit(images)
    assert fitted.std[1] == 1
    np.testing.assert_allclose(fitted.apply(images)[:, 1], 0, atol=1e-6 * max(1, abs(value)))


def test_other_images_than_the_fitted_ones_are_refused():
    images = np.zeros((3, 2, 4, 4), "float32")
    with pytest.raises(ValueError, match=r"fitted on 2 channels, got images \(3, 1, 4, 4\)"):
        Standardizer.fit(images).apply(images[:, :1])
    with pytest.raises(ValueError, match=r"expects images \(N, C, H, W\), got \(3, 2, 4\)"):
        Standardizer.fit(images[..., 0])
    with pytest.raises(ValueError, match=r"got \(0, 2, 4, 4\)"):
        Standardizer.fit(images[:0])


# --- load ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    def fill(train=40, test=9):
        write_images(tmp_path, train, test, (6, 5), 4)
        return f"idx:{tmp_path}"

    return fill


@pytest.mark.parametrize(
    ("spec", "sizes", "shape"),
    [("digits", (719, 180, 898), (1, 8, 8)), ("fashion-small", (4500, 500, 1000), (1, 28, 28))],
)
def test_embedded_sets_split_as_documented(spec, sizes, shape):
    splits = data.load(spec)
    parts = (splits.train, splits.validation, splits.test)
    assert tuple(map(len, parts)) == sizes
    assert (splits.name, splits.num_classes, splits.image_shape) == (spec, 10, shape)
    for part in parts:
        assert part.image_shape == shape
        per_class = np.bincount(part.labels, minlength=10)
        assert per_class.max() - per_class.min() <= max(1, 0.08 * len(part) / 10)
    assert abs(splits.train.images.mean(dtype="float64")) < 1e-6
    assert abs(splits.train.images.std(dtype="float64") - 1) < 1e-6


def test_parts_are_disjoint_and_share_one_standardization():
    splits, whole = data.load("digits", seed=3), data.digits()
    together = np.concatenate([splits.train.images, splits.validation.images, splits.test.images])
    # One affine map with a positive slope keeps the order of all pixels, so sorted pixels tell that
    # every digit of the set is there once, under the map of the training part.
    slope, intercept = np.polyfit(np.sort(whole.images, axis=None), np.sort(together, axis=None), 1)
    restored = (together - intercept) / slope
    original = np.rint(16 * whole.images).astype(int).reshape(1797, -1)
    found = np.rint(16 * restored).astype(int).reshape(1797, -1)
    labels = np.concatenate([splits.train.labels, splits.validation.labels, splits.test.labels])
    assert sorted(map(tuple, np.c_[original, whole.labels])) == sorted(map(tuple, np.c_[found, labels]))
    np.testing.assert_allclose(16 * restored.reshape(1797, -1), found, atol=1e-3)


def test_a_split_follows_from_the_seed():
    first, again, other = data.load("digits", seed=1), data.load("digits", seed=1), data.load("digits", seed=2)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part).images, getattr(again, part).images)
        np.testing.assert_array_equal(getattr(first, part).labels, getattr(again, part).labels)
        assert not np.array_equal(getattr(first, part).images, getattr(other, part).images)


def test_a_set_with_its_own_test_set_keeps_it(folder):
    spec = folder()
    splits = data.load(spec)
    assert (splits.name, splits.num_classes, splits.image_shape) == (spec, 4, (1, 6, 5))
    assert np.bincount(splits.train.labels).tolist() == [9] * 4
    assert np.bincount(splits.validation.labels).tolist() == [1] * 4
    assert splits.test.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    for seed in (1, 2):
        np.testing.assert_array_equal(data.load("fashion-small", seed=seed).test.labels, data.fashion_small()[1].labels)


def test_too_few_samples_for_a_validation_set_are_refused(folder):
    with pytest.raises(DataError, match="4 training images are too few to set a tenth aside: give at least 5"):
        data.load(folder(train=4))
    assert len(data.load(folder(train=5)).validation) == 1


@pytest.mark.parametrize("bad", ["mnist", "", "idx", "idx:", "digits:", "Digits", "csv:folder", "npz:", "fashion:x"])
def test_an_unknown_set_is_refused_with_the_choices(bad):
    with pytest.raises(
        ValueError, match="expected 'digits', 'fashion-small', 'fashion', 'mnist-5k', 'idx:FOLDER' or 'npz:FILE'"
    ):
        data.load(bad)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        data.load(f"idx:{tmp_path}/none")


def test_a_bad_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be >= 0"):
        data.load("digits", seed=-1)
    with pytest.raises(TypeError, match="seed must be an integer"):
        data.load("digits", seed=0.5)


def test_a_short_repr_shows_sizes_and_no_arrays():
    splits = data.load("digits", seed=0)
    assert repr(splits) == "Splits('digits': 719 train, 180 validation, 898 test of (1, 8, 8), 10 classes)"
    assert repr(splits.train) == f"Dataset({splits.train.name!r}: 719 samples of (1, 8, 8), 10 classes)"
    assert repr(Standardizer.fit(splits.train)) == "Standardizer(1 channel)"
    vectors = data.from_arrays(np.arange(40.0).reshape(20, 2), np.arange(20) % 2, rng=np.random.default_rng(0))
    assert repr(vectors).endswith("of (2,), 2 classes)")
    for shown in (splits, splits.train, vectors, vectors.train, vectors.train.values):
        assert "array(" not in repr(shown)
        assert len(repr(shown)) < 100
