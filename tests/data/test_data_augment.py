import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uanref.data.augment import Chain, Crop, Flip, Shift

ALL = [Shift(0), Shift(2), Crop(0), Crop(2), Flip(), Flip(0), Flip(1), Chain(), Chain(Crop(1), Flip(), Shift(1))]


def draw(n=20, shape=(2, 4, 5), seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(dtype)


def windows(padded, height, width):
    """All crops of one padded image (C, H + 2p, W + 2p)."""
    rows, columns = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    return {padded[:, r : r + height, c : c + width].tobytes() for r in range(rows) for c in range(columns)}


@pytest.mark.parametrize("augment", ALL, ids=repr)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(3, 6), st.integers(3, 6)),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 9),
)
def test_shape_dtype_input_and_determinism(augment, shape, dtype, seed):
    images = draw(shape[0], shape[1:], dtype=dtype)
    before = images.copy()
    out, again = (augment(images, np.random.default_rng(seed)) for _ in range(2))
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    assert not np.shares_memory(out, images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(out, again)


@pytest.mark.parametrize("augment", [Shift(0), Crop(0), Flip(0), Chain()], ids=repr)
def test_nothing_to_do_changes_nothing(augment):
    images = draw()
    np.testing.assert_array_equal(augment(images, np.random.default_rng(0)), images)


def test_read_only_and_strided_images_are_accepted():
    images = draw(6, (2, 8, 5))[:, :, ::2]
    images.flags.writeable = False
    for augment in ALL:
        expected = augment(np.ascontiguousarray(images), np.random.default_rng(1))
        np.testing.assert_array_equal(augment(images, np.random.default_rng(1)), expected)


@given(seed=st.integers(0, 99), padding=st.integers(0, 3))
def test_a_crop_is_a_window_of_the_mirrored_image(seed, padding):
    images = draw(6, seed=seed)
    out = Crop(padding)(images, np.random.default_rng(seed))
    for before, after in zip(images, out, strict=True):
        padded = np.pad(before, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        assert after.tobytes() in windows(padded, 4, 5)


@given(seed=st.integers(0, 99), max_shift=st.integers(0, 3))
def test_a_shift_is_a_window_of_the_image_on_its_background(seed, max_shift):
    images = draw(6, seed=seed)
    out = Shift(max_shift)(images, np.random.default_rng(seed))
    for before, after in zip(images, out, strict=True):
        padded = np.stack([np.pad(channel, max_shift, constant_values=channel.min()) for channel in before])
        assert after.tobytes() in windows(padded, 4, 5)


@pytest.mark.parametrize("augment", [Shift(2), Crop(2)], ids=repr)
def test_every_move_is_drawn_about_equally_often(augment):
    images = np.zeros((5000, 1, 9, 9), "float32")
    images[:, 0, 4, 4] = 1
    out = augment(images, np.random.default_rng(0)).reshape(5000, 9, 9)
    found = out.sum(axis=0)
    assert found.sum() == 5000
    assert found[2:7, 2:7].sum() == 5000
    assert (abs(found[2:7, 2:7] - 200) < 70).all()  # binomial with a deviation of 13.9


def test_each_image_is_flipped_on_its_own_with_probability_p():
    images = draw(4000, (1, 2, 3))
    out = Flip(0.25)(images, np.random.default_rng(0))
    flipped = (out == images[..., ::-1]).all(axis=(1, 2, 3))
    kept = (out == images).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert abs(flipped.mean() - 0.25) < 0.03  # a deviation of 0.007
    np.testing.assert_array_equal(Flip(1)(images, np.random.default_rng(0)), images[..., ::-1])


def test_a_chain_applies_in_order_from_one_generator():
    images, rng = draw(), np.random.default_rng(3)
    expected = Flip()(Shift(1)(images, rng), rng)
    np.testing.assert_array_equal(Chain(Shift(1), Flip())(images, np.random.default_rng(3)), expected)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda rng: Shift(-1), ValueError, "max_shift must be >= 0, got -1"),
        (lambda rng: Shift(1.5), TypeError, "max_shift must be an integer"),
        (lambda rng: Crop(-1), ValueError, "padding must be >= 0, got -1"),
        (lambda rng: Flip(1.1), ValueError, "p must be finite and >= 0 and <= 1"),
        (lambda rng: Flip(float("nan")), ValueError, "p must be finite"),
        (lambda rng: Chain(Flip(), 3), TypeError, "takes augmentations, got int"),
        (lambda rng: Shift(4)(draw(), rng), ValueError, "max_shift must be smaller than .* got 4 for images of 4 x 5"),
        (lambda rng: Crop(4)(draw(), rng), ValueError, "padding must be smaller than .* got 4 for images of 4 x 5"),
        (lambda rng: Shift(1)(draw()[0], rng), ValueError, r"expects images \(N, C, H, W\), got \(2, 4, 5\)"),
        (lambda rng: Flip()(draw()[0], rng), ValueError, r"expects images \(N, C, H, W\)"),
    ],
)
def test_bad_options_and_images_are_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(np.random.default_rng(0))
