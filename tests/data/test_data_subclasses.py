"""Subclasses of arrays in the data room: memory maps become plain arrays, masks and matrices are refused."""

import sys

import numpy as np
import pytest

from uanref import data
from uanref.data import Batches, Dataset, Standardizer, stratified_split
from uanref.data.augment import Chain, Crop, Flip, Shift
from uanref.layers.flatten import Flatten

RNG = np.random.default_rng
IMAGES = RNG(0).standard_normal((6, 2, 4, 4)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])
AUGMENTATIONS = [Shift(1), Crop(1), Flip(), Chain(Flip(), Shift(1))]


class Subclass(np.ndarray):
    """An array in all but its type."""


def mapped(folder, array):
    made = np.memmap(folder / f"{array.dtype}", dtype=array.dtype, shape=array.shape, mode="w+")
    made[...] = array
    return made


def masked(array):
    return np.ma.masked_array(array, mask=array > 0)


MASKED = r"are masked, and a mask would be lost: fill them with x\.filled"
OTHER = r"must be a NumPy array, got (Subclass|matrix): convert them with numpy\.asarray"
every_wrong_kind = pytest.mark.parametrize(
    ("wrap", "says"), [(masked, MASKED), (lambda x: x.view(Subclass), OTHER)], ids=["masked", "subclass"]
)


def test_memory_maps_become_plain_arrays_over_the_same_file(tmp_path):
    images, labels = mapped(tmp_path, IMAGES), mapped(tmp_path, LABELS)
    dataset = Dataset("toy", images, labels, 3)
    assert type(dataset.images) is type(dataset.labels) is np.ndarray
    assert np.shares_memory(dataset.images, images)
    assert np.shares_memory(dataset.labels, labels)
    for x, y in Batches(dataset, 4, augment=Flip()):
        assert type(x) is type(y) is np.ndarray
    for x, _ in Batches(dataset, 4, shuffle=True):
        assert Flatten().forward(x).shape == (len(x), 32)


def test_memory_maps_give_the_numbers_of_arrays(tmp_path):
    images = mapped(tmp_path, IMAGES)
    ours, theirs = Standardizer.fit(images), Standardizer.fit(IMAGES)
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.std, theirs.std)
    assert type(ours.mean) is type(ours.std) is np.ndarray
    np.testing.assert_array_equal(ours.apply(images), theirs.apply(IMAGES))
    for augment in AUGMENTATIONS:
        moved = augment(images, RNG(1))
        assert type(moved) is np.ndarray
        np.testing.assert_array_equal(moved, augment(IMAGES, RNG(1)))
    for ours, theirs in zip(
        stratified_split(mapped(tmp_path, LABELS), (0.5, 0.5), RNG(1)),
        stratified_split(LABELS, (0.5, 0.5), RNG(1)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@every_wrong_kind
def test_other_subclasses_are_refused(wrap, says):
    with pytest.raises(ValueError, match=f"toy: images {says}"):
        Dataset("toy", wrap(IMAGES), LABELS, 3)
    with pytest.raises(ValueError, match=f"toy: labels {says}"):
        Dataset("toy", IMAGES, wrap(LABELS), 3)
    with pytest.raises(ValueError, match=f"part: indices {says}"):
        Dataset("toy", IMAGES, LABELS, 3).subset(wrap(np.array([0, 1])), "part")
    with pytest.raises(ValueError, match=f"images {says}"):
        Standardizer.fit(wrap(IMAGES))
    with pytest.raises(ValueError, match=f"images {says}"):
        Standardizer.fit(IMAGES).apply(wrap(IMAGES))
    with pytest.raises(ValueError, match=f"labels {says}"):
        stratified_split(wrap(LABELS), (0.5, 0.5), RNG(1))
    for augment in AUGMENTATIONS:
        with pytest.raises(ValueError, match=f"images {says}"):
            augment(wrap(IMAGES), RNG(1))


def test_matrices_of_labels_are_refused():
    with pytest.raises(ValueError, match=OTHER):
        Dataset("toy", IMAGES, LABELS.view(np.matrix), 3)
    with pytest.raises(ValueError, match=OTHER):
        stratified_split(LABELS.view(np.matrix), (0.5, 0.5), RNG(1))


def test_an_augmentation_that_returns_a_subclass_is_refused():
    batches = Batches(Dataset("toy", IMAGES, LABELS, 3), 4, augment=lambda images, rng: masked(images))
    with pytest.raises(TypeError, match="got a masked array, whose mask would be lost"):
        next(iter(batches))


@pytest.mark.parametrize("dtype", ["float16", "longdouble", ">f4" if sys.byteorder == "little" else "<f4"])
def test_images_of_another_dtype_name_the_conversion(dtype):
    with pytest.raises(ValueError, match=r"images must be float32, got .*: use images\.astype\('float32'\)"):
        data.Dataset("toy", IMAGES.astype(dtype), LABELS, 3)
