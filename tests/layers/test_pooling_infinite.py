"""A window whose every pixel is minus infinity gives its gradient to a pixel, not to what surrounds the image."""

from __future__ import annotations

import numpy as np
import pytest

from uanref import backend
from uanref.layers.pooling import max_pool, max_pool_backward
from uanref.layers.window import Window


@pytest.mark.parametrize("plain", [True, False])
def test_no_gradient_is_lost_where_all_is_minus_infinity(plain: bool) -> None:
    window = Window((2, 2), (2, 2), (1, 1), (1, 1, 1, 1))
    x = np.full((1, 2, 4, 4), -np.inf)
    dy = np.random.default_rng(0).standard_normal((1, 2, 3, 3))
    with backend.plain(plain):
        y = max_pool(x, window)
        dx = max_pool_backward(dy, x, y, window)
    expected = np.zeros((4, 4))  # the first pixel of each window that is in the image: rows and columns 0, 1 and 3
    expected[np.ix_([0, 1, 3], [0, 1, 3])] = 1.0
    assert np.array_equal(dx != 0.0, np.broadcast_to(expected != 0.0, x.shape))
    assert np.array_equal(dx[dx != 0.0], dy.ravel())
