"""Linear: products, starts, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array, shake

from uanref import backend, gradcheck
from uanref.layers.base import Parameter
from uanref.layers.linear import Linear


@given(
    samples=st.integers(1, 5),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    bias=st.booleans(),
    init=st.sampled_from(["he", "glorot"]),
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(LAYOUTS),
)
def test_forward_and_gradients(
    samples: int, inputs: int, outputs: int, bias: bool, init: str, seed: int, layout: str
) -> None:
    layer = Linear(inputs, outputs, bias, init=init, dtype="float64", rng=np.random.default_rng(seed))
    shake(layer, seed)
    x = draw_array((samples, inputs), seed, layout=layout)
    before, offset = x.copy(), layer.bias.value if layer.bias is not None else 0.0
    expected = np.einsum("ni,oi->no", x, layer.weight.value) + offset
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(x, before)
    layer.clear()
    gradcheck.assert_ok(layer, x, seed=seed, directions=1, complex_step=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtype_is_kept_whatever_the_layout(dtype: str, layout: str) -> None:
    layer = Linear(4, 3, dtype=dtype)
    x = draw_array((5, 4), 1, dtype=dtype, layout=layout)
    dy = draw_array((5, 3), 2, dtype=dtype, layout=layout)
    before = dy.copy()
    y = layer.forward(x)
    dx = layer.backward(dy)
    assert y.dtype == dx.dtype == layer.weight.grad.dtype == layer.bias.grad.dtype == dtype
    np.testing.assert_allclose(layer.weight.grad, np.einsum("no,ni->oi", dy, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dy, before)


def test_shapes_names_and_start() -> None:
    layer = Linear(200, 300)
    assert {name: p.shape for name, p in layer.parameters().items()} == {"weight": (300, 200), "bias": (300,)}
    assert layer.weight.value.dtype == "float32"
    assert not layer.bias.value.any()
    assert layer.weight.value.std() == pytest.approx(np.sqrt(2 / 200), rel=0.02)
    glorot = Linear(200, 300, init="glorot").weight.value
    bound = np.sqrt(6 / 500)
    assert np.abs(glorot).max() <= bound
    assert glorot.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_the_start_depends_on_the_generator_alone() -> None:
    first, second, other = (Linear(3, 4, rng=rng) for rng in (None, np.random.default_rng(0), np.random.default_rng(1)))
    np.testing.assert_array_equal(first.weight.value, second.weight.value)
    assert (first.weight.value != other.weight.value).any()


def test_without_bias_there_is_none() -> None:
    layer = Linear(3, 4, bias=False)
    assert layer.bias is None
    assert list(layer.parameters()) == ["weight"]


def test_backward_uses_the_weight_of_its_own_forward() -> None:
    layer, x, dy = Linear(3, 4, dtype="float64"), draw_array((2, 3), 1), draw_array((2, 4), 2)
    weight = layer.weight.value
    layer.forward(x)
    layer.weight.value = np.zeros((4, 3))  # assigned in between
    np.testing.assert_allclose(layer.backward(dy), dy @ weight)
    np.testing.assert_array_equal(layer.forward(x), np.zeros((2, 4)))


def test_inference_keeps_nothing() -> None:
    layer = Linear(3, 4)
    with backend.inference():
        layer.forward(np.zeros((2, 3), dtype="float32"))
    with pytest.raises(RuntimeError, match="pending"):
        layer.backward(np.zeros((2, 4), dtype="float32"))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 3)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Linear expects \(N, 3\), got"):
        Linear(3, 4).forward(np.zeros(shape, dtype="float32"))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"holds float32 parameters but got an input of float64.*to\('float64'\)"):
        Linear(3, 4).forward(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="empty batch"):
        Linear(3, 4).forward(np.zeros((0, 3), dtype="float32"))
    with pytest.raises(ValueError, match="in_features must be >= 1, got 0"):
        Linear(0, 4)
    with pytest.raises(TypeError, match=r"out_features must be an integer, got 2\.5"):
        Linear(3, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init must be one of 'he', 'glorot', got 'zeros'"):
        Linear(3, 4, init="zeros")
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        Linear(3, 4, dtype="int64")
    with pytest.raises(ValueError, match="gradient of shape"):
        Parameter(np.zeros((2, 3))).receive(np.zeros(3))
