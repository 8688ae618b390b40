"""The kernels for columns: copies and their transpose, exact in every bit; and the convolution that uses them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array, shake
from support.definitions import exactly
from support.layouts import on_device

from uanref import backend, gradcheck
from uanref.kernels.cpu import columns as blockwise
from uanref.kernels.cuda import columns as kernel
from uanref.kernels.cuda import conv as launcher
from uanref.layers.conv import Conv2d, forward
from uanref.layers.window import Window, add_patches, patches

FEW = settings(max_examples=max(10, settings.default.max_examples // 2))
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
SMALL = st.integers(1, 3)
IMAGES = st.tuples(SMALL, SMALL, st.integers(1, 9), st.integers(1, 9))
MARGINS = st.tuples(*[st.integers(0, 3)] * 4)


@pytest.fixture(autouse=True)
def _a_device_with_kernels(accelerator) -> None:
    if accelerator.kind == "strict":
        pytest.skip("the strict double runs no kernels")


def positions(shape: tuple, window: tuple, stride: tuple, dilation: tuple, margins: tuple) -> tuple[int, int]:
    padded = shape[2] + margins[0] + margins[1], shape[3] + margins[2] + margins[3]
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    assume(reach[0] <= padded[0] and reach[1] <= padded[1])
    return (padded[0] - reach[0]) // stride[0] + 1, (padded[1] - reach[1]) // stride[1] + 1


def guarded(shape: tuple, dtype: str) -> tuple[Any, Any]:
    """An array on the device that lies inside a larger one, both full of 7: what is written beside it shows."""
    size = int(np.prod(shape))
    around = backend.to_device(np.full(size + 64, 7, dtype=dtype), "cupy")
    return around[32 : 32 + size].reshape(shape), around


def assert_unharmed(around: Any) -> None:
    edges = backend.to_host(around)
    assert (edges[:32] == 7).all()
    assert (edges[-32:] == 7).all()


@given(
    shape=IMAGES,
    window=PAIRS,
    stride=PAIRS,
    dilation=PAIRS,
    margins=MARGINS,
    dtype=st.sampled_from(["float64", "float32"]),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 10**6),
)
def test_kernels_equal_the_definitions_bit_by_bit(
    shape: tuple, window: tuple, stride: tuple, dilation: tuple, margins: tuple, dtype: str, layout: str, seed: int
) -> None:
    geometry = window, stride, dilation, margins
    x = draw_array(shape, seed, dtype=dtype)
    entries = draw_array((*shape[:2], *window, *positions(shape, *geometry)), seed + 1, dtype=dtype)

    found, around = guarded(entries.shape, dtype)
    kernel.im2col(on_device(x, layout), *geometry, out=found)
    np.testing.assert_array_equal(backend.to_host(found), patches(x, Window(*geometry)))
    assert_unharmed(around)

    found, around = guarded(shape, dtype)
    kernel.col2im(on_device(entries, layout), *geometry, out=found)
    np.testing.assert_array_equal(backend.to_host(found), add_patches(entries, shape, Window(*geometry)))
    assert_unharmed(around)


@FEW
@given(shape=IMAGES, window=PAIRS, stride=PAIRS, dilation=PAIRS, margins=MARGINS, seed=st.integers(0, 10**6))
def test_adding_up_is_the_transpose_of_copying(
    shape: tuple, window: tuple, stride: tuple, dilation: tuple, margins: tuple, seed: int
) -> None:
    geometry = window, stride, dilation, margins
    x = draw_array(shape, seed)
    y = draw_array((*shape[:2], *window, *positions(shape, *geometry)), seed + 1)
    copied, added = (backend.to_device(np.empty(a.shape), "cupy") for a in (y, x))
    kernel.im2col(backend.to_device(x, "cupy"), *geometry, out=copied)
    kernel.col2im(backend.to_device(y, "cupy"), *geometry, out=added)
    one, other = (backend.to_host(copied) * y).sum(), (x * backend.to_host(added)).sum()
    assert one == pytest.approx(other, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["im2col", "col2im"])
def test_the_order_of_threads_changes_no_bit(name: str, accelerator) -> None:
    reversed_threads = contextlib.nullcontext
    if accelerator.kind == "emulated":
        from support.cupysim import threads_reversed as reversed_threads
    image, entries = (2, 3, 11, 9), (2, 3, 3, 2, 7, 6)
    source, target = (image, entries) if name == "im2col" else (entries, image)
    results = []
    for context in (contextlib.nullcontext, reversed_threads):
        out, _ = guarded(target, "float32")
        with context():
            move = backend.to_device(draw_array(source, 1, dtype="float32"), "cupy")
            getattr(kernel, name)(move, (3, 2), (2, 2), (1, 2), (2, 2, 3, 2), out=out)
        results.append(backend.to_host(out))
    assert results[0].any()
    np.testing.assert_array_equal(results[0], results[1])


# --- the convolution ------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("outs", [2, 7])
def test_gradients_are_the_derivatives_on_the_device(stride: int, outs: int) -> None:
    layer = shake(Conv2d(2, outs, 3, stride=stride, padding=1, dtype="float64"), 3).to("cupy")
    x = backend.to_device(draw_array((2, 2, 5, 6), 1), "cupy")
    report = gradcheck.check(layer, x, seed=2)
    assert report.ok, str(report)


@pytest.mark.parametrize(("outs", "stride", "names"), [
    (4, 1, ["im2col", "im2col"]),  # backward by correlation: the columns of dy
    (9, 1, ["im2col", "im2col", "col2im"]),
    (4, 2, ["im2col", "im2col", "col2im"]),
])  # fmt: skip
def test_one_launch_makes_columns_and_one_adds_them_up(outs: int, stride: int, names: list[str], accelerator) -> None:
    if accelerator.kind != "emulated":
        pytest.skip("only the emulator counts launches")
    layer = Conv2d(4, outs, 3, stride=stride, padding=1).to("cupy")
    x = backend.to_device(draw_array((2, 4, 8, 8), 1, dtype="float32"), "cupy")
    for plain in (False, True):
        with backend.plain(plain), accelerator.counting() as counts:
            layer.backward(layer.forward(x))
        launched = [launch.name for launch in counts.launches]
        assert [name for name in launched if name in ("im2col", "col2im")] == ([] if plain else names)
        assert (counts.to_host, counts.to_device, counts.synchronizations) == (0, 0, 0)
        assert len(launched) <= (70 if plain else 20), launched


def test_a_point_by_point_kernel_needs_no_columns(accelerator) -> None:
    if accelerator.kind != "emulated":
        pytest.skip("only the emulator counts launches")
    layer = Conv2d(4, 4, 1).to("cupy")
    x = backend.to_device(draw_array((2, 4, 8, 8), 1, dtype="float32"), "cupy")
    with accelerator.counting() as counts:
        layer.forward(x)
    assert "im2col" not in [launch.name for launch in counts.launches]


def test_a_device_cuts_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Conv2d(2, 3, 3, padding=1, dtype="float64").to("cupy")
    x = backend.to_device(draw_array((5, 2, 6, 6), 1), "cupy")
    per_sample = 2 * 9 * 36 * 8
    seen = []
    original = kernel.im2col

    def spy(block: Any, *geometry: Any, out: Any) -> None:
        seen.append((block.shape[0], out.nbytes))
        original(block, *geometry, out=out)

    monkeypatch.setattr(kernel, "im2col", spy)
    whole = backend.to_host(layer.forward(x))
    assert seen == [(5, 5 * per_sample)]
    for limit, samples in ((2 * per_sample, [2, 2, 1]), (per_sample - 1, [1] * 5)):
        seen.clear()
        monkeypatch.setattr(blockwise, "DEVICE_COLUMN_BYTES", limit)
        np.testing.assert_allclose(backend.to_host(layer.forward(x)), whole, rtol=1e-13, atol=1e-13)
        assert seen == [(n, n * per_sample) for n in samples]


def test_images_too_large_to_count_in_32_bits_take_the_array_code() -> None:
    """A few pixels, as a stride of 2^30 sees them of margins of 2^31."""
    x, weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[2.0]]]])
    window = Window((1, 1), (2**30, 2**30), (1, 1), (1, 1, 1, 1))
    there = [backend.to_device(a, "cupy") for a in (x, weight)]
    served = launcher.forward(*there, None, window)
    assert served is not NotImplemented
    np.testing.assert_array_equal(backend.to_host(served), exactly(forward, x, weight, None, window)[0])
    too_high = window._replace(margins=(2**31, 0, 0, 0))
    assert launcher.forward(*there, None, too_high) is NotImplemented
    dy = backend.module("cupy").ones((1, 1, *too_high.positions(x.shape)))
    assert launcher.backward(dy, *there, too_high) is NotImplemented
