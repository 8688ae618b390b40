"""The convolution's columns on the host: what is private to the faster version; all else is held by test_parity."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import draw_array

from uanref.kernels.cpu.blocks import Scratch
from uanref.kernels.cpu.columns import (
    ARRAY_CODE,
    add_columns,
    gradients_by_columns,
    gradients_by_correlation,
    make_columns,
    turned_window,
)
from uanref.layers import conv
from uanref.layers.window import Window, margins

WINDOW = Window((2, 3), (2, 1), (1, 2), (1, 0, 2, 1))


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"),
    [((3, 3), (1, 1), (1, 1)), ((2, 3), "same", (2, 2)), ((1, 1), (0, 0), (1, 1)), ((3, 1), (2, 0), (1, 1))],
)
def test_the_two_ways_back_agree(
    kernel: tuple[int, int], padding: tuple[int, int] | str, dilation: tuple[int, int]
) -> None:
    window = Window(kernel, (1, 1), dilation, margins(padding, kernel, (1, 1), dilation))
    x, weight = draw_array((5, 3, 6, 7), 1), draw_array((4, 3, *kernel), 3)
    dy = draw_array((5, 4, *window.positions(x.shape)), 2)
    turned = turned_window(window)
    assert turned is not None
    ways = (
        gradients_by_correlation(x, dy, weight, turned, ARRAY_CODE),
        gradients_by_columns(x, dy, weight, window, ARRAY_CODE),
    )
    for one, other in zip(*ways, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_no_turned_window_where_there_is_none() -> None:
    assert turned_window(WINDOW) is None  # a stride
    assert turned_window(Window((2, 2), (1, 1), (1, 1), (2, 0, 0, 0))) is None  # outputs that see zeros alone


def test_adding_columns_is_the_transpose_of_making_them() -> None:
    # <columns(x), c> = <x, add_columns(c)> for every x and c
    x, added = draw_array((2, 3, 5, 6), 1), np.empty((2, 3, 5, 6))
    columns = make_columns(x, WINDOW, Scratch())
    c = draw_array(columns.shape, 2)
    add_columns(c, WINDOW, added, Scratch())
    assert (columns * c).sum() == pytest.approx((x * added).sum(), rel=1e-12)


def test_columns_are_the_definition_s() -> None:
    x = draw_array((2, 3, 5, 6), 1)
    np.testing.assert_array_equal(make_columns(x, WINDOW, Scratch()), conv.columns(x, WINDOW))


def test_columns_of_a_small_image() -> None:
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)  # 1 2 3 / 4 5 6
    columns = make_columns(x, Window((2, 2), (1, 1), (1, 1), (0, 0, 0, 0)), Scratch())
    assert columns[0].T.tolist() == [[1, 2, 4, 5], [2, 3, 5, 6]]
