"""Sums and moments: as exact as long, merged from blocks, in runs on a device."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st
from support import strictcp
from support.arrays import LAYOUTS, draw_array

from uanref import backend
from uanref.kernels.cpu import merging, sums
from uanref.kernels.cpu.standardize import channel_moments

shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))


@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_sums_over_rows_and_samples(shape: tuple[int, ...], seed: int, layout: str) -> None:
    z = draw_array(shape, seed, layout=layout)
    np.testing.assert_allclose(sums.sum_rows(z), z.sum(-1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(sums.sum_samples(z), z.sum((0, 2)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(256, 100, 49), (1000, 10, 49), (1024, 16, 49), (64, 16, 64), (100, 7, 1)])
def test_threads_of_blas_change_no_bit_of_a_sum(shape: tuple[int, ...]) -> None:
    z = draw_array(shape, 1, dtype="float32")
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            found.append(sums.sum_samples(z))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("spatial", [4097, 4608, 8192, 12_288])
def test_long_rows_are_cut_where_they_can_be(spatial: int) -> None:
    z = draw_array((2, 3, spatial), 1)
    np.testing.assert_allclose(sums.sum_rows(z), z.sum(-1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("samples", [1024, 1025, 2048, 100_000])
def test_many_samples_are_added_up_in_runs(samples: int) -> None:
    z = np.full((2, samples, 3, 2), 0.1, dtype="float32")
    np.testing.assert_allclose(sums.sum_samples(z), np.full((2, 3), 0.2 * samples), rtol=2e-5)


def test_long_rows_keep_their_digits_in_float32() -> None:
    z = np.full((2, 100_000), 0.1, dtype="float32")
    np.testing.assert_allclose(sums.sum_rows(z), 1e4, rtol=1e-6)


@given(samples=st.integers(2, 30), channels=st.integers(1, 3), spatial=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_merged_moments_are_those_of_the_whole(samples: int, channels: int, spatial: int, seed: int) -> None:
    x = draw_array((samples, channels, spatial), seed) + 1e4  # a difference of squares would lose 8 digits
    w = np.random.default_rng(seed).uniform(0.1, 1.0, x.shape)
    parts = []
    for block in (slice(0, samples // 2), slice(samples // 2, samples)):
        weight = w[block].sum((0, 2))
        mean = (w[block] * x[block]).sum((0, 2)) / weight
        scatter = (w[block] * (x[block] - mean[:, None]) ** 2).sum((0, 2))
        parts.append((weight, mean, scatter))
    weight, mean, variance = merging.merge_moments(parts, x.dtype)
    whole = (w * x).sum((0, 2)) / w.sum((0, 2))
    np.testing.assert_allclose(weight, w.sum((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(mean, whole, rtol=1e-12)
    np.testing.assert_allclose(
        variance, (w * (x - whole[:, None]) ** 2).sum((0, 2)) / w.sum((0, 2)), rtol=1e-8, atol=1e-14
    )


def test_nothing_that_weighs_nothing_has_moments_of_zero() -> None:
    zero = np.zeros(2)
    for merged in merging.merge_moments([(zero, zero, zero), (zero, zero, zero)], np.dtype("float64")):
        np.testing.assert_array_equal(merged, zero)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channel_moments_across_blocks(dtype: str) -> None:
    x = draw_array((9000, 3, 2), 1, dtype=dtype)  # more than one block of samples
    mean, variance = channel_moments(x)
    assert mean.dtype == variance.dtype == dtype
    np.testing.assert_allclose(mean, x.astype("float64").mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(variance, x.astype("float64").var((0, 2)), rtol=1e-5)


def test_merged_sums_add_in_double_precision() -> None:
    parts = [np.array([1e8], dtype="float32")] + [np.array([1.0], dtype="float32")] * 64
    assert merging.merge_sums(parts, np.dtype("float32"))[0] == np.float32(1e8 + 64)
    assert merging.merge_sums(parts[:1], np.dtype("float32")) is parts[0]


@pytest.mark.parametrize("shape", [(10**6, 1, 1), (250_000, 1, 4), (4000, 1, 250), (1, 1, 10**6)])
@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_a_million_samples_far_from_zero_in_float32(shape: tuple[int, ...], spread: float) -> None:
    """The mean at 1e4 is rounded to 1e-3: a scatter around it would be off by the square of that."""
    x = (1e4 + spread * draw_array(shape, 2)).astype("float32")
    mean, variance = channel_moments(x)
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean((0, 2)), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var((0, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 70_003, 2), (2, 5, 110_001), (400, 26, 9), (1_100_000, 1, 1), (2, 3, 4)])
def test_a_device_sums_long_axes_in_runs(shape: tuple[int, ...], strict_cupy: strictcp.Device) -> None:
    """Whole numbers, so that every order of addition gives the same sum."""
    z = np.random.default_rng(0).integers(-9, 9, shape).astype("float64")
    with strict_cupy.sealed():
        moved = backend.to_device(z, "cupy")
        found = [sums.sum_rows(moved), sums.sum_samples(moved), sums.sum_all(moved)]
    for total, expected in zip(found, [z.sum(axis=-1), z.sum(axis=(-1, -3)), z.sum()], strict=True):
        assert (total.shape, total.dtype) == (np.shape(expected), z.dtype)
        np.testing.assert_array_equal(backend.to_host(total), expected)
    assert sums.sum_all(z) == z.sum()
