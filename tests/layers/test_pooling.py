"""Pooling: against loops, against PyTorch, ties, padding, errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import requirements
from support.arrays import LAYOUTS, draw_array

from uanref import backend, gradcheck
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d

FEW = settings(max_examples=max(10, settings.default.max_examples // 2))
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def windows(draw: st.DrawFn) -> dict:
    kernel = draw(PAIRS)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    return {"kernel_size": kernel, "stride": draw(st.one_of(st.none(), PAIRS)), "padding": padding}


def require_fit(shape: tuple[int, ...], options: dict) -> None:
    assume(all(k <= n + 2 * p for n, k, p in zip(shape[2:], options["kernel_size"], options["padding"], strict=True)))


def by_loops(x: np.ndarray, dy_seed: int, options: dict, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return y, a random dy and dx, window by window; in a tie the first pixel of the window takes the gradient."""
    (kh, kw), (ph, pw) = options["kernel_size"], options["padding"]
    sh, sw = options["stride"] or (kh, kw)
    outside = -np.inf if kind == "max" else 0.0
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=outside)
    y = np.empty((*x.shape[:2], (padded.shape[2] - kh) // sh + 1, (padded.shape[3] - kw) // sw + 1))
    dy, dpadded = draw_array(y.shape, dy_seed), np.zeros(padded.shape)
    for n, c, h, w in np.ndindex(*y.shape):
        place = (n, c, slice(h * sh, h * sh + kh), slice(w * sw, w * sw + kw))
        if kind == "max":
            y[n, c, h, w] = padded[place].max()
            u, v = np.unravel_index(padded[place].argmax(), (kh, kw))  # argmax: the first one
            dpadded[n, c, h * sh + u, w * sw + v] += dy[n, c, h, w]
        else:
            y[n, c, h, w] = padded[place].mean()
            dpadded[place] += dy[n, c, h, w] / (kh * kw)
    return y, dy, dpadded[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]


@FEW
@given(
    shape=SHAPES,
    options=windows(),
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(LAYOUTS),
    kind=st.sampled_from(["max", "mean"]),
    ties=st.booleans(),
)
def test_both_ways_are_the_definition(
    shape: tuple[int, ...], options: dict, seed: int, layout: str, kind: str, ties: bool
) -> None:
    require_fit(shape, options)
    x = draw_array(shape, seed, layout=layout)
    if ties:
        x = np.round(x)
    before = x.copy()
    y, dy, dx = by_loops(x, seed + 1, options, kind)
    layer = (MaxPool2d if kind == "max" else AvgPool2d)(**options)
    np.testing.assert_allclose(layer.forward(x), y, rtol=1e-13, atol=1e-14)
    upstream = dy.copy()
    np.testing.assert_allclose(layer.backward(dy), dx, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dy, upstream)


@given(
    shape=SHAPES,
    options=windows(),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["max", "mean"]),
    ties=st.booleans(),
)
def test_both_ways_are_pytorchs(shape: tuple[int, ...], options: dict, seed: int, kind: str, ties: bool) -> None:
    torch = requirements.require_torch()
    require_fit(shape, options)
    x = draw_array(shape, seed)
    x = np.round(x) if ties else x
    layer = (MaxPool2d if kind == "max" else AvgPool2d)(**options)
    peer = (torch.nn.MaxPool2d if kind == "max" else torch.nn.AvgPool2d)(**options)
    x_peer = torch.tensor(x, requires_grad=True)
    y_peer = peer(x_peer)
    y = layer.forward(x)
    np.testing.assert_allclose(y, y_peer.detach().numpy(), rtol=1e-13, atol=1e-14)
    dy = draw_array(y.shape, seed + 1)
    y_peer.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer.backward(dy), x_peer.grad.numpy(), rtol=1e-13, atol=1e-14)


