"""Blocks, walks and buffers: whatever the split, the numbers are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array
from support.devices import opened

from uanref import backend
from uanref.kernels.cpu import blocks as cpu


@given(
    samples=st.integers(1, 50),
    floats=st.integers(0, 40),
    block_bytes=st.integers(1, 2000),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_blocks_cover_every_sample_once_and_fit(samples: int, floats: int, block_bytes: int, dtype: str) -> None:
    x = np.zeros((samples, 2), dtype=dtype)
    blocks = cpu.sample_blocks(x, floats, block_bytes)
    assert [i for block in blocks for i in range(samples)[block]] == list(range(samples))
    for block in blocks:
        held = block.stop - block.start
        assert held >= 1
        assert held == 1 or held * floats * x.itemsize <= block_bytes


def test_blocks_end_at_the_longest_sum() -> None:
    blocks = cpu.sample_blocks(np.zeros((10_000, 1)), 1, block_bytes=1 << 30)
    assert max(b.stop - b.start for b in blocks) == cpu.BLOCK_SAMPLES


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_walk_returns_results_in_block_order_by_any_number_of_threads(workers: int) -> None:
    x = draw_array((97, 11), 0)
    out = np.zeros_like(x)

    def task(block: slice, scratch: cpu.Scratch) -> float:
        buffer = scratch("double", x[block].shape, x)
        np.multiply(x[block], 2.0, out=buffer)
        out[block] = buffer
        return float(buffer.sum())

    blocks = cpu.sample_blocks(x, 11, 11 * 8 * 5)
    assert len(blocks) > 3
    with backend.limit_threads(workers):
        parts = cpu.walk(task, blocks, elements=cpu.THREADED_ELEMENTS)
    np.testing.assert_array_equal(out, 2.0 * x)
    assert parts == [float((2.0 * x[block]).sum()) for block in blocks]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_block_reaches_the_caller_and_the_next_walk_works(workers: int) -> None:
    blocks = cpu.sample_blocks(np.zeros((30, 1)), 1, 8)

    def task(block: slice, scratch: cpu.Scratch) -> int:
        if block.start == 17:
            raise ArithmeticError("block 17")
        return block.start

    with backend.limit_threads(workers):
        with pytest.raises(ArithmeticError, match="block 17"):
            cpu.walk(task, blocks, elements=10**6)
        again = cpu.walk(lambda block, scratch: block.start, blocks, elements=10**6)
    assert again == list(range(30))


def test_scratch_reuses_a_buffer_and_grows_it() -> None:
    scratch, x = cpu.Scratch(), np.zeros(1, dtype="float32")
    first = scratch("a", (4, 5), x)
    assert first.shape == (4, 5)
    assert first.dtype == "float32"
    assert np.shares_memory(first, scratch("a", (2, 3), x))
    assert not np.shares_memory(first, scratch("b", (2, 3), x))
    assert scratch("a", (100,), x).shape == (100,)
    assert scratch("a", (2,), np.zeros(1)).dtype == "float64"


def test_a_thread_keeps_small_buffers_from_walk_to_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "KEPT_BYTES", 100)
    cpu._thread.__dict__.clear()  # what other tests left in this thread takes room
    x = np.zeros(1)

    def walked(*sizes: int) -> list[np.ndarray]:
        """Buffers of these sizes, named by their place, in one walk."""
        (found,) = cpu.walk(lambda _, scratch: [scratch(str(i), (n,), x) for i, n in enumerate(sizes)], [slice(1)], 1)
        return found

    def same(one: list[np.ndarray], other: list[np.ndarray]) -> list[bool]:
        return [np.shares_memory(a, b) for a, b in zip(one, other, strict=True)]

    first = walked(4, 20, 8)
    assert same(first, walked(4, 20, 8)) == [True, False, True]  # 32 and 64 bytes are kept, 160 are not


def test_a_walk_inside_a_walk_has_buffers_of_its_own() -> None:
    x = np.zeros(1)

    def inner(_: slice, scratch: cpu.Scratch) -> np.ndarray:
        return scratch("a", (4,), x)

    def outer(_: slice, scratch: cpu.Scratch) -> bool:
        (other,) = cpu.walk(inner, [slice(1)], 1)
        return bool(np.shares_memory(scratch("a", (4,), x), other))

    cpu.walk(inner, [slice(1)], 1)
    assert cpu.walk(outer, [slice(1)], 1) == [False]


def test_buffers_of_both_backends_are_apart() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    scratch = cpu.Scratch()
    with opened("strict") as device:
        there = scratch("a", (3,), backend.to_device(np.zeros(1), device.backend))
        here = scratch("a", (3,), np.zeros(1))
        assert (backend.name_of(there), backend.name_of(here)) == (device.backend, "numpy")
        scratch.shrink()
        assert scratch("a", (3,), np.zeros(1)) is not there
    assert [backend.name_of(buffer) for buffer in scratch._buffers.values()] == ["numpy"]


shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))


@given(shape=shapes, seed=st.integers(0, 10**6), layout=st.sampled_from(LAYOUTS))
def test_rows_and_channel_values_broadcast(shape: tuple[int, ...], seed: int, layout: str) -> None:
    x = draw_array((*shape, 2), seed, layout=layout)
    rows = cpu.as_rows(x)
    assert rows.shape == (*shape[:2], shape[2] * 2)
    values = draw_array((3, shape[1]), seed + 1)
    product = rows * cpu.per_channel(values, rows.shape[-1])[:, :, :, :]
    np.testing.assert_array_equal(product, rows[None] * values[:, None, :, None])
