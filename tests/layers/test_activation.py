"""The elementwise activations, each against its formula, its numerical derivative and its extremes."""

from __future__ import annotations

import math
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

from uanref import backend, gradcheck, kernels
from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh, leaky_relu_backward, relu_backward
from uanref.layers.base import Layer
from uanref.layers.dropout import drop

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


# --- far out, at infinity, at NaN -----------------------------------------------------------------

INF, NAN = np.inf, np.nan


def both_ways(layer: Layer, x: np.ndarray, dy: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return y and dx from a backend, as host arrays; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, dx = layer.forward(backend.to_device(x, where)), layer.backward(backend.to_device(dy, where))
    assert y.dtype == dx.dtype == x.dtype
    return backend.to_host(y), backend.to_host(dx)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", [None, 0.0, 1e-60, 0.25, 1.0])
def test_a_kink_selects_and_multiplies_nothing_by_0(slope: float | None, dtype: str, device) -> None:
    if slope == 1e-60 and dtype == "float64":
        pytest.skip("a slope that is 0 in float32 alone")
    a = np.array(slope or 0.0, dtype=dtype)
    x = np.array([-2.5, -2.5, -2.5, 1.5, 1.5, 0.0, INF, INF, -INF, -INF, NAN, NAN, NAN], dtype=dtype)
    dy = np.array([INF, -INF, NAN, INF, -0.7, INF, -0.7, INF, 1.3, INF, 0.4, INF, 0.0], dtype=dtype)
    expected = np.array([*dy[:10], NAN, NAN, NAN], dtype=dtype)
    negative = [0, 1, 2, 5, 8, 9]
    expected[negative] = a * dy[negative] if a else 0.0
    y, dx = both_ways(ReLU() if slope is None else LeakyReLU(slope), x, dy, device.backend)
    lowest = -INF if a else 0.0
    np.testing.assert_array_equal(y, [-2.5 * a] * 3 + [1.5, 1.5, 0, INF, INF, lowest, lowest, NAN, NAN, NAN])
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layer", "values", "slopes"),
    [
        (Tanh(), [-1, 1, -1, 1], [0, 0, 0, 0]),
        (Sigmoid(), [0, 1, 0, 1], [0, 0, 0, 0]),
        (GELU(), [0, 1e30, 0, INF], [0, 1, 0, 1]),
    ],
    ids=["Tanh", "Sigmoid", "GELU"],
)
def test_at_infinity_is_the_limit_and_at_nan_nan(layer: Layer, values: list, slopes: list, dtype: str, device) -> None:
    x = np.array([-1e30, 1e30, -INF, INF, NAN], dtype=dtype)
    dy = draw_array((5,), 1, dtype=dtype)
    y, dx = both_ways(layer, x, dy, device.backend)
    np.testing.assert_array_equal(y, np.array([*values, NAN], dtype=dtype))
    np.testing.assert_array_equal(dx, dy * np.array([*slopes, NAN], dtype=dtype))


