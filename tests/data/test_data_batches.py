import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uanref import backend
from uanref.data import Batches, Dataset


def shifted(images, rng):
    """Add a random number to each image."""
    return images + rng.integers(100, size=(len(images), 1, 1, 1)).astype("float32")


def numbered(n):
    """A set whose image i holds i in every pixel."""
    images = np.broadcast_to(np.arange(n, dtype="float32")[:, None, None, None], (n, 1, 2, 2))
    return Dataset("numbered", images, np.arange(n, dtype="int64") % 7, 7)


def order(batches):
    return [x[:, 0, 0, 0].astype(int).tolist() for x, _ in batches]


@given(n=st.integers(1, 60), size=st.integers(1, 70), shuffle=st.booleans(), seed=st.integers(0, 9))
def test_an_epoch_holds_every_sample_once_with_its_label(n, size, shuffle, seed):
    batches = Batches(numbered(n), size, shuffle=shuffle, rng=np.random.default_rng(seed))
    found = list(batches)
    assert len(found) == len(batches)
    sizes = [len(y) for _, y in found]
    if n > 1 and size > 1:
        assert 1 not in sizes
    assert set(sizes[:-1]) <= {size}
    assert sizes[-1] <= size + (size > 1)
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert sorted(images[:, 0, 0, 0]) == list(range(n))
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0].astype(int) % 7)
    for x, y in found:
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((len(y), 1, 2, 2), np.float32, (len(y),), np.int64)


def test_a_last_batch_of_one_joins_the_one_before():
    assert [len(b) for b in order(Batches(numbered(9), 4))] == [4, 5]
    assert [len(b) for b in order(Batches(numbered(10), 4))] == [4, 4, 2]
    assert [len(b) for b in order(Batches(numbered(3), 1))] == [1, 1, 1]
    assert [len(b) for b in order(Batches(numbered(1), 4))] == [1]


def test_without_shuffling_the_sets_order_is_kept_and_nothing_is_copied():
    dataset = numbered(10)
    batches = Batches(dataset, 4)
    assert order(batches) == order(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for x, y in batches:
        assert np.shares_memory(x, dataset.images)
        assert np.shares_memory(y, dataset.labels)


def test_epochs_differ_and_follow_from_the_generator():
    first, again = (Batches(numbered(30), 8, shuffle=True, rng=np.random.default_rng(5)) for _ in range(2))
    epochs = [order(first), order(first)]
    assert epochs[0] != epochs[1]
    assert epochs == [order(again), order(again)]
    assert order(Batches(numbered(30), 8, shuffle=True)) == order(Batches(numbered(30), 8, shuffle=True))


def test_an_epoch_resumes_from_the_generators_state():
    batches = Batches(numbered(30), 8, shuffle=True, augment=shifted, rng=np.random.default_rng(5))
    order(batches)
    state = batches.rng.bit_generator.state
    expected = order(batches)
    resumed = Batches(numbered(30), 8, shuffle=True, augment=shifted)
    resumed.rng.bit_generator.state = state
    assert order(resumed) == expected


def test_augmentation_sees_each_batch_on_the_host_and_the_generator():
    seen, rng = [], np.random.default_rng(0)

    def negate(images, given):
        seen.append((type(images), len(images), given is rng))
        return -images

    assert order(Batches(numbered(5), 3, augment=negate, rng=rng)) == [[0, -1, -2], [-3, -4]]
    assert seen == [(np.ndarray, 3, True), (np.ndarray, 2, True)]


@pytest.mark.parametrize("augment", [None, shifted])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_device_gets_the_same_batches(shuffle, augment, strict_cupy):
    on_host, on_device = (
        Batches(numbered(13), 4, shuffle=shuffle, augment=augment, rng=np.random.default_rng(5)) for _ in range(2)
    )
    for _ in range(2):
        with backend.using("cupy"):
            moved = list(on_device)
        for (x, labels), (x_device, labels_device) in zip(on_host, moved, strict=True):
            assert backend.name_of(x_device) == backend.name_of(labels_device) == "cupy"
            for expected, found in ((x, x_device), (labels, labels_device)):
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(backend.to_host(found), expected)


@pytest.mark.parametrize(
    ("shuffle", "augment", "first", "later"),
    [
        (False, None, 2, 0),  # the set's images and labels
        (True, None, 3, 1),  # and an epoch's order
        (True, shifted, 2 + 4, 1 + 4),  # labels and order, and the images of every batch
    ],
)
def test_the_set_moves_to_a_device_once(shuffle, augment, first, later, strict_cupy):
    batches = Batches(numbered(14), 4, shuffle=shuffle, augment=augment)
    with backend.using("cupy"):
        for expected in (first, later, later):
            before = strict_cupy.to_device
            with strict_cupy.sealed():
                assert len(list(batches)) == 4
            assert strict_cupy.to_device - before == expected


def test_batches_follow_the_default_backend(strict_cupy):
    batches = Batches(numbered(5), 3)
    kinds = []
    for name in ("cupy", "numpy", "cupy"):
        with backend.using(name):
            kinds.append({backend.name_of(array) for batch in batches for array in batch})
    assert kinds == [{"cupy"}, {"numpy"}, {"cupy"}]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Batches(numbered(5), 0), ValueError, "batch_size must be >= 1, got 0"),
        (lambda: Batches(numbered(5), -3), ValueError, "batch_size must be >= 1, got -3"),
        (lambda: Batches(numbered(5), 2.5), TypeError, "batch_size must be an integer"),
        (lambda: Batches(numbered(5), 2, rng=0), TypeError, "rng must be a numpy.random.Generator"),
        (lambda: Batches([1, 2], 2), TypeError, "takes a Dataset, got list"),
    ],
)
def test_bad_options_are_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