@FEW
@given(shape=SHAPES, options=windows(), seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_gradients(shape: tuple[int, ...], options: dict, seed: int, layout: str) -> None:
    require_fit(shape, options)
    # All numbers differ by at least 0.1, so that no step of the check makes another pixel the maximum.
    size = int(np.prod(shape))
    x = 0.1 * np.random.default_rng(seed).permutation(size).reshape(shape) - 0.05 * size
    gradcheck.assert_ok(MaxPool2d(**options), x, seed=seed, directions=1)
    x = draw_array(shape, seed, layout=layout)
    gradcheck.assert_ok(AvgPool2d(**options), x, seed=seed, directions=1, complex_step=True)
    gradcheck.assert_ok(GlobalAvgPool2d(), x, seed=seed, directions=1, complex_step=True)


def test_in_a_tie_the_first_maximum_takes_the_gradient() -> None:
    # 5 5 | 0 0
    # 5 1 | 0 7
    x = np.array([[5.0, 5.0, 0.0, 0.0], [5.0, 1.0, 0.0, 7.0]]).reshape(1, 1, 2, 4)
    layer = MaxPool2d(2)
    assert layer.forward(x).ravel().tolist() == [5, 7]
    dx = layer.backward(np.array([0.3, -0.8]).reshape(1, 1, 1, 2))
    assert dx[0, 0].tolist() == [[0.3, 0, 0, 0], [0, 0, 0, -0.8]]


def test_first_means_row_by_row() -> None:
    # the maximum is at the right of the first row and at the left of the second: the first row's is met first
    x = np.array([[1.0, 5.0], [5.0, 1.0]]).reshape(1, 1, 2, 2)
    layer = MaxPool2d(2)
    layer.forward(x)
    assert layer.backward(np.full((1, 1, 1, 1), 0.7))[0, 0].tolist() == [[0, 0.7], [0, 0]]


def test_a_pixel_that_wins_several_windows_collects_all_their_gradients() -> None:
    x = np.array([[0.0, 9.0, 0.0]]).reshape(1, 1, 1, 3)
    layer = MaxPool2d((1, 2), stride=1)
    assert layer.forward(x).ravel().tolist() == [9, 9]
    assert layer.backward(np.array([0.25, -2.0]).reshape(1, 1, 1, 2)).ravel().tolist() == [0, -1.75, 0]


def test_padding_of_a_maximum_is_minus_infinity_not_zero() -> None:
    x = np.full((1, 1, 2, 2), -3.0)
    assert (MaxPool2d(2, padding=1).forward(x) == -3).all()


def test_minus_infinity_itself_still_takes_its_gradient_inside_the_image() -> None:
    layer = MaxPool2d(3, stride=2, padding=1)
    layer.forward(np.full((1, 1, 2, 2), -np.inf))
    assert layer.backward(np.full((1, 1, 1, 1), 0.6))[0, 0].tolist() == [[0.6, 0], [0, 0]]


def test_padding_of_a_mean_counts() -> None:
    assert AvgPool2d(2, padding=1).forward(np.full((1, 1, 2, 2), 8.0))[0, 0].tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("size", [8, 9, 64, 200])
@pytest.mark.parametrize("level", [0.1, 252.3])
def test_the_mean_of_a_constant_image_is_that_constant_however_large_the_window(level: float, size: int) -> None:
    x = np.full((1, 1, size, size), level, "float32")
    np.testing.assert_allclose(AvgPool2d(size).forward(x), x[:, :, :1, :1], rtol=2e-6)


def test_nan_reaches_the_output() -> None:
    x = np.array([[1.0, np.nan], [2.0, 3.0]]).reshape(1, 1, 2, 2)
    assert all(np.isnan(layer.forward(x)).all() for layer in (MaxPool2d(2), AvgPool2d(2), GlobalAvgPool2d()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_infinite_gradient_reaches_the_winner_alone_and_a_nan_wins(dtype: str, device) -> None:
    inf, nan = np.inf, np.nan
    # windows of 2 x 2, side by side; the third and fourth hold NaN, the fifth -inf alone, the sixth inf
    x = np.array([[1, 4, -3, 2, nan, 5, 1, 9, -inf, -inf, inf, 0], [3, 4, 7, 0, nan, 6, 0, nan, -inf, -inf, 1, inf]])
    dy = np.array([inf, -inf, 0.75, inf, nan, -inf])
    expected = np.zeros((2, 12))
    for (row, column), value in zip([(0, 1), (1, 2), (0, 4), (1, 7), (0, 8), (0, 10)], dy, strict=True):
        expected[row, column] = value
    layer = MaxPool2d(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = layer.forward(backend.to_device(x.reshape(1, 1, 2, 12).astype(dtype), device.backend))
        dx = layer.backward(backend.to_device(dy.reshape(1, 1, 1, 6).astype(dtype), device.backend))
    np.testing.assert_array_equal(backend.to_host(y).ravel(), [4, 7, nan, nan, -inf, inf])
    np.testing.assert_array_equal(backend.to_host(dx)[0, 0], expected)


def test_a_nan_wins_every_window_that_sees_it_and_padding_none() -> None:
    layer = MaxPool2d(3, stride=1, padding=1)
    x, dy = draw_array((1, 1, 4, 4), 1), draw_array((1, 1, 4, 4), 2)
    x[0, 0, 0, 0] = np.nan
    y = layer.forward(x)
    np.testing.assert_array_equal(np.isnan(y[0, 0]), [[True, True, False, False]] * 2 + [[False] * 4] * 2)
    dx = layer.backward(dy)
    assert dx[0, 0, 0, 0] == pytest.approx(dy[0, 0, :2, :2].sum())
    assert dx.sum() == pytest.approx(dy.sum())


@pytest.mark.parametrize(
    "layer", [MaxPool2d(3, 2, 1), AvgPool2d(3, 2, 1), GlobalAvgPool2d()], ids=["max", "mean", "global"]
)
def test_float32_is_float64_rounded(layer: MaxPool2d, device) -> None:
    x = draw_array((2, 3, 6, 7), 1, dtype="float32")
    found: dict[str, list] = {}
    for dtype in ("float32", "float64"):
        y = layer.forward(backend.to_device(x.astype(dtype), device.backend))
        dy = draw_array(y.shape, 2, dtype="float32").astype(dtype)
        found[dtype] = [backend.to_host(a) for a in (y, layer.backward(backend.to_device(dy, device.backend)))]
    for single, double in zip(found["float32"], found["float64"], strict=True):
        assert single.dtype == "float32"
        np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-6)


def test_pixels_that_no_whole_window_covers_are_ignored() -> None:
    x = draw_array((2, 3, 5, 7), 1)
    for layer in (MaxPool2d(2), AvgPool2d(2)):
        y = layer.forward(x)
        assert y.shape == (2, 3, 2, 3)
        dx = layer.backward(draw_array(y.shape, 2))
        assert not dx[:, :, 4].any()
        assert not dx[:, :, :, 6].any()
        assert dx[:, :, :4, :6].any()


@given(shape=SHAPES, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_global_mean(shape: tuple[int, ...], seed: int, layout: str) -> None:
    layer, x = GlobalAvgPool2d(), draw_array(shape, seed, layout=layout)
    np.testing.assert_allclose(layer.forward(x), x.mean(axis=(2, 3)), rtol=1e-12, atol=1e-13)
    dy = draw_array(shape[:2], seed + 1, layout=layout)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx, np.broadcast_to(dy[:, :, None, None], shape) / (shape[2] * shape[3]), rtol=1e-13)
    assert dx.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", [MaxPool2d(2), MaxPool2d(3, 2, 1), AvgPool2d(3, 2, 1), GlobalAvgPool2d()])
def test_dtype_is_kept_whatever_the_layout(dtype: str, layout: str, layer: MaxPool2d) -> None:
    y = layer.forward(draw_array((2, 3, 6, 4), 1, dtype=dtype, layout=layout))
    dx = layer.backward(draw_array(y.shape, 2, dtype=dtype, layout=layout))
    assert y.dtype == dx.dtype == dtype
    assert not layer.parameters()


@pytest.mark.parametrize("make", [MaxPool2d, AvgPool2d])
def test_bad_options_and_inputs(make: type[MaxPool2d] | type[AvgPool2d]) -> None:
    with pytest.raises(ValueError, match="padding must be at most half"):
        make(3, padding=2)
    with pytest.raises(ValueError, match="stride must be >= 1"):
        make(3, stride=0)
    with pytest.raises(TypeError, match="kernel_size must be an integer"):
        make(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"larger than images of 2 x 9 with padding \(0, 0\)"):
        make(3).forward(draw_array((1, 1, 2, 9), 1))
    with pytest.raises(ValueError, match=r"expects \(N, C, H, W\), got \(2, 6\)"):
        make(2).forward(draw_array((2, 6), 1))
    with pytest.raises(TypeError, match="computes in floating point but got int64"):
        make(2).forward(np.ones((1, 1, 4, 4), dtype="int64"))


def test_global_mean_refuses_another_rank() -> None:
    with pytest.raises(ValueError, match=r"expects \(N, C, H, W\), got \(2, 3, 4\)"):
        GlobalAvgPool2d().forward(draw_array((2, 3, 4), 1))
