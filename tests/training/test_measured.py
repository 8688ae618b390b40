"""What a trainer measures at every step."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import draw_array
from support.devices import Device

from uanref import backend
from uanref.training.measured import entries_sum, put_squares


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 7), (3,)])
def test_sums_and_squares(shape: tuple[int, ...], device: Device) -> None:
    x = draw_array(shape, 1, dtype="float32")
    moved = backend.to_device(x, device.backend)
    places = backend.to_device(np.zeros(3), device.backend)
    put_squares(places[1, ...], moved)
    np.testing.assert_allclose(backend.to_host(places), [0.0, np.square(x, dtype="float64").sum(), 0.0], rtol=1e-12)
    np.testing.assert_allclose(backend.to_host(entries_sum(moved)), x.sum(dtype="float64"), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_entry_is_seen(bad: float, device: Device) -> None:
    x = draw_array((4, 3, 5, 2), 1, dtype="float32")
    x[2, 1, 3, 1] = bad
    moved = backend.to_device(x, device.backend)
    place = backend.to_device(np.zeros(()), device.backend)
    put_squares(place, moved)
    assert not np.isfinite(backend.to_host(entries_sum(moved)))
    assert not np.isfinite(backend.to_host(place))
