import pickle
from importlib import resources

import numpy as np
import pytest

from uanref import data
from uanref.data import Dataset


def arrays(n=4, shape=(1, 2, 3)):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, *shape)).astype("float32"), np.arange(n, dtype="int64") % 3


def test_a_dataset_keeps_what_it_was_given():
    images, labels = arrays()
    dataset = Dataset("toy", images, labels, 3)
    assert len(dataset) == 4
    assert dataset.image_shape == (1, 2, 3)
    assert np.shares_memory(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, labels)


def test_a_dataset_cannot_be_changed_and_leaves_the_callers_arrays_writable():
    images, labels = arrays()
    dataset = Dataset("toy", images, labels, 3)
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 0
    images[0] = 0
    labels[0] = 1


def test_a_subset_has_its_own_samples():
    dataset = Dataset("toy", *arrays(5), 3)
    part = dataset.subset(np.array([3, 1]), "part")
    assert (part.name, len(part), part.num_classes) == ("part", 2, 3)
    np.testing.assert_array_equal(part.images, dataset.images[[3, 1]])
    np.testing.assert_array_equal(part.labels, dataset.labels[[3, 1]])


def test_a_dataset_can_be_sent_to_another_process():
    dataset = Dataset("toy", *arrays(), 3)
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.name, copy.num_classes) == ("toy", 3)
    np.testing.assert_array_equal(copy.images, dataset.images)
    np.testing.assert_array_equal(copy.labels, dataset.labels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x[:, 0], y), r"images must have shape \(N, C, H, W\), got \(4, 2, 3\)"),
        (lambda x, y: (x, y[:, None]), r"labels must have shape \(N,\), got \(4, 1\)"),
        (lambda x, y: (x.astype("float64"), y), "images must be float32, got float64"),
        (lambda x, y: (x, y.astype("int32")), "labels must be int64, got int32"),
        (lambda x, y: (x.tolist(), y), "images must be a NumPy array, got list"),
        (lambda x, y: (x, y[:3]), "4 images but 3 labels"),
        (lambda x, y: (x[:0], y[:0]), r"images of shape \(0, 1, 2, 3\) hold nothing"),
        (lambda x, y: (x[..., :0], y), r"images of shape \(4, 1, 2, 0\) hold nothing"),
    ],
)
def test_wrong_arrays_are_refused(change, says):
    with pytest.raises(ValueError, match=says) as caught:
        Dataset("toy", *change(*arrays()), 3)
    assert str(caught.value).startswith("toy: ")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_first_index(bad):
    images, labels = arrays()
    images[3, 0, 1, 0] = images[2, 0, 1, 2] = bad
    with pytest.raises(ValueError, match=rf"hold {bad} first at index \(2, 0, 1, 2\)"):
        Dataset("toy", images, labels, 3)


@pytest.mark.parametrize("bad", [3, -1])
def test_a_label_out_of_range_is_named_with_its_first_index(bad):
    images, labels = arrays()
    labels[1] = labels[2] = bad
    with pytest.raises(ValueError, match=rf"labels must lie in 0 \.\.\. 2, but the label at index 1 is {bad}"):
        Dataset("toy", images, labels, 3)


@pytest.mark.parametrize("bad", [1, 0, -2, 3.0, True, None])
def test_a_bad_number_of_classes_is_refused(bad):
    with pytest.raises(ValueError, match="num_classes must be an integer >= 2"):
        Dataset("toy", *arrays(), bad)


def test_a_numpy_integer_counts_classes():
    images, labels = arrays()
    dataset = Dataset("toy", images, labels, labels.max() + 1)
    assert dataset.num_classes == 3
    assert type(dataset.num_classes) is int


def test_digits_are_the_1797_of_uci():
    digits = data.digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.num_classes == 10
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    np.testing.assert_array_equal(digits.images * 16, np.rint(digits.images * 16))


def test_fashion_small_is_balanced():
    train, test = data.fashion_small()
    assert train.images.shape == (5000, 1, 28, 28)
    assert test.images.shape == (1000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [500] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    for part in (train, test):
        assert (part.images.min(), part.images.max()) == (0, 1)
        np.testing.assert_allclose(part.images * 255, np.rint(part.images * 255), atol=1e-4)


def test_origins_and_licences_travel_with_the_package():
    text = resources.files("uanref.data").joinpath("ATTRIBUTION.md").read_text(encoding="utf-8")
    for needed in (
        "uci_digits.npz",
        "E. Alpaydin and C. Kaynak",
        "CC BY 4.0",
        "fashion_small.npz",
        "Copyright (c) 2017 Zalando SE, https://tech.zalando.com",
        "Permission is hereby granted, free of charge",
        'THE SOFTWARE IS PROVIDED "AS IS"',
    ):
        assert needed in text
    embedded = {file.name for file in resources.files("uanref.data").iterdir() if file.name.endswith(".npz")}
    assert embedded == {"uci_digits.npz", "fashion_small.npz"}, "every embedded set needs its attribution"
