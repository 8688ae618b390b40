"""The convolution as shifted planes: which ones serve, and every way in which they lie."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import draw_array

from uanref import backend
from uanref.kernels.cpu import conv as version
from uanref.kernels.cpu import planes
from uanref.layers import conv
from uanref.layers.window import Window

STILL = (1, 1)
THREE = Window((3, 3), STILL, STILL, (1, 1, 1, 1))
WINDOWS = {
    "3 x 3": THREE,
    "no margins": Window((3, 2), STILL, STILL, (0, 0, 0, 0)),
    "margins of all sizes": Window((4, 4), STILL, STILL, (0, 2, 3, 1)),
    "a gap down": Window((2, 3), STILL, (2, 1), (1, 0, 2, 1)),
    "a gap across": Window((3, 2), STILL, (1, 3), (2, 1, 0, 3)),
    "one pixel": Window((1, 1), STILL, STILL, (0, 0, 0, 0)),
    "a row": Window((1, 5), STILL, STILL, (0, 0, 2, 2)),
    "a column": Window((4, 1), STILL, STILL, (3, 0, 0, 0)),
}
# Samples, and a block's bytes; 0 for blocks of four samples, the last one shorter.
BATCHES = {"one": (1, 1 << 20), "side by side": (5, 1 << 20), "4 and 3": (7, 0), "4 and 1": (9, 0), "in turn": (3, 1)}


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (2, 4), (4, 1), (1, 2), (3, 8), (8, 8)])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_numbers_are_the_definition_s(
    window: Window, batch: str, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, block_bytes = BATCHES[batch]
    for name in ("multiplied", "gradients"):
        monkeypatch.delattr(version, name)  # planes serve, whatever may be faster
    x, weight = draw_array((samples, inputs, 7, 8), 1), draw_array((outputs, inputs, *window.kernel), 2)
    bias, dy = draw_array((outputs,), 3), draw_array((samples, outputs, *window.positions((0, 0, 7, 8))), 4)
    monkeypatch.setattr(planes, "PLANE_BYTES", block_bytes)
    monkeypatch.setattr(version, "PARTS", 1)  # which are two all the same
    if not block_bytes:
        cut = [slice(i, min(i + 4, samples)) for i in range(0, samples, 4)]
        monkeypatch.setattr(version, "image_blocks", lambda *_: cut)
    monkeypatch.setattr(version, "_has_few_inputs", lambda _: False)
    with backend.plain():
        y, (dx, dweight) = conv.forward(x, weight, bias, window), conv.backward(dy, x, weight, window)
    np.testing.assert_allclose(version.forward(x, weight, bias, window), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(version.forward(x, weight, None, window), y - bias[:, None, None], atol=1e-12)
    for one, other in zip(version.backward(dy, x, weight, window), (dx, dweight), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_where_planes_serve() -> None:
    x = np.zeros((2, 3, 7, 8))
    assert all(planes.serves(x, window) for window in WINDOWS.values())
    assert not planes.serves(x, THREE._replace(stride=(1, 2)))
    assert not planes.serves(x, THREE._replace(margins=(1, 1, 3, 1)))  # outputs that see zeros alone
    assert planes.serves(x, Window((4, 1), STILL, STILL, (0, 0, 0, 0)))  # 7 rows, 4 of them count
    assert not planes.serves(x, Window((5, 1), STILL, STILL, (0, 0, 0, 0)))  # 7 rows, 3 of them count


def test_blocks() -> None:
    matrix = np.zeros((10, 6), dtype="float32")

    def sizes(samples: int, height: int, width: int) -> list[int]:
        cut = planes.image_blocks(np.zeros((samples, 2, height, width), dtype="float32"), THREE, matrix)
        return [block.stop - block.start for block in cut]

    # 16 rows of 4 bytes a number: 64 (H + 2) W bytes a sample
    assert sizes(40, 14, 128) == [8] * 5
    assert sizes(9, 62, 64) == [4, 4, 1]
    assert sizes(3, 62, 128) == [1, 1, 1]
    assert sizes(2, 62, 64) == [2]
    assert sizes(0, 5, 5) == []
    matrix = np.zeros((10, 6000), dtype="float32")  # 240 kB, and a sample's 6010 rows
    assert sizes(20, 1, 1) == [14, 6]


def test_no_samples() -> None:
    x, weight = np.zeros((0, 3, 7, 8)), draw_array((2, 3, 3, 3), 1)
    y = version.forward(x, weight, None, THREE)
    dx, dweight = version.backward(y, x, weight, THREE)
    assert y.shape == (0, 2, 7, 8)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dweight, np.zeros_like(weight))
