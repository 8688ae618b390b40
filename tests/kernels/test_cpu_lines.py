"""Where results begin, how long NumPy's loops are, and near or far: none of it changes what is computed."""

from __future__ import annotations

import contextlib
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import strictcp
from support.arrays import LAYOUTS, draw_array
from support.definitions import exactly

from uanref import backend
from uanref.kernels.cpu import batch, lines, merging, products, rectifier
from uanref.kernels.cpu.blocks import Scratch
from uanref.kernels.cpu.standardize import channel_moments
from uanref.layers import activation
from uanref.norms import batch as definition

# --- lines ------------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(["float32", "float64"]),
    is_scratch=st.booleans(),
)
def test_arrays_worth_it_begin_on_a_line(shape: tuple[int, ...], dtype: str, is_scratch: bool) -> None:
    like = np.zeros(1, dtype=dtype)
    found = lines.empty(shape, like, Scratch() if is_scratch else None, "room")
    assert (found.shape, found.dtype, found.flags.c_contiguous) == (shape, like.dtype, True)
    if found.nbytes >= lines.ALIGNED_BYTES:
        assert found.ctypes.data % lines.LINE_BYTES == 0
    found[...] = 1.0


def test_a_buffer_of_a_worker_is_reused_and_a_result_is_not() -> None:
    like, scratch = np.zeros(1), Scratch()
    first, second = (lines.empty((64, 64), like, scratch, "a") for _ in range(2))
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, lines.empty((64, 64), like, scratch, "b"))
    assert not np.shares_memory(lines.empty((64, 64), like), lines.empty((64, 64), like))


@pytest.mark.parametrize("spatial", [1, 2, 256, 257])
def test_spread_values_broadcast_against_rows(spatial: int) -> None:
    values = draw_array((3,), 1)
    x = draw_array((2, 3, spatial), 2)
    np.testing.assert_array_equal(x + lines.spread(values, spatial), x + values[:, None])
    assert lines.spread(values, spatial).shape == ((3, spatial) if 1 < spatial <= lines.REPEATED else (3, 1))


def test_a_device_gets_plain_arrays(strict_cupy: strictcp.Device) -> None:
    with strict_cupy.sealed():
        values = backend.to_device(np.ones(3), "cupy")
        assert lines.spread(values, 4).shape == (3, 1)
        assert lines.empty((100, 100), values).shape == (100, 100)
        assert lines.empty((100, 100), values, Scratch(), "room").shape == (100, 100)


@pytest.mark.parametrize(("length", "inside"), [(255, 8192), (256, 256), (1000, 992), (8191, 8176), (8192, 8192)])
def test_a_buffer_of_numpy_is_no_longer_than_a_row(length: int, inside: int) -> None:
    sizes: list[int] = []
    assert np.getbufsize() == 8192
    with contextlib.suppress(ArithmeticError), lines.LongRows(length):
        sizes.append(np.getbufsize())
        thread = threading.Thread(target=lambda: sizes.append(np.getbufsize()))
        thread.start()
        thread.join()
        raise ArithmeticError
    assert [*sizes, np.getbufsize()] == [inside, 8192, 8192]


