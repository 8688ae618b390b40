from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import draw_array

from uanref import backend
from uanref.neighbours.streaming import StreamingNorm

SEEDS = st.integers(0, 2**32 - 1)


def assert_moments(norm: StreamingNorm, window: np.ndarray, tolerance: float) -> None:
    """Compare with a batch recomputation of the window, in extended precision where the machine has it."""
    wide = window.astype(np.longdouble)
    mean, variance = norm.moments()
    spread = np.maximum(wide.var(axis=0), np.finfo("float64").tiny)
    scale = np.maximum(np.abs(wide.mean(axis=0)), np.sqrt(spread))
    assert (np.abs(mean - wide.mean(axis=0)) <= tolerance * scale).all()
    assert (np.abs(variance - wide.var(axis=0)) <= tolerance * spread).all()


@given(st.integers(1, 12), st.integers(1, 60), st.integers(1, 3), SEEDS, st.floats(-1e6, 1e6))
def test_every_window_is_the_batch_recomputation(window, steps, features, seed, offset):
    stream = offset + draw_array((steps, features), seed)
    norm = StreamingNorm(features, window)
    for t in range(steps):
        norm.push(stream[t])
        assert norm.count == min(t + 1, window)
        assert_moments(norm, stream[max(0, t + 1 - window) : t + 1], 1e-10)


@given(st.integers(2, 9), st.integers(1, 40), SEEDS)
def test_run_normalizes_each_step_by_its_own_window(window, steps, seed):
    stream = 3.0 + draw_array((steps, 2), seed)
    before = stream.copy()
    y = StreamingNorm(2, window, eps=1e-3).run(stream)
    for t in range(steps):
        part = stream[max(0, t + 1 - window) : t + 1]
        expected = (stream[t] - part.mean(axis=0)) / np.sqrt(part.var(axis=0) + 1e-3)
        np.testing.assert_allclose(y[t], expected, atol=1e-10)
    np.testing.assert_array_equal(stream, before)


def drifting(steps: int, seed: int) -> np.ndarray:
    """A stream made to defeat running sums: a walk, a steady climb, a jump of scale, a distant constant part."""
    z = np.random.default_rng(seed).standard_normal((steps, 4))
    t = np.arange(steps) / steps
    z[:, 0] = z[:, 0].cumsum()
    z[:, 1] += 1e5 * t
    z[:, 2] *= np.where(t < 0.5, 1e6, 1e-3)
    z[:, 3] += 1e7
    return z


def check_long(steps: int, window: int, looks: int) -> None:
    stream, norm = drifting(steps, 0), StreamingNorm(4, window)
    stops = set(np.linspace(window, steps, looks, dtype=int).tolist())
    for t in range(steps):
        norm.push(stream[t])
        if t + 1 in stops:
            assert_moments(norm, stream[t + 1 - window : t + 1], 1e-10)
    assert norm.steps == steps
    assert steps in stops


@pytest.mark.parametrize("window", [7, 100, 1000])
def test_ten_thousand_steps(window):
    check_long(10_000, window, 50)


@pytest.mark.slow
def test_a_million_steps():
    check_long(1_000_000, 257, 1000)


@pytest.mark.parametrize("bad", [1e100, -1e15, np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_outlier_leaves_with_its_window(bad):
    """Wherever in a block it stood, what comes after does not remember it, to the last bit."""
    for place in range(5):
        clean = draw_array((40, 1), 1)
        spoilt = clean.copy()
        spoilt[10 + place] = bad
        a, b = StreamingNorm(1, 5), StreamingNorm(1, 5)
        for t in range(40):
            a.push(clean[t])
            b.push(spoilt[t])
            same = all(np.array_equal(p, q) for p, q in zip(a.moments(), b.moments(), strict=True))
            assert same is not (10 + place <= t < 15 + place)


def test_memory_does_not_grow_with_the_stream():
    def held(norm: StreamingNorm) -> int:
        parts = {**vars(norm), **vars(norm._newer)}
        return sum(value.size for value in parts.values() if isinstance(value, np.ndarray))

    norm = StreamingNorm(3, 10)
    norm.push(np.zeros(3))
    start = held(norm)
    norm.run(draw_array((500, 3), 0))
    assert held(norm) == start <= 3 * (3 * 10 + 4)


def test_a_constant_stream_has_variance_zero_exactly():
    norm = StreamingNorm(1, 4)
    for _ in range(23):
        norm.push(np.array([0.1]))
        assert norm.moments() == (0.1, 0.0)
    np.testing.assert_array_equal(norm.normalize(np.array([0.1])), [0.0])


def test_pushed_arrays_are_copied():
    norm, x = StreamingNorm(1, 3), np.array([1.0])
    for value in (1.0, 2.0, 3.0):
        x[0] = value
        norm.push(x)
    mean, variance = norm.moments()
    assert mean[0] == pytest.approx(2.0)
    assert variance[0] == pytest.approx(2.0 / 3.0)
    earlier = mean.copy()
    norm.push(np.array([9.0]))
    np.testing.assert_array_equal(mean, earlier)


def test_float32_streams_keep_their_dtype():
    y = StreamingNorm(2, 4, dtype="float32").run(draw_array((9, 2), 0, dtype="float32"))
    assert y.dtype == np.float32


def test_device_equals_host(strict_cupy):
    stream = draw_array((25, 2), 0)
    expected = StreamingNorm(2, 4).run(stream)
    with backend.using("cupy"):
        norm = StreamingNorm(2, 4)
    device_stream = backend.to_device(stream, "cupy")
    with strict_cupy.sealed():
        y = norm.run(device_stream)
    np.testing.assert_array_equal(backend.to_host(y), expected)


def test_bad_input():
    norm = StreamingNorm(2, 3)
    with pytest.raises(RuntimeError, match="no moments before the first sample"):
        norm.moments()
    with pytest.raises(ValueError, match=r"expects a sample \(2,\), got \(3,\)"):
        norm.push(np.zeros(3))
    with pytest.raises(TypeError, match="computes in float64, got float32"):
        norm.push(np.zeros(2, "f4"))
    with pytest.raises(ValueError, match=r"expects \(T, C\), got \(2,\)"):
        norm.run(np.zeros(2))
    assert norm.steps == 0
    for options, words in (
        ({"num_features": 0}, "num_features must be >= 1"),
        ({"window": 0}, "window must be >= 1"),
        ({"eps": 0.0}, "eps must be finite and > 0"),
    ):
        with pytest.raises(ValueError, match=words):
            StreamingNorm(**{"num_features": 2, "window": 3, **options})
