"""Dropout: the mask, its scale, its generator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array
from support.requirements import require_cupy

from uanref import backend, gradcheck
from uanref.layers.base import Sequential
from uanref.layers.dropout import Dropout

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@given(
    shape=shapes, seed=st.integers(0, 10**6), p=st.sampled_from([0.0, 0.1, 0.5, 0.9]), layout=st.sampled_from(LAYOUTS)
)
def test_entries_are_dropped_or_scaled_and_the_gradient_takes_the_same_mask(
    shape: tuple[int, ...], seed: int, p: float, layout: str
) -> None:
    x, dy = draw_array(shape, seed, layout=layout), draw_array(shape, seed + 1)
    before = x.copy()
    layer = Dropout(p, rng=np.random.default_rng(seed))
    y = layer.forward(x)
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-15)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx, np.where(kept, dy / (1 - p), 0.0), rtol=1e-15)
    np.testing.assert_array_equal(x, before)
    gradcheck.assert_ok(layer, x, directions=1, complex_step=True)


def test_share_and_mean_are_as_promised() -> None:
    x = np.ones(100_000, dtype="float32")
    for p in (0.2, 0.7):
        y = Dropout(p, rng=np.random.default_rng(3)).forward(x)
        # Five standard deviations of a binomial share.
        assert abs(float((y == 0).mean()) - p) < 5 * np.sqrt(p * (1 - p) / x.size)
        assert y.mean() == pytest.approx(1.0, abs=5 * np.sqrt(p / (1 - p) / x.size))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eval_mode_is_the_identity_and_draws_nothing(dtype: str) -> None:
    layer, x, dy = Dropout(0.5).eval(), draw_array((3, 4), 1, dtype=dtype), draw_array((3, 4), 2, dtype=dtype)
    state = layer.rng.bit_generator.state
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(dy), dy)
    assert layer.rng.bit_generator.state == state


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept_and_the_mask_does_not_depend_on_it_or_on_layout(dtype: str) -> None:
    x = 1.0 + draw_array((6, 7), 1, dtype=dtype) ** 2
    y, y64 = Dropout(0.4).forward(x), Dropout(0.4).forward(np.asfortranarray(x.astype("float64")))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y == 0, y64 == 0)


def test_every_forward_draws_a_new_mask_and_backward_finds_its_own() -> None:
    layer, x = Dropout(0.5), np.ones((5, 20))
    y1, y2 = layer.forward(x), layer.forward(x)
    assert (y1 != y2).any()
    dy1, dy2 = draw_array(x.shape, 1), draw_array(x.shape, 2)
    np.testing.assert_allclose(layer.backward(dy2), dy2 * y2)
    np.testing.assert_allclose(layer.backward(dy1), dy1 * y1)


def test_the_generator_is_found_and_its_state_repeats_the_mask() -> None:
    model, x = Sequential(Dropout(0.5, rng=np.random.default_rng(7))), np.ones((4, 8))
    generator = model.generators()["0"]
    state = generator.bit_generator.state
    first = model.forward(x)
    generator.bit_generator.state = state
    np.testing.assert_array_equal(model.forward(x), first)


def test_without_a_generator_two_layers_agree() -> None:
    x = np.ones((4, 8))
    np.testing.assert_array_equal(Dropout(0.5).forward(x), Dropout(0.5, rng=np.random.default_rng(0)).forward(x))


def test_a_device_drops_the_same_entries_and_is_not_waited_for() -> None:
    require_cupy()
    from support.strictcp import strict

    x, dy = draw_array((4, 5), 1, dtype="float32"), draw_array((4, 5), 2, dtype="float32")
    host, moved = Dropout(0.4), Dropout(0.4)
    y, dx = host.forward(x), host.backward(dy)
    with strict() as device:
        on_device = backend.to_device(x, "cupy"), backend.to_device(dy, "cupy")
        with device.sealed():
            found = moved.forward(on_device[0]), moved.backward(on_device[1])
        np.testing.assert_array_equal(backend.to_host(found[0]), y)
        np.testing.assert_array_equal(backend.to_host(found[1]), dx)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_dropped_is_0_whatever_it_was(dtype: str, device) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1.0] * 8, dtype=dtype)
    dy = np.roll(x, 1)
    layer = Dropout(0.5, rng=np.random.default_rng(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, dx = (
            backend.to_host(a)
            for a in (
                layer.forward(backend.to_device(x, device.backend)),
                layer.backward(backend.to_device(dy, device.backend)),
            )
        )
    kept = np.random.default_rng(3).random(x.shape, dtype="float32") >= 0.5
    assert all(0 < kept[i::4].sum() < 8 for i in range(4)), "every value must be both dropped and kept"
    np.testing.assert_array_equal(y, np.where(kept, 2 * x, 0))
    np.testing.assert_array_equal(dx, np.where(kept, 2 * dy, 0))


def test_float32_is_float64_rounded(device) -> None:
    x, dy = draw_array((6, 7), 1, dtype="float32"), draw_array((6, 7), 2, dtype="float32")
    found = []
    for dtype in ("float32", "float64"):
        layer = Dropout(0.3)
        y = layer.forward(backend.to_device(x.astype(dtype), device.backend))
        dx = layer.backward(backend.to_device(dy.astype(dtype), device.backend))
        assert y.dtype == dx.dtype == dtype
        found.append((backend.to_host(y), backend.to_host(dx)))
    for single, double in zip(*found, strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-6)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_p_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="p must be"):
        Dropout(p)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="p must be a number"):
        Dropout("half")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator or None, got int"):
        Dropout(0.5, rng=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="floating point"):
        Dropout(0.5).forward(np.arange(4))
    with pytest.raises(ValueError, match="empty batch"):
        Dropout(0.5).forward(np.zeros((0, 4)))
    with pytest.raises(RuntimeError, match="pending"):
        Dropout(0.5).backward(np.zeros((1, 4)))
