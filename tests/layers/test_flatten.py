"""Flatten: shapes and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array

from uanref import gradcheck
from uanref.layers.flatten import Flatten

shapes = st.lists(st.integers(1, 4), min_size=2, max_size=5).map(tuple)


@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_rows_are_samples_in_order(shape: tuple[int, ...], seed: int, layout: str) -> None:
    x = draw_array(shape, seed, layout=layout)
    y = Flatten().forward(x)
    assert y.shape == (shape[0], np.prod(shape[1:]))
    for row, sample in zip(y, x, strict=True):
        np.testing.assert_array_equal(row, sample.ravel(order="C"))
    gradcheck.assert_ok(Flatten(), x, directions=1, complex_step=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backward_restores_shape_and_dtype(dtype: str) -> None:
    layer, dy = Flatten(), draw_array((2, 12), 1, dtype=dtype, layout="F")
    assert layer.forward(draw_array((2, 3, 4), 2, dtype=dtype)).dtype == dtype
    dx = layer.backward(dy)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, dy.reshape(2, 3, 4))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two axes, got \(3,\)"):
        Flatten().forward(np.zeros(3))
    with pytest.raises(ValueError, match="empty batch"):
        Flatten().forward(np.zeros((0, 3, 3)))
    with pytest.raises(TypeError, match="floating point"):
        Flatten().forward(np.zeros((2, 3), dtype=int))
    with pytest.raises(RuntimeError, match="pending"):
        Flatten().backward(np.zeros((2, 3)))
