"""Blocks, threads and sums: whatever the split, the numbers are those of the whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st
from support import strictcp
from support.arrays import LAYOUTS, draw_array

from uanref import backend, blocking
from uanref.layers.conv import Conv2d


@given(
    samples=st.integers(1, 50),
    floats=st.integers(0, 40),
    block_bytes=st.integers(1, 2000),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_blocks_cover_every_sample_once_and_fit(samples: int, floats: int, block_bytes: int, dtype: str) -> None:
    x = np.zeros((samples, 2), dtype=dtype)
    blocks = blocking.sample_blocks(x, floats, block_bytes)
    assert [i for block in blocks for i in range(samples)[block]] == list(range(samples))
    for block in blocks:
        held = block.stop - block.start
        assert held >= 1
        assert held == 1 or held * floats * x.itemsize <= block_bytes


def test_blocks_end_at_the_longest_sum() -> None:
    blocks = blocking.sample_blocks(np.zeros((10_000, 1)), 1, block_bytes=1 << 30)
    assert max(b.stop - b.start for b in blocks) == blocking.BLOCK_SAMPLES


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_walk_returns_results_in_block_order_by_any_number_of_threads(workers: int) -> None:
    x = draw_array((97, 11), 0)
    out = np.zeros_like(x)

    def task(block: slice, scratch: blocking.Scratch) -> float:
        buffer = scratch("double", x[block].shape, x)
        np.multiply(x[block], 2.0, out=buffer)
        out[block] = buffer
        return float(buffer.sum())

    blocks = blocking.sample_blocks(x, 11, 11 * 8 * 5)
    assert len(blocks) > 3
    with blocking.limit_threads(workers):
        parts = blocking.walk(task, blocks, elements=blocking.THREADED_ELEMENTS)
    np.testing.assert_array_equal(out, 2.0 * x)
    assert parts == [float((2.0 * x[block]).sum()) for block in blocks]


def test_small_walks_stay_on_the_calling_thread() -> None:
    blocks = blocking.sample_blocks(np.zeros((8, 1)), 1, 8)
    with blocking.limit_threads(4):
        names = blocking.walk(lambda block, scratch: threading.get_ident(), blocks, elements=8)
    assert set(names) == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_block_reaches_the_caller_and_the_next_walk_works(workers: int) -> None:
    blocks = blocking.sample_blocks(np.zeros((30, 1)), 1, 8)

    def task(block: slice, scratch: blocking.Scratch) -> int:
        if block.start == 17:
            raise ArithmeticError("block 17")
        return block.start

    with blocking.limit_threads(workers):
        with pytest.raises(ArithmeticError, match="block 17"):
            blocking.walk(task, blocks, elements=10**6)
        again = blocking.walk(lambda block, scratch: block.start, blocks, elements=10**6)
    assert again == list(range(30))


def test_scratch_reuses_a_buffer_and_grows_it() -> None:
    scratch, x = blocking.Scratch(), np.zeros(1, dtype="float32")
    first = scratch("a", (4, 5), x)
    assert first.shape == (4, 5)
    assert first.dtype == "float32"
    assert np.shares_memory(first, scratch("a", (2, 3), x))
    assert not np.shares_memory(first, scratch("b", (2, 3), x))
    assert scratch("a", (100,), x).shape == (100,)
    assert scratch("a", (2,), np.zeros(1)).dtype == "float64"


def test_threads_follow_the_environment_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert blocking.threads() == 3
    for unusable in ("0", "-2", "two", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert blocking.threads() >= 1
    with blocking.limit_threads(5):
        assert blocking.threads() == 5
        with blocking.limit_threads(1):
            assert blocking.threads() == 1
        assert blocking.threads() == 5


shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))


@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_sums_over_rows_and_samples(shape: tuple[int, ...], seed: int, layout: str) -> None:
    z = draw_array(shape, seed, layout=layout)
    np.testing.assert_allclose(blocking.sum_rows(z), z.sum(-1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(blocking.sum_samples(z), z.sum((0, 2)), rtol=1e-12, atol=1e-13)


def test_long_rows_keep_their_digits_in_float32() -> None:
    z = np.full((2, 100_000), 0.1, dtype="float32")
    np.testing.assert_allclose(blocking.sum_rows(z), 1e4, rtol=1e-6)


@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_rows_and_channel_values_broadcast(shape: tuple[int, ...], seed: int, layout: str) -> None:
    x = draw_array((*shape, 2), seed, layout=layout)
    rows = blocking.as_rows(x)
    assert rows.shape == (*shape[:2], shape[2] * 2)
    values = draw_array((3, shape[1]), seed + 1)
    product = rows * blocking.per_channel(values, rows.shape[-1])[:, :, :, :]
    np.testing.assert_array_equal(product, rows[None] * values[:, None, :, None])


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
    weight, mean, variance = blocking.merge_moments(parts, x.dtype)
    whole = (w * x).sum((0, 2)) / w.sum((0, 2))
    np.testing.assert_allclose(weight, w.sum((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(mean, whole, rtol=1e-12)
    np.testing.assert_allclose(
        variance, (w * (x - whole[:, None]) ** 2).sum((0, 2)) / w.sum((0, 2)), rtol=1e-8, atol=1e-14
    )


def test_nothing_that_weighs_nothing_has_moments_of_zero() -> None:
    zero = np.zeros(2)
    for merged in blocking.merge_moments([(zero, zero, zero), (zero, zero, zero)], np.dtype("float64")):
        np.testing.assert_array_equal(merged, zero)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channel_moments_across_blocks(dtype: str) -> None:
    x = draw_array((9000, 3, 2), 1, dtype=dtype)  # more than one block of samples
    mean, variance = blocking.channel_moments(x)
    assert mean.dtype == variance.dtype == dtype
    np.testing.assert_allclose(mean, x.astype("float64").mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(variance, x.astype("float64").var((0, 2)), rtol=1e-5)


def test_merged_sums_add_in_double_precision() -> None:
    parts = [np.array([1e8], dtype="float32")] + [np.array([1.0], dtype="float32")] * 64
    assert blocking.merge_sums(parts, np.dtype("float32"))[0] == np.float32(1e8 + 64)
    assert blocking.merge_sums(parts[:1], np.dtype("float32")) is parts[0]


@pytest.mark.parametrize("shape", [(10**6, 1, 1), (250_000, 1, 4), (4000, 1, 250), (1, 1, 10**6)])
@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_a_million_samples_far_from_zero_in_float32(shape: tuple[int, ...], spread: float) -> None:
    """The mean at 1e4 is rounded to 1e-3: a scatter around it would be off by the square of that."""
    x = (1e4 + spread * draw_array(shape, 2)).astype("float32")
    mean, variance = blocking.channel_moments(x)
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean((0, 2)), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var((0, 2)), rtol=1e-5)


def test_concurrent_walks_give_blas_its_threads_back() -> None:
    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = counts()
    x = draw_array((64, 4, 500), 3)
    with blocking.limit_threads(2), ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: blocking.channel_moments(x)[1], range(12)))
    assert counts() == before
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_inside_a_walk_blas_has_one_thread() -> None:
    def task(block: slice, scratch: blocking.Scratch) -> set[int]:
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    for workers in (1, 2):
        with blocking.limit_threads(workers):
            for found in blocking.walk(task, [slice(0, 1), slice(1, 2)], elements=10**6):
                assert found <= {1}


@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_no_bit_of_a_convolution(stride: int) -> None:
    """Shapes at which BLAS sums differently with one thread and with two."""
    x = draw_array((20, 4, 61, 61), 4, dtype="float32")
    results = []
    for workers in (1, 2, 3):
        layer = Conv2d(4, 40 if stride == 2 else 8, 3, padding=1, stride=stride)
        with blocking.limit_threads(workers):
            y = layer.forward(x)
            dx = layer.backward(draw_array(y.shape, 5, dtype="float32"))
        results.append((y, dx, layer.weight.grad, layer.bias.grad))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(3, 70_003, 2), (2, 5, 110_001), (400, 26, 9), (1_100_000, 1, 1), (2, 3, 4)])
def test_a_device_sums_long_axes_in_runs(shape: tuple[int, ...], strict_cupy: strictcp.Device) -> None:
    """Whole numbers, so that every order of addition gives the same sum."""
    z = np.random.default_rng(0).integers(-9, 9, shape).astype("float64")
    with strict_cupy.sealed():
        moved = backend.to_device(z, "cupy")
        found = [blocking.sum_rows(moved), blocking.sum_samples(moved), blocking.sum_all(moved)]
    for total, expected in zip(found, [z.sum(axis=-1), z.sum(axis=(-1, -3)), z.sum()], strict=True):
        assert (total.shape, total.dtype) == (np.shape(expected), z.dtype)
        np.testing.assert_array_equal(backend.to_host(total), expected)
    assert blocking.sum_all(z) == z.sum()