def test_a_channel_far_from_0_says_nothing_of_overflow() -> None:
    """Its square leaves float32, and is not needed in the end."""
    x = np.full((4, 2, 3), 1e20, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(channel_moments(x), [[1e20, 1e20], [0.0, 0.0]], rtol=1e-7)


@pytest.mark.parametrize(("shape", "length"), [((2, 3, 1), 3), ((2, 3, 256), 768), ((2, 3, 257), 257)])
def test_rows_of_samples_or_of_channels(shape: tuple[int, ...], length: int) -> None:
    assert lines.rows_of(np.zeros(shape)).length == length


# --- products ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [1, 7, 256, 257, 4096, 4097])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_are_summed_whatever_the_row(spatial: int, layout: str) -> None:
    a, b = (draw_array((3, 2, spatial), seed, layout=layout) for seed in (1, 2))
    found = products.sum_products(a, b, np.empty(a.shape))
    np.testing.assert_allclose(found, (a * b).sum((0, 2)), rtol=1e-12, atol=1e-12)
    square = (a * a).sum((0, 2))
    np.testing.assert_allclose(products.sum_products(a, a, a), square, rtol=1e-12)


# --- near 0 and far from it -------------------------------------------------------------------------

SHAPES = [(4096, 5, 1), (2500, 3, 2), (40, 6, 49), (6, 4, 1024)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("deviations", [0.0, 1.3, 1.49, 1.51, 30.0, 1e4])
def test_moments_keep_their_digits_near_and_far(shape: tuple[int, ...], deviations: float) -> None:
    x = (deviations + draw_array(shape, 3)).astype("float32")
    x[:, 0] -= np.float32(deviations)  # one near channel beside far ones
    exact = x.astype("float64")
    mean, variance = channel_moments(x)
    np.testing.assert_allclose(variance, exact.var((0, 2)), rtol=5e-6)
    np.testing.assert_allclose(mean, exact.mean((0, 2)), rtol=1e-6, atol=1e-6)


def test_near_moments_refuse_where_a_difference_would_cancel() -> None:
    def parts(mean: float, *others: float) -> list[tuple[np.ndarray, np.ndarray]]:
        means = np.array([mean, *others])
        return [(2.0 * means, 2.0 * (means**2 + 1.0)), (3.0 * means, 3.0 * (means**2 + 1.0))]

    dtype = np.dtype("float32")
    for mean in (0.0, -1.4, 1.4):
        found = merging.near_moments(parts(mean), 5, dtype)
        assert found is not None
        assert [a.dtype for a in found] == [dtype, dtype]
        np.testing.assert_allclose(found, [[mean], [1.0]], rtol=1e-6)
    for means in ((1.6,), (-1.6,), (0.0, 1.6), (1.6, 0.0), (np.nan,), (0.0, np.nan)):
        assert merging.near_moments(parts(*means), 5, dtype) is None
    for square in (np.inf, np.nan):
        assert merging.near_moments([(np.zeros(2), np.array([1.0, square]))], 1, dtype) is None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("deviations", [0.0, 1.3, 1.6, 30.0, 1e4])
def test_outputs_and_gradients_keep_their_digits_near_and_far(shape: tuple[int, ...], deviations: float) -> None:
    draw = draw_array(shape, 3)
    x, dy = (deviations + draw).astype("float32"), draw_array(shape, 4, dtype="float32")
    gamma, beta = draw_array((2, shape[1]), 5, dtype="float32")
    mean, var = channel_moments(x)
    y = batch.normalize(x, mean, var, gamma, beta, 1e-5)
    exact = exactly(definition.normalize.__wrapped__, x, mean, var, gamma, beta, 1e-5)[0]
    assert np.abs(y - exact).max() <= 3e-6 * np.abs(exact).max()
    for version, name in ((batch.backward, "backward"), (batch.backward_fixed, "backward_fixed")):
        found = version(dy, x, mean, var, gamma, 1e-5)
        exact = exactly(getattr(definition, name).__wrapped__, dy, x, mean, var, gamma, 1e-5)
        for one, right in zip(found, exact, strict=True):
            assert np.abs(one - right).max() <= 5e-6 * max(np.abs(right).max(), np.sqrt(x[:, 0].size) * (one.ndim < 2))


# --- rectifiers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("row", [64, 500, 1 << 13])
def test_long_arrays_in_runs(
    row: int, slope: float | None, layout: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As defined to the last bit, with numbers in some of the runs that are not finite, by one thread and by two."""
    monkeypatch.setattr(rectifier, "RUN", 1000)
    monkeypatch.setattr(rectifier, "ROW", row)
    monkeypatch.setattr("uanref.kernels.cpu.blocks.THREADED_ELEMENTS", 1)
    x, dy = (draw_array((11, 7, 45), seed, dtype=dtype, layout=layout) for seed in (1, 2))
    for place, value in enumerate([np.nan, np.inf, -np.inf, 0.0, -0.0]):
        x[2, :, place] = dy[3, :, place] = dy[2, place, 2] = value
    before = x.copy(), dy.copy()
    forward, back = (
        (activation.relu, activation.relu_backward)
        if slope is None
        else (lambda x: activation.leaky_relu(x, slope), lambda dy, y: activation.leaky_relu_backward(dy, y, slope))
    )
    with backend.plain():
        y = forward(x)
        expected = y, back(dy, y)
    for threads in (1, 2):
        with backend.limit_threads(threads):
            found = forward(x), back(dy, y)
        for one, right in zip(found, expected, strict=True):
            assert one.dtype == right.dtype
            np.testing.assert_array_equal(one, right)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dy, before[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_passes_where_y_is_positive_alone(dtype: str) -> None:
    """Not at 0, whatever its sign, but at the smallest number that there is; as it is, to the sign of a zero."""
    least = np.nextafter(np.zeros(1, dtype), 1.0)[0]
    y = np.array([[0.0, -0.0, least, 1.0, np.inf, 2.0, 3.0]], dtype)
    dy = np.array([[np.inf, np.nan, -np.inf, np.nan, 5.0, -0.0, -least]], dtype)
    found = activation.relu_backward(dy, y)
    np.testing.assert_array_equal(found, [[0.0, 0.0, -np.inf, np.nan, 5.0, -0.0, -least]])
    np.testing.assert_array_equal(np.signbit(found[0, [0, 1, 5]]), [False, False, True])


def test_long_arrays_are_cut_into_several_runs() -> None:
    """So that there is work for a second thread."""
    assert 4 * rectifier.RUN <= 64 * 64 * 32 * 32
