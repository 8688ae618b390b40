"""Residual: two paths, one sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array

from uanref import gradcheck
from uanref.layers.activation import Tanh
from uanref.layers.base import Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.layers.residual import Residual


def linear(inputs: int, outputs: int, seed: int = 0, dtype: str = "float64") -> Linear:
    return Linear(inputs, outputs, dtype=dtype, rng=np.random.default_rng(seed))


@given(
    samples=st.integers(1, 4),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(LAYOUTS),
)
def test_both_paths_are_added_and_differentiated(
    samples: int, inputs: int, outputs: int, seed: int, layout: str
) -> None:
    body, shortcut = linear(inputs, outputs, seed), linear(inputs, outputs, seed + 1)
    layer, x = Residual(Sequential(body, Tanh()), shortcut), draw_array((samples, inputs), seed, layout=layout)
    before = x.copy()
    expected = np.tanh(x @ body.weight.value.T) + x @ shortcut.weight.value.T
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(x, before)
    layer.clear()
    gradcheck.assert_ok(layer, x, seed=seed, directions=1, complex_step=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_identity_shortcut_adds_x_and_dy(dtype: str) -> None:
    body, x, dy = linear(3, 3, dtype=dtype), draw_array((2, 3), 1, dtype=dtype), draw_array((2, 3), 2, dtype=dtype)
    layer, before = Residual(body), dy.copy()
    y = layer.forward(x)
    dx = layer.backward(dy)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    np.testing.assert_allclose(y, x + x @ body.weight.value.T, rtol=1e-6)
    np.testing.assert_allclose(dx, dy + dy @ body.weight.value, rtol=1e-6)
    np.testing.assert_array_equal(dy, before)


@pytest.mark.parametrize("body", [Sequential(), Dropout(0.5).eval()], ids=["empty", "eval dropout"])
def test_a_body_that_returns_x_itself_leaves_x_and_dy_alone(body: Sequential | Dropout) -> None:
    x, dy = draw_array((2, 3), 1), draw_array((2, 3), 2)
    before, d_before = x.copy(), dy.copy()
    layer = Residual(body)
    np.testing.assert_array_equal(layer.forward(x), 2 * before)
    np.testing.assert_array_equal(layer.backward(dy), 2 * d_before)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dy, d_before)


def test_one_layer_on_both_paths_gets_its_passes_back_in_reverse() -> None:
    shared = Tanh()
    gradcheck.assert_ok(Residual(Sequential(linear(3, 3), shared), shared), draw_array((2, 3), 1))


def test_names_modes_and_generators_reach_below() -> None:
    layer = Residual(Sequential(linear(3, 2), Dropout(0.5)), linear(3, 2))
    assert list(layer.parameters()) == ["body.0.weight", "body.0.bias", "shortcut.weight", "shortcut.bias"]
    assert list(layer.generators()) == ["body.1"]
    layer.eval()
    assert not any(below.training for _, below in layer.modules())


@pytest.mark.parametrize("outputs", [4, 1])  # 1 would broadcast
def test_different_shapes_are_refused_naming_both(outputs: int) -> None:
    with pytest.raises(
        ValueError, match=rf"body output of shape \(2, {outputs}\) to a shortcut output of shape \(2, 3\)"
    ):
        Residual(linear(3, outputs)).forward(draw_array((2, 3), 1))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="a layer as body, got function"):
        Residual(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a layer as body, got NoneType"):
        Residual(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a layer as shortcut, got str"):
        Residual(Tanh(), "identity")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"Residual.backward without a pending forward"):
        Residual(Tanh()).backward(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="floating point"):
        Residual(Tanh()).forward(np.zeros((2, 3), dtype=int))
    with pytest.raises(ValueError, match="empty batch"):
        Residual(Tanh()).forward(np.zeros((0, 3)))
