"""GELU in float32 by Mills' ratio: its digits, in the tail too; numbers far out; runs and threads."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special
from support.arrays import LAYOUTS, draw_array

from uanref import backend, kernels
from uanref.kernels.cpu import gelu as fast
from uanref.layers.activation import gelu, gelu_backward

EPS = np.finfo("float32").eps


def exactly(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return f(x) and f'(x) by the definition in float64."""
    with backend.plain():
        return gelu(x.astype("float64"))


def test_the_two_polynomials_give_mills_ratio() -> None:
    a = np.linspace(0.0, 14.5, 20_001)
    q, p = (np.polynomial.polynomial.polyval(a, coefficients) for coefficients in ((*fast.Q, 1.0), (*fast.P, fast.P3)))
    ratio = np.sqrt(np.pi / 2) * scipy.special.erfcx(a * np.sqrt(0.5))
    assert np.abs(q / (a * q + p) / ratio - 1.0).max() < 4.5e-8


@pytest.mark.parametrize(
    ("low", "high"), [(-13.1, -12.5), (-12.5, -8), (-8, -2), (-2, -0.5), (-0.5, 0), (0, 0.5), (0.5, 4), (4, 20)]
)
def test_every_digit_that_float32_has(low: float, high: float) -> None:
    x = np.random.default_rng(0).uniform(low, high, 200_000).astype("float32")
    f, slope = exactly(x)
    found, found_slope = fast.gelu_float32(x)
    assert found.dtype == found_slope.dtype == "float32"
    assert np.abs(found / f - 1.0).max() < 4 * EPS
    density = np.exp(-0.5 * x.astype("float64") ** 2) / np.sqrt(2 * np.pi)
    larger = np.maximum(np.abs(f / x), np.abs(x * density))  # of the two terms of f'
    assert (np.abs(found_slope - slope) / larger).max() < 4 * EPS


def test_below_the_normal_numbers_f_fades_away() -> None:
    x = np.linspace(-16.0, -13.1, 1000, dtype="float32")
    f, slope = exactly(x)
    found, found_slope = fast.gelu_float32(x)
    smallest = np.finfo("float32").smallest_subnormal
    assert np.abs(found - f).max() <= smallest
    assert np.abs(found_slope - slope).max() <= max(smallest, 4 * EPS * np.abs(slope).max())
    assert not found[x < -14.5].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 12.6, -12.6, 1e9])
def test_a_number_far_out_changes_no_bit_of_its_neighbours(value: float) -> None:
    x = 3.0 * draw_array((5000,), 1, dtype="float32")
    expected = [a.copy() for a in fast.gelu_float32(x)]
    x[[0, 1234, 4999]] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fast.gelu_float32(x)
    for one, other, exact in zip(found, expected, exactly(x), strict=True):
        np.testing.assert_allclose(one[[0, 1234, 4999]], exact[[0, 1234, 4999]], rtol=2 * EPS, atol=1e-45)
        same = np.delete(np.arange(5000), [0, 1234, 4999])
        np.testing.assert_array_equal(one[same], other[same])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 5, 7), (2, 3, 40, 300)])
def test_any_shape_and_layout(shape: tuple[int, ...], layout: str) -> None:
    x = draw_array(shape, 1, dtype="float32", layout=layout) if shape else np.array(0.7, "float32")
    dy = draw_array(shape, 2, dtype="float32", layout=layout) if shape else np.array(-1.5, "float32")
    with backend.plain(False), kernels.watched() as served:
        y, slope = gelu(x)
        dx = gelu_backward(dy, slope)
    assert len(served) == 2
    assert y.shape == slope.shape == dx.shape == shape
    for found, expected in zip((y, slope), exactly(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(dx, slope * dy)


def test_threads_share_the_runs_and_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "RUN", 1000)
    monkeypatch.setattr(fast, "PRODUCTS", 3000)
    x, dy = (draw_array((60_500,), seed, dtype="float32") for seed in (1, 2))
    lengths, walk = [], fast.walk

    def counting(task, blocks, elements):
        lengths.append([len(range(*block.indices(elements))) for block in blocks])
        return walk(task, blocks, elements)

    monkeypatch.setattr(fast, "walk", counting)
    found = []
    for threads in (1, 2):
        with backend.limit_threads(threads):
            y, slope = fast.gelu_float32(x)
            found.append((y, slope, fast.product(slope, dy)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found[0][2], found[0][1] * dy)
    assert lengths == 2 * [[1000] * 60 + [500], [3000] * 20 + [500]]


def test_results_begin_with_a_cache_line() -> None:
    for found in fast.gelu_float32(draw_array((1000,), 1, dtype="float32")):
        assert found.ctypes.data % 64 == 0
