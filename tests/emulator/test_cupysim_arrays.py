"""What CuPy computes on the emulator is what NumPy computes: ufuncs, reductions, products, indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Array = Any


@pytest.fixture
def cp(emulated: object) -> Any:
    import cupy

    return cupy


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers of either sign, about 1 in magnitude; whole numbers up to 9 for integers."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if np.dtype(dtype).kind == "u" else -9, 10, shape).astype(dtype)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def agree(cp: Any, compute: Callable[..., Any], *inputs: np.ndarray, tolerance: float | None = None) -> None:
    """Assert that ``compute(xp, *arrays)`` has the same type, shape and values with both libraries."""
    expected = np.asarray(compute(np, *inputs))
    actual = compute(cp, *(cp.asarray(x) for x in inputs))
    assert isinstance(actual, cp.ndarray)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if tolerance is None:
        tolerance = {"e": 2e-3, "f": 2e-6, "F": 2e-6}.get(expected.dtype.char, 1e-14)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual.get(), expected, rtol=tolerance, atol=tolerance * scale)


UNARY = ("exp", "tanh", "sin", "abs", "sqrt", "negative", "square", "floor", "sign", "isfinite")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "fmin", "less", "power", "arctan2", "copysign")


@pytest.mark.parametrize("dtype", ["float32", "float64", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", UNARY)
def test_elementwise_functions_of_one_array(cp: Any, name: str, dtype: str) -> None:
    x = np.abs(draw((3, 5), dtype)) if name == "sqrt" else draw((3, 5), dtype)
    agree(cp, lambda xp, x: getattr(xp, name)(x), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BINARY)
def test_elementwise_functions_of_two_arrays_broadcast(cp: Any, name: str, dtype: str) -> None:
    a, b = np.abs(draw((4, 1, 3), dtype)) + np.dtype(dtype).type(0.5), draw((2, 1), dtype, seed=1)
    agree(cp, lambda xp, a, b: getattr(xp, name)(a, b), a, b)


@pytest.mark.parametrize("name", ["exp", "multiply", "sqrt", "conj", "abs", "divide"])
@pytest.mark.parametrize("dtype", ["complex128", pytest.param("complex64", marks=pytest.mark.slow)])
def test_complex_numbers(cp: Any, name: str, dtype: str) -> None:
    a, b = draw((4, 3), dtype), draw((4, 3), dtype, seed=1)
    agree(cp, lambda xp, a, b: getattr(xp, name)(*((a, b) if name in ("multiply", "divide") else (a,))), a, b)


@pytest.mark.parametrize("dtype", ["int32", "int64", pytest.param("uint8", marks=pytest.mark.slow)])
def test_integers(cp: Any, dtype: str) -> None:
    a, b = draw((5, 4), dtype), draw((5, 4), dtype, seed=1)
    agree(cp, lambda xp, a, b: a * 3 + b // 2 - (a % 5), a, b)
    agree(cp, lambda xp, a, b: (a & b) ^ (a | 3), a, b)


def test_half_precision_converts_every_value_as_numpy_does(cp: Any) -> None:
    halves = np.arange(1 << 16, dtype="uint16").view("float16")
    back = cp.asarray(halves).astype("float32").get()
    np.testing.assert_array_equal(back, halves.astype("float32"))  # NaN equals NaN here
    # Each float in the middle of two neighbours, and its own neighbours: ties go to even.
    finite = np.unique(halves[np.isfinite(halves)].astype("float32"))
    middle = (finite[1:] + finite[:-1]) / 2
    floats = np.concatenate([np.nextafter(middle, -np.inf), middle, np.nextafter(middle, np.inf), [65519, 65520, 1e6]])
    with np.errstate(over="ignore"):
        expected = floats.astype("float32").astype("float16")
    np.testing.assert_array_equal(cp.asarray(floats.astype("float32")).astype("float16").get(), expected)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "var", "argmax"])
def test_reductions_over_axes(cp: Any, name: str, axis: Any) -> None:
    if name == "argmax" and isinstance(axis, tuple):
        axis = axis[0]
    x = draw((3, 40, 7), "float64")
    agree(cp, lambda xp, x: getattr(xp, name)(x, axis=axis), x, tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128", "int32", "bool"])
@pytest.mark.parametrize("name", ["sum", "prod", "any", "all"])
def test_reductions_of_other_types(cp: Any, name: str, dtype: str) -> None:
    agree(cp, lambda xp, x: getattr(xp, name)(x, axis=1), draw((3, 4), dtype), tolerance=5e-3)


def test_reductions_keep_a_long_axis_apart(cp: Any) -> None:
    agree(cp, lambda xp, x: x.sum(axis=1, keepdims=True), draw((3, 5000), "float64"), tolerance=1e-12)
    agree(cp, lambda xp, x: x.sum(axis=0), draw((3000, 3), "float64"), tolerance=1e-12)
    agree(cp, lambda xp, x: xp.cumsum(x, axis=1), draw((4, 700), "float64"), tolerance=1e-12)


@settings(max_examples=settings.default.max_examples // 5)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70)), seed=st.integers(0, 999))
def test_reductions_of_any_shape(request: pytest.FixtureRequest, shape: tuple[int, int, int], seed: int) -> None:
    cp = request.getfixturevalue("cp")
    for axis in (1, 2, (0, 2)):
        agree(cp, lambda xp, x, axis=axis: x.sum(axis=axis), draw(shape, "float64", seed), tolerance=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "int32", "int8"])
def test_matrix_products(cp: Any, dtype: str) -> None:
    tolerance = {"float16": 5e-3, "float32": 1e-5, "complex64": 1e-5}.get(dtype, 1e-13)
    a, b = draw((6, 8), dtype), draw((8, 12), dtype, seed=1)
    agree(cp, lambda xp, a, b: a @ b, a, b, tolerance=tolerance)
    if dtype in ("float32", "complex128"):  # each order of each operand
        agree(cp, lambda xp, a, b: b.T @ a.T, a, b, tolerance=tolerance)
        agree(cp, lambda xp, a, b: xp.asfortranarray(a) @ b[:, ::2], a, b, tolerance=tolerance)
        agree(cp, lambda xp, a, b: a.conj().T @ a, a, b, tolerance=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_batched_matrix_products(cp: Any, dtype: str) -> None:
    tolerance = {"float16": 5e-3, "float32": 1e-5, "complex64": 1e-5}.get(dtype, 1e-13)
    a, b = draw((5, 3, 4), dtype), draw((5, 4, 2), dtype, seed=1)
    agree(cp, lambda xp, a, b: a @ b, a, b, tolerance=tolerance)
    agree(cp, lambda xp, a, b: a[:1] @ b, a, b, tolerance=tolerance)  # broadcast: by arrays of pointers
    agree(cp, lambda xp, a, b: a[:, None] @ b[None, 2:], a, b, tolerance=tolerance)


def test_products_by_other_names(cp: Any) -> None:
    a, b, v = draw((3, 4), "float64"), draw((4, 5), "float64", seed=1), draw((4,), "float64", seed=2)
    agree(cp, lambda xp, a, v: a @ v, a, v)
    agree(cp, lambda xp, v: xp.dot(v, v), v)
    agree(cp, lambda xp, a, b: xp.tensordot(a, b, axes=1), a, b)
    agree(cp, lambda xp, a, b: xp.einsum("ij,jk->ki", a, b), a, b)
    agree(cp, lambda xp, a, v: xp.outer(a, v), a, v)
    agree(cp, lambda xp, a: xp.zeros((0, 3)) @ a, a)


def test_a_product_writes_into_out_without_reading_it(cp: Any) -> None:
    a, b = draw((3, 4), "float64"), draw((4, 5), "float64", seed=1)
    out = cp.full((3, 5), np.nan)
    cp.matmul(cp.asarray(a), cp.asarray(b), out=out)
    np.testing.assert_allclose(out.get(), a @ b, rtol=1e-13)


def test_indexing(cp: Any) -> None:
    x, rows = draw((6, 5), "float32"), np.array([4, 0, 4, 2])
    agree(cp, lambda xp, x, i: x[i], x, rows)
    agree(cp, lambda xp, x, i: xp.take(x, i, axis=0), x, rows)
    agree(cp, lambda xp, x, i: x[i, i], x, rows)
    agree(cp, lambda xp, x, i: xp.take_along_axis(x, i[:, None] % 5, axis=1), x[:4], rows)
    agree(cp, lambda xp, x: x[::-2, 1:-1].copy(), x)
    agree(cp, lambda xp, x: x[x > 0], x)
    agree(cp, lambda xp, x: xp.where(x > 0, x, -x), x)


def test_scatter_add_counts_duplicates(cp: Any) -> None:
    rng = np.random.default_rng(3)
    rows, values = rng.integers(0, 4, 50), rng.standard_normal((50, 3))

    def scattered(xp: Any, rows: Array, values: Array) -> Array:
        out = xp.zeros((4, 3), values.dtype)
        xp.add.at(out, rows, values)
        return out

    agree(cp, scattered, rows, values)
    agree(cp, scattered, rows, values.astype("float32"))


def test_shapes_are_changed_as_numpy_does(cp: Any) -> None:
    x, y = draw((2, 3, 4), "float32"), draw((2, 1, 4), "float32", seed=1)
    agree(cp, lambda xp, x, y: xp.concatenate([x, y], axis=1), x, y)
    agree(cp, lambda xp, x, y: xp.stack([x, x + y], axis=2), x, y)
    agree(cp, lambda xp, x, y: xp.broadcast_to(y, (5, 2, 3, 4)) * 2, x, y)
    agree(cp, lambda xp, x, y: x.transpose(2, 0, 1).reshape(8, 3), x, y)
    agree(cp, lambda xp, x, y: xp.pad(x, ((0, 0), (1, 2), (0, 1))), x, y)


def test_zero_dimensional_and_empty_arrays(cp: Any) -> None:
    x = np.array(2.5, "float32")
    agree(cp, lambda xp, x: xp.exp(x) * 2, x)
    assert cp.asarray(x).item() == 2.5
    agree(cp, lambda xp, x: x.sum(axis=0), np.zeros((0, 3)))
    agree(cp, lambda xp, x: x + 1, np.zeros((0,)))


def test_creation_and_copies_both_ways(cp: Any) -> None:
    for make in (
        lambda xp: xp.arange(5, 2, -0.5),
        lambda xp: xp.linspace(0, 1, 7),
        lambda xp: xp.eye(3, 4, k=1),
        lambda xp: xp.full((2, 2), 7, "int16"),
        lambda xp: xp.tri(4),
    ):
        agree(cp, make)
    x = np.asfortranarray(draw((3, 4), "float64"))[::-1]
    np.testing.assert_array_equal(cp.asnumpy(cp.asarray(x)), x)


def test_fresh_memory_is_no_number_that_anyone_expects(cp: Any) -> None:
    for _ in range(2):  # the second one comes from CuPy's pool
        fresh = cp.empty(1000)
        assert (fresh.get().view("uint8") == 0xCC).all()
        fresh.fill(1)
        del fresh


def test_fused_functions(cp: Any) -> None:
    @cp.fuse(kernel_name="scaled_sum")
    def scaled_sum(x: Array, y: Array) -> Array:
        return 2 * x + y * y

    x, y = draw((5,), "float32"), draw((5,), "float32", seed=1)
    np.testing.assert_allclose(scaled_sum(cp.asarray(x), cp.asarray(y)).get(), 2 * x + y * y, rtol=1e-6)
