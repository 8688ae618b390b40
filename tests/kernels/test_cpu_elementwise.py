"""Arrays in pieces: every entry once, in any layout, and the same bits however they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import strictcp
from support.arrays import draw_array

from uanref import backend
from uanref.kernels.cpu import adam, elementwise, sgd, sums

ADAM = {"betas": (0.9, 0.99), "eps": 1e-3, "rate": 0.1, "correction": 1.7, "penalty": 0.0, "shrink": 1.0}
SGD = {"lr": 0.1, "momentum": 0.8, "nesterov": False, "penalty": 0.0}
STEPS: dict[str, tuple[Callable[..., Any], int, dict[str, Any]]] = {
    "adam": (adam.step, 4, ADAM),
    "adam, both decays": (adam.step, 4, ADAM | {"penalty": 0.01, "shrink": 0.9}),
    "momentum": (sgd.step, 3, SGD),
    "nesterov": (sgd.step, 3, SGD | {"nesterov": True, "penalty": 0.01}),
}


def spread(shape: tuple[int, ...], layout: str) -> list[np.ndarray]:
    """Cut arrays of ``shape`` in ``layout`` and return the pieces, each a view."""
    array = np.zeros(shape, order="F" if layout == "fortran" else "C")
    array = array[:, ::2] if layout == "gaps" else array
    found: list[Any] = []
    elementwise.in_pieces(lambda scratch, piece: found.append(piece), array)
    for piece in found:
        assert piece.size == 0 or np.shares_memory(piece, array)
        piece += 1
    np.testing.assert_array_equal(array, 1)  # every entry, once
    return found


def test_large_arrays_are_cut_in_the_order_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "PIECE", 10)
    for layout in ("c", "fortran"):
        assert [piece.shape for piece in spread((5, 5), layout)] == [(10,), (10,), (5,)]
    assert [piece.shape for piece in spread((5, 8), "gaps")] == [(5, 4)]  # no vector views it
    for shape in ((10,), (2, 5), (), (0, 3), (0,)):
        assert [piece.shape for piece in spread(shape, "c")] == [shape]  # as it is


def test_arrays_that_lie_in_memory_differently_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "PIECE", 4)
    one, other, found = np.zeros((3, 4)), np.asfortranarray(np.arange(12.0).reshape(3, 4)), []

    def add(scratch: Any, a: np.ndarray, b: np.ndarray) -> None:
        found.append(a.shape)
        a += b

    elementwise.in_pieces(add, one, other)
    np.testing.assert_array_equal(one, other)
    assert found == [(3, 4)]


def test_a_device_has_one_piece(monkeypatch: pytest.MonkeyPatch, strict_cupy: strictcp.Device) -> None:
    monkeypatch.setattr(elementwise, "PIECE", 4)
    with strict_cupy.sealed():
        found: list[Any] = []
        elementwise.in_pieces(lambda scratch, piece: found.append(piece.shape), backend.to_device(np.zeros(9), "cupy"))
    assert found == [(9,)]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("layouts", ["ccccc", "fffff", "cfcfc"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_pieces_nor_threads_change_a_bit(
    name: str, layouts: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, count, numbers = STEPS[name]
    shape = (260, 250)  # beyond what threads start at
    arrays = [draw_array(shape, i, dtype=dtype) for i in range(count)]
    if count == 4:
        arrays[3] = arrays[3] ** 2
    results = []
    for piece, workers in ((10**6, 1), (7001, 1), (7001, 2), (65_536, 3)):
        given = [a.copy(order="F" if layout == "f" else "C") for a, layout in zip(arrays, layouts, strict=False)]
        monkeypatch.setattr(elementwise, "PIECE", piece)
        with backend.limit_threads(workers):
            outcome = step(*given, **numbers)
        np.testing.assert_array_equal(given[0], arrays[0])
        np.testing.assert_array_equal(given[1], arrays[1])
        results.append(outcome)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", ["c", "fortran", "gaps"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squares_are_summed_in_float64_by_any_number_of_threads(
    layout: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = draw_array((300, 400), 1, dtype=dtype)
    z = np.asfortranarray(z) if layout == "fortran" else z[:, ::2] if layout == "gaps" else z
    monkeypatch.setattr(elementwise, "PIECE", 7001)
    found = []
    for workers in (1, 2, 3):
        with backend.limit_threads(workers):
            found.append(sums.sum_squares(z))
    assert found[0].dtype == "float64"
    assert found[0].shape == ()
    assert found[0] == found[1] == found[2]
    np.testing.assert_allclose(found[0], np.square(z, dtype="float64").sum(), rtol=1e-13)


def test_squares_beyond_float32_are_summed() -> None:
    assert sums.sum_squares(np.full(3, 1e30, "float32")) == pytest.approx(3e60)
    assert np.isnan(sums.sum_squares(np.array([1.0, np.nan], "float32")))
    assert np.isposinf(sums.sum_squares(np.array([1.0, -np.inf], "float32")))
    assert sums.sum_squares(np.zeros((0, 2), "float32")) == 0.0
