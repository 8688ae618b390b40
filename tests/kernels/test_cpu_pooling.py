"""Pooling in two steps over frames: as defined for every window, with ties, NaN and infinity; threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrays import LAYOUTS
from support.layouts import laid_out

from uanref import backend
from uanref.kernels.cpu import frames, pooling
from uanref.layers.pooling import max_pool, max_pool_backward, mean_pool, mean_pool_backward
from uanref.layers.window import Window

INF, NAN = np.inf, np.nan
VALUES = {
    "numbers": None,
    "ties": [-1.0, 0.0, -0.0, 2.0],
    "infinity": [-INF, INF, 1.0],
    "nothing": [-INF, -INF, -INF, 1.0],
    "nan": [NAN, INF, 0.0, 1.0],
}


@st.composite
def windows(draw: st.DrawFn) -> Window:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    down, across = (draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.one_of(st.just(kernel), st.tuples(st.integers(1, 4), st.integers(1, 4))))
    return Window(kernel, stride, (1, 1), (down, down, across, across))


@settings(max_examples=settings.default.max_examples * 2)
@given(
    window=windows(),
    more=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    seed=st.integers(0, 10**6),
    values=st.sampled_from(sorted(VALUES)),
    dtype=st.sampled_from(["float32", "float64"]),
    layout=st.sampled_from(LAYOUTS),
)
def test_as_defined(window: Window, more: tuple[int, int], seed: int, values: str, dtype: str, layout: str) -> None:
    rng = np.random.default_rng(seed)
    shape = (3, 2, *(max(1, k - 2 * p) + m for k, p, m in zip(window.kernel, window.margins[::2], more, strict=True)))
    x = rng.standard_normal(shape) if VALUES[values] is None else rng.choice(VALUES[values], shape)
    x = laid_out(x.astype(dtype), layout)
    dy = laid_out(rng.standard_normal((3, 2, *window.positions(shape))).astype(dtype), layout)
    if values == "infinity":
        dy[dy > 1.0] = INF
    found = []
    with np.errstate(invalid="ignore"):
        for plain in (True, False):
            with backend.plain(plain):
                y = max_pool(x, window)
                dx = max_pool_backward(dy, x, y, window)
                means = [mean_pool(x, window), mean_pool_backward(dy, shape, window)]
            found.append([y, dx, *means])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_threads_share_the_blocks_and_change_no_bit(kernel: int, padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window((kernel, kernel), (2, 2), (1, 1), (padding,) * 4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 8, 14, 14)).astype("float32")
    monkeypatch.setattr(pooling, "NUMBERS", 200)
    assert len(pooling.sample_blocks(x, 200 * x[0].size)) > 3
    found = []
    for threads in (1, 2):
        with backend.limit_threads(threads), backend.plain(False):
            y = max_pool(x, window)
            found.append((y, max_pool_backward(y, x, y, window), mean_pool(x, window)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_earlier_result_outlives_the_buffers() -> None:
    window = Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("float32")
    y = max_pool(x, window)
    dx = max_pool_backward(y, x, y, window)
    before = y.copy(), dx.copy()
    other = max_pool(-x, window)
    max_pool_backward(other, -x, other, window)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(dx, before[1])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "strides", "is_image", "is_tiled", "is_wasteful"),
    [
        (2, 2, 0, 8, 4, True, True, False),
        (2, 2, 0, 9, 4, False, False, False),
        (3, 3, 0, 6, 2, True, True, False),
        (3, 2, 0, 9, 5, False, False, False),
        (3, 2, 0, 10, 5, True, False, False),
        (3, 2, 0, 4, 2, True, False, True),
        (1, 2, 0, 4, 2, True, False, False),
        (3, 1, 1, 5, 7, False, False, False),
        (2, 2, 1, 4, 3, False, False, False),
    ],
)
def test_frames(
    kernel: int, stride: int, padding: int, size: int, strides: int, is_image: bool, is_tiled: bool, is_wasteful: bool
) -> None:
    window = Window((kernel, kernel), (stride, stride), (1, 1), (padding,) * 4)
    of = frames.frame(window, (1, 1, size, size))
    assert of.strides == (strides, strides)
    assert of.size == (strides * stride, strides * stride)
    assert (of.is_image, of.is_tiled, of.is_wasteful) == (is_image, is_tiled, is_wasteful)
