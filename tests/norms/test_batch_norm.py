from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, draw_array, shake

from uanref import backend, gradcheck
from uanref.norms.batch import BatchNorm

SEEDS = st.integers(0, 2**32 - 1)


@given(channel_shapes(), SEEDS, st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients_in_train_mode(shape, seed, affine, layout):
    x = draw_array(shape, seed, layout=layout)
    layer = shake(BatchNorm(shape[1], eps=1e-2, affine=affine, dtype="float64"), seed)
    gradcheck.assert_ok(layer, x, seed=seed, complex_step=True)


@given(channel_shapes(min_samples=1), SEEDS, st.booleans())
def test_gradients_in_eval_mode(shape, seed, affine):
    layer = shake(BatchNorm(shape[1], affine=affine, dtype="float64"), seed).eval()
    layer.running_mean = draw_array((shape[1],), seed + 1)
    layer.running_var = 0.1 + draw_array((shape[1],), seed + 2) ** 2
    gradcheck.assert_ok(layer, draw_array(shape, seed), seed=seed, complex_step=True)


@given(channel_shapes(), SEEDS, st.sampled_from(["float32", "float64"]))
def test_output_is_the_definition(shape, seed, dtype):
    x = draw_array(shape, seed, dtype=dtype)
    before = x.copy()
    layer = shake(BatchNorm(shape[1], dtype=dtype), seed)
    y = layer.forward(x)

    axes = (0, *range(2, len(shape)))
    wide = x.astype("float64")
    column = (1, -1) + (1,) * (len(shape) - 2)
    x_hat = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + layer.eps)
    expected = layer.gamma.value.reshape(column) * x_hat + layer.beta.value.reshape(column)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(y, expected, atol=1e-4 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("size", [(8, 3, 5, 5), (40, 16, 16, 16)], ids=["one block", "many blocks"])
def test_running_moments_follow_pytorchs_convention(size):
    """momentum weighs the new value; the running variance is the unbiased M/(M-1) one, the batch's is biased."""
    x = 3.0 + 2.0 * draw_array(size, 0)
    layer = BatchNorm(size[1], momentum=0.25, dtype="float64")
    layer.forward(x)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-12)


def test_eval_uses_and_keeps_the_running_moments():
    layer = BatchNorm(2, dtype="float64").eval()
    layer.running_mean, layer.running_var = np.array([1.0, -2.0]), np.array([4.0, 0.25])
    x = draw_array((3, 2), 1)
    y = layer.forward(x)
    np.testing.assert_allclose(y, (x - [1.0, -2.0]) / np.sqrt(np.array([4.0, 0.25]) + 1e-5), rtol=1e-13)
    np.testing.assert_array_equal(layer.running_mean, [1.0, -2.0])


def test_ones_upstream_hide_every_mistake():
    """Identity 10: y has mean 0 per channel, so an all-ones dy has gradient 0; that is why checks draw dy at random."""
    layer = BatchNorm(3, affine=False, dtype="float64")
    x = draw_array((6, 3, 4), 0)
    layer.forward(x)
    assert np.abs(layer.backward(np.ones_like(x))).max() < 1e-14  # all ones on purpose
    layer.forward(x)
    assert np.abs(layer.backward(draw_array(x.shape, 1))).max() > 1e-2


@pytest.mark.versions("threads")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    x, dy = draw_array((32, 16, 16, 16), 0, dtype="float32"), draw_array((32, 16, 16, 16), 1, dtype="float32")
    results = []
    for count in (1, threads):
        layer = BatchNorm(16)
        with backend.limit_threads(count):
            results.append((layer.forward(x), layer.backward(dy), layer.gamma.grad, layer.running_var))
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


def test_two_forwards_then_two_backwards():
    layer = BatchNorm(2, dtype="float64")
    x1, x2, dy = draw_array((4, 2), 1), draw_array((5, 2), 2), draw_array((5, 2), 3)
    layer.forward(x2)
    alone = layer.backward(dy)
    layer.forward(x1)
    layer.forward(x2)
    np.testing.assert_array_equal(layer.backward(dy), alone)
    assert layer.backward(dy[:4]).shape == x1.shape
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(dy)


def test_gradients_accumulate_only_when_told():
    layer = BatchNorm(2, dtype="float64")
    x, dy = draw_array((4, 2), 1), draw_array((4, 2), 2)
    layer.forward(x)
    layer.backward(dy)
    once = layer.gamma.grad.copy()
    with backend.accumulating():
        layer.forward(x)
        layer.backward(dy)
    np.testing.assert_allclose(layer.gamma.grad, 2 * once, rtol=1e-14)
    layer.forward(x)
    layer.backward(dy)
    np.testing.assert_array_equal(layer.gamma.grad, once)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros(3, "f4"), ValueError, r"expects \(N, 3, ...\), got \(3,\)"),
        (np.zeros((4, 2), "f4"), ValueError, r"expects \(N, 3, ...\), got \(4, 2\)"),
        (np.zeros((4, 3)), TypeError, "float32 parameters but got an input of float64"),
        (np.zeros((4, 3), int), TypeError, "float32 parameters but got an input of int"),
        (np.zeros((0, 3), "f4"), ValueError, "empty batch"),
        (np.zeros((1, 3), "f4"), ValueError, "needs >= 2 samples per channel"),
        ([[1.0, 2.0, 3.0]], TypeError, "expected a NumPy or CuPy array, got list"),
    ],
)
def test_bad_input(x, error, words):
    with pytest.raises(error, match=words):
        BatchNorm(3).forward(x)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_features": 0}, ValueError),
        ({"num_features": 2.5}, TypeError),
        ({"num_features": 2, "eps": -1.0}, ValueError),
        ({"num_features": 2, "eps": float("nan")}, ValueError),
        ({"num_features": 2, "momentum": 1.5}, ValueError),
        ({"num_features": 2, "dtype": "int32"}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error):
        BatchNorm(**options)


def test_state_dict_round_trip():
    layer = shake(BatchNorm(3), 0)
    layer.forward(draw_array((5, 3), 0, dtype="float32"))
    other = BatchNorm(3)
    other.load_state_dict(layer.state_dict())
    x = draw_array((5, 3), 1, dtype="float32")
    np.testing.assert_array_equal(layer.eval().forward(x), other.eval().forward(x))