# x, f, f' of GELU, by mpmath 1.3 with mp.dps = 40, printed by nstr(value, 17):
# f = x erfc(-x / sqrt(2)) / 2 and f' = erfc(-x / sqrt(2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi). Every x is a float32.
GELU_TABLE = np.array([
    (-37.5, -1.7270073785932331e-306, -6.4762711430558126e-305),
    (-36.6875, -2.1200167865557171e-293, -7.7778030309234809e-292),
    (-29.3125, -1.0533602117004986e-187, -3.0876538041475818e-186),
    (-20.15625, -2.3904491731288365e-89, -4.8181914381272264e-88),
    (-14.078125, -3.6437754080780464e-44, -5.1294977366359191e-43),
    (-10.296875, -3.7474189441287336e-24, -3.8580142342314913e-23),
    (-8.203125, -9.6065746762477959e-16, -7.8771462755076914e-15),
    (-8.0, -4.9767684594174273e-15, -3.979607261086796e-14),
    (-6.515625, -2.358252691594923e-10, -1.5350159559913451e-9),
    (-5.5, -1.0444259356238246e-7, -5.7334723987399248e-7),
    (-4.453125, -1.8843276383361284e-5, -8.3564619360904225e-5),
    (-3.125, -0.0027782040597138502, -0.0085555310608876807),
    (-2.5625, -0.013314953416608609, -0.033147878569313322),
    (-2.015625, -0.044181697328490047, -0.08354485530778289),
    (-1.53125, -0.096244894814198165, -0.12629571992416163),
    (-1.078125, -0.15146469033105968, -0.10004548271440421),
    (-1.0, -0.15865525393145705, -0.083315470587686298),
    (-0.9375, -0.16336004238800847, -0.066756076257021421),
    (-0.703125, -0.16944533913044024, 0.021916198026106669),
    (-0.25, -0.10032341857926907, 0.30462664511636397),
    (-0.0009765625, -0.00048790078905392525, 0.49922081610628687),
    (0.0009765625, 0.00048866171094607475, 0.50077918389371313),
    (0.25, 0.14967658142073093, 0.69537335488363603),
    (0.8125, 0.64329493045341147, 1.0247617741096028),
    (1.5, 1.3997891980967129, 1.1274691922299795),
    (3.28125, 3.2795544452870718, 1.005495156952182),
    (8.0, 7.999999999999995, 1.0000000000000398),
    (40.0, 40.0, 1.0),
])  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_keeps_its_digits_in_the_tail(dtype: str, device) -> None:
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    if device.kind == "cupy":
        eps *= 2  # CUDA's erfcx: up to 4 ulp by itself
    x, f, slope = GELU_TABLE.T
    dy = draw_array(x.shape, 1, dtype=dtype)
    y, dx = (a.astype("float64") for a in both_ways(GELU(), x.astype(dtype), dy, device.backend))
    normal = np.abs(f) >= tiny
    np.testing.assert_allclose(y[normal], f[normal], rtol=4 * eps, atol=0)
    np.testing.assert_allclose(y[~normal], 0.0, atol=tiny)
    expected = slope * dy
    tail = ((x < -2) | (x > 0)) & (np.abs(expected) >= tiny) & (np.abs(slope) >= tiny)
    np.testing.assert_allclose(dx[tail], expected[tail], rtol=5 * eps, atol=0)
    np.testing.assert_allclose(dx, expected, rtol=5 * eps, atol=eps)  # about the zero of f' at -0.75


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [Tanh, Sigmoid])
def test_a_slope_that_dies_away_keeps_its_digits(kind: type[Layer], dtype: str, device) -> None:
    far = 40.0 if dtype == "float32" else 350.0
    x = np.concatenate([np.linspace(-far, far, 61), [9.5, 19.5, 37.5, -17.25]]).astype(dtype)
    dy = draw_array(x.shape, 1, dtype=dtype)
    _, dx = both_ways(kind(), x, dy, device.backend)
    exact = np.abs(x.astype("longdouble")) * (2 if kind is Tanh else 1)
    slope = np.exp(-exact) / (1 + np.exp(-exact)) ** 2 * (4 if kind is Tanh else 1)
    assert (dx != 0).all()
    np.testing.assert_allclose(dx, (slope * dy).astype("float64"), rtol=8 * np.finfo(dtype).eps, atol=0)


@every
def test_float32_is_float64_rounded(make: Callable[[], Layer], formula: Callable, device) -> None:
    x, dy = 3.0 * draw_array((40, 5), 1, dtype="float32"), draw_array((40, 5), 2, dtype="float32")
    single = both_ways(make(), x, dy, device.backend)
    double = both_ways(make(), x.astype("float64"), dy.astype("float64"), device.backend)
    for found, expected in zip(single, double, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", [(1.0, -1.0, math.inf, -math.inf, math.nan), (1.0, -2.0, math.inf), (1.0, 2.0)])
def test_faster_choices_are_the_definition_s_at_infinity_and_nan(values: tuple[float, ...], dtype: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.choice(np.array([*values, 0.0, -0.0]), (7, 3, 8, 9)).astype(dtype)
    dy = rng.choice([1.0, 2.0, math.inf, -math.inf, math.nan, 0.0], x.shape).astype(dtype)
    y = np.maximum(x, 0)
    calls = [(relu_backward, dy, y), (relu_backward, dy[..., ::-2], y[..., ::-2]), (drop, dy, x > 0.5, 0.3)]
    calls += [(leaky_relu_backward, dy, x, slope) for slope in (0.0, 0.1, 1.0)]
    for function, *arguments in calls:
        with np.errstate(invalid="ignore"), backend.plain():
            expected = function(*arguments)
        with np.errstate(invalid="ignore"), backend.plain(False), kernels.watched() as served:
            found = function(*arguments)
        assert len(served) == 1
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
