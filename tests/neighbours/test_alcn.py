from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, close, draw_array
from support.mutants import plant

from uanref import backend, gradcheck
from uanref.layers.base import Layer, Parameter
from uanref.neighbours.alcn import AdaptiveLocalContrastNorm, gaussian_matrix

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(*(st.integers(1, n) for n in (3, 2, 5, 6)))
SIGMAS = st.lists(st.floats(0.2, 3.0), min_size=1, max_size=3)


class WithWeights(Layer):
    """The layer with its second input as a parameter: the gradient check then moves both."""

    def __init__(self, inner: AdaptiveLocalContrastNorm, weights: np.ndarray) -> None:
        super().__init__("float64")
        self.inner, self.weights = inner, Parameter(weights)

    def forward(self, x):
        y = self.inner.forward(x, self.weights.value)
        self._keep(y)
        return y

    def backward(self, dy):
        self._take(dy)
        dx, dweights = self.inner.backward(dy)
        self.weights.receive(dweights)
        return dx


@given(SHAPES, SIGMAS, SEEDS, st.sampled_from(LAYOUTS))
def test_gradients(shape, sigmas, seed, layout):
    layer = WithWeights(AdaptiveLocalContrastNorm(sigmas), draw_array((shape[0], len(sigmas)), seed + 1))
    x = draw_array(shape, seed, layout=layout)
    gradcheck.assert_ok(layer, x, seed=seed, directions=2, complex_step=True)


@given(SHAPES, SIGMAS, SEEDS, st.sampled_from(["float32", "float64"]))
def test_output_is_the_weighted_sum_of_scipys_filters(shape, sigmas, seed, dtype):
    x, weights = (draw_array(s, seed, dtype=dtype) for s in (shape, (shape[0], len(sigmas))))
    before = x.copy()
    y = AdaptiveLocalContrastNorm(sigmas)(x, weights)
    expected = np.zeros(shape)
    for f, sigma in enumerate(sigmas):
        for n in range(shape[0]):
            for c in range(shape[1]):
                expected[n, c] += weights[n, f] * scipy.ndimage.gaussian_filter(
                    x[n, c].astype("float64"), sigma, mode="nearest", radius=math.ceil(3.0 * sigma)
                )
    assert y.dtype == x.dtype
    assert close(y, expected, 1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_array_equal(x, before)


@given(st.integers(1, 12), st.floats(0.05, 20.0))
def test_the_filter_keeps_a_constant_up_to_the_border(length, sigma):
    matrix = gaussian_matrix(length, sigma, np.zeros(1))
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-13)
    assert (matrix >= 0.0).all()


def test_a_narrow_filter_is_the_identity():
    np.testing.assert_array_equal(gaussian_matrix(5, 1e-3, np.zeros(1)), np.eye(5))


def test_weights_that_sum_to_zero_remove_constant_illumination():
    x, weights = draw_array((2, 1, 6, 7), 0), np.array([[1.0, -1.0], [0.5, -0.5]])
    layer = AdaptiveLocalContrastNorm([0.8, 2.0])
    y = layer.forward(x, weights)
    assert np.abs(y).max() > 1e-2
    np.testing.assert_allclose(layer.forward(x + 40.0, weights), y, atol=1e-12)


def test_two_forwards_are_followed_by_two_backwards():
    layer = AdaptiveLocalContrastNorm([1.0])
    inputs = [(draw_array((1, 1, 3, 3), seed), draw_array((1, 1), seed + 9)) for seed in (0, 1)]
    dy = draw_array((1, 1, 3, 3), 5)
    single = []
    for pair in inputs:
        layer.forward(*pair)
        single.append(layer.backward(dy))
    for pair in inputs:
        layer.forward(*pair)
    for expected in reversed(single):
        for a, b in zip(layer.backward(dy), expected, strict=True):
            np.testing.assert_array_equal(a, b)


MISTAKES = {
    "height not transposed": ("xp.matmul(down.T, xp.matmul(dy, across))", "xp.matmul(down, xp.matmul(dy, across))"),
    "width not transposed": ("xp.matmul(dy, across))", "xp.matmul(dy, across.T))"),
    "weight missing in dx": ("z *= weights[:, f, None, None, None]", "pass"),
    "last filter alone in dx": ("dx += z", "dx[...] = z"),
    "dx negated": ("dx += z", "dx -= z"),
    "dweights from the unfiltered gradient": ("(z * x).reshape", "(dy * x).reshape"),
    "dweights a mean": (".sum(axis=1)  # (N,)", ".mean(axis=1)  # (N,)"),
}


@pytest.mark.parametrize("name", ["none", *MISTAKES])
def test_mistake_is_caught(name):
    old, new = MISTAKES.get(name, ("", ""))
    module = plant(["neighbours.alcn"], "neighbours.alcn" if old else "", old, new)
    layer = WithWeights(module.AdaptiveLocalContrastNorm([0.6, 1.5]), draw_array((2, 2), 1))
    report = gradcheck.check(layer, draw_array((2, 2, 3, 4), 0), jacobian=False)
    assert report.ok is (name == "none"), report


def test_device_equals_host(strict_cupy):
    x, weights, dy = draw_array((2, 2, 4, 5), 0), draw_array((2, 2), 1), draw_array((2, 2, 4, 5), 2)
    layer = AdaptiveLocalContrastNorm([0.7, 2.0])
    expected = (layer.forward(x, weights), *layer.backward(dy))
    x_device, weights_device, dy_device = (backend.to_device(a, "cupy") for a in (x, weights, dy))
    with strict_cupy.sealed():
        found = (layer.forward(x_device, weights_device), *layer.backward(dy_device))
    for a, b in zip(found, expected, strict=True):
        assert close(backend.to_host(a), b, 1e-13)


def test_bad_input():
    layer, x = AdaptiveLocalContrastNorm([1.0, 2.0]), np.zeros((3, 1, 4, 4))
    with pytest.raises(ValueError, match=r"expects \(N, C, H, W\), got \(3, 4\)"):
        layer.forward(np.zeros((3, 4)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"expects weights \(3, 2\), got \(3, 1\)"):
        layer.forward(x, np.zeros((3, 1)))
    with pytest.raises(TypeError, match="weights of float32 for an image of float64"):
        layer.forward(x, np.zeros((3, 2), "f4"))
    with pytest.raises(ValueError, match="needs >= 1 sigma"):
        AdaptiveLocalContrastNorm([])
    with pytest.raises(ValueError, match="sigmas must be finite and > 0"):
        AdaptiveLocalContrastNorm([1.0, 0.0])
    with pytest.raises(TypeError, match="sigmas must be a number"):
        AdaptiveLocalContrastNorm(["wide"])
