"""The elementwise activations, each against its formula, its numerical derivative and its extremes."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array
from support.requirements import require_torch

from uanref import backend, gradcheck
from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from uanref.layers.base import Layer

FORMULAS: list[tuple[Callable[[], Layer], Callable[[np.ndarray], np.ndarray]]] = [
    (ReLU, lambda x: np.where(x > 0, x, 0.0)),
    (LeakyReLU, lambda x: np.where(x > 0, x, 0.01 * x)),
    (lambda: LeakyReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    (Tanh, np.tanh),
    (Sigmoid, scipy.special.expit),
    (GELU, lambda x: x * scipy.stats.norm.cdf(x)),
]
NAMES = ["ReLU", "LeakyReLU", "LeakyReLU(0.3)", "Tanh", "Sigmoid", "GELU"]
KINKED = (ReLU, LeakyReLU)
every = pytest.mark.parametrize(("make", "formula"), FORMULAS, ids=NAMES)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@every
@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_forward_is_the_formula_and_backward_its_derivative(
    make: Callable[[], Layer], formula: Callable, shape: tuple[int, ...], seed: int, layout: str
) -> None:
    layer, x = make(), 2.0 * draw_array(shape, seed, layout=layout)
    if isinstance(layer, KINKED):
        x = x + np.copysign(0.1, x)  # away from the kink, which has its own tests
    before = x.copy()
    np.testing.assert_allclose(layer.forward(x), formula(x), rtol=1e-13, atol=1e-15)
    layer.clear()
    report = gradcheck.check(layer, x, seed=seed, directions=1, complex_step=not isinstance(layer, KINKED))
    assert report.ok, str(report)
    np.testing.assert_array_equal(x, before)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_shape_are_kept_and_dy_is_not_changed(
    make: Callable[[], Layer], formula: Callable, dtype: str
) -> None:
    layer = make()
    x, dy = draw_array((3, 4, 2), 1, dtype=dtype), draw_array((3, 4, 2), 2, dtype=dtype, layout="F")
    before = dy.copy()
    y = layer.forward(x)
    dx = layer.backward(dy)
    assert (y.dtype, dx.dtype, y.shape, dx.shape) == (dtype, dtype, x.shape, x.shape)
    np.testing.assert_array_equal(dy, before)
    np.testing.assert_allclose(y, formula(x.astype("float64")), rtol=2e-6, atol=1e-7)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_inputs_neither_overflow_nor_warn(make: Callable[[], Layer], formula: Callable, dtype: str) -> None:
    layer = make()
    big = np.array([1e3, 1e10, 1e30], dtype=dtype)
    x = np.concatenate([-big, [0.0], big]).astype(dtype)
    dy = draw_array(x.shape, 3, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, dx = layer.forward(x), layer.backward(dy)
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(y, formula(x.astype("float64")), rtol=1e-6)


@every
def test_two_forwards_then_their_backwards_in_reverse(make: Callable[[], Layer], formula: Callable) -> None:
    layer = make()
    x1, x2, dy1, dy2 = (draw_array((2, 3), seed) for seed in range(4))
    layer.forward(x1)
    expected1 = layer.backward(dy1)
    layer.forward(x1)
    layer.forward(x2)
    layer.backward(dy2)
    np.testing.assert_array_equal(layer.backward(dy1), expected1)


@every
def test_wrong_input_is_refused(make: Callable[[], Layer], formula: Callable) -> None:
    layer = make()
    with pytest.raises(TypeError, match="floating point but got int64"):
        layer.forward(np.arange(3))
    with pytest.raises(ValueError, match=r"empty batch of shape \(0, 3\)"):
        layer.forward(np.zeros((0, 3)))
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(np.zeros(3))
    layer.forward(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"gradient of shape \(3, 2\) for an output of shape \(2, 3\)"):
        layer.backward(np.zeros((3, 2)))


@every
def test_inference_gives_the_same_output_and_keeps_nothing(make: Callable[[], Layer], formula: Callable) -> None:
    layer, x = make(), draw_array((4, 5), 5)
    y = layer.forward(x)
    layer.clear()
    with backend.inference():
        np.testing.assert_array_equal(layer.forward(x), y)
    with pytest.raises(RuntimeError, match="pending"):
        layer.backward(y)


@every
def test_a_single_number_passes_too(make: Callable[[], Layer], formula: Callable) -> None:
    layer = make()
    y = layer.forward(np.array(0.7))
    np.testing.assert_allclose(y, formula(np.array(0.7)))
    assert np.shape(layer.backward(np.array(-1.3))) == ()


@pytest.mark.parametrize(("layer", "slope"), [(ReLU(), 0.0), (LeakyReLU(0.25), 0.25), (LeakyReLU(0.0), 0.0)])
def test_at_the_kink_the_gradient_is_that_of_the_negative_side(layer: Layer, slope: float) -> None:
    dy = draw_array((4,), 1)
    layer.forward(np.array([0.0, -0.0, 1.0, -1.0]))
    np.testing.assert_array_equal(layer.backward(dy), dy * [slope, slope, 1.0, slope])


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(0.25)])
def test_the_gradient_check_reports_the_kink(layer: Layer) -> None:
    report = gradcheck.check(layer, np.array([0.0, 1.0, -1.0]))
    assert report.ok, str(report)
    assert report.kinks


def test_sigmoid_keeps_the_digits_of_tiny_outputs() -> None:
    x = np.array([-80.0, -17.0], dtype="float32")
    np.testing.assert_allclose(Sigmoid().forward(x), np.exp(x.astype("float64")), rtol=1e-6)


@pytest.mark.parametrize("slope", [-0.1, 1.5, float("nan"), float("inf")])
def test_leaky_relu_refuses_a_slope_outside_0_to_1(slope: float) -> None:
    with pytest.raises(ValueError, match="negative_slope must be finite and >= 0 and <= 1"):
        LeakyReLU(slope)


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (ReLU, "relu", {}),
        (LeakyReLU, "leaky_relu", {}),
        (Tanh, "tanh", {}),
        (Sigmoid, "sigmoid", {}),
        (GELU, "gelu", {}),
    ],
)
def test_as_pytorch(make: Callable[[], Layer], name: str, options: dict) -> None:
    torch = require_torch()
    x, dy = 3.0 * draw_array((5, 7), 1), draw_array((5, 7), 2)
    x[0, 0] = 0.0
    tx = torch.tensor(x, requires_grad=True)
    ty = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    out = ty(tx, **options)
    out.backward(torch.tensor(dy))
    layer = make()
    np.testing.assert_allclose(layer.forward(x), out.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(layer.backward(dy), tx.grad.numpy(), rtol=1e-12, atol=1e-15)
