"""How a window walks over an image: kernel, stride, dilation and the zeros around."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from uanref import backend
from uanref.backend import Array


class Window(NamedTuple):
    """How a window walks over an image: everything that columns depend on besides the image."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    margins: tuple[int, int, int, int]  # zeros at top, bottom, left, right

    def padded(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of images of ``shape`` with their margins."""
        top, bottom, left, right = self.margins
        return shape[2] + top + bottom, shape[3] + left + right

    def positions(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Number of positions down and across images of ``shape``; below 1 if the window does not fit."""
        height, width = (
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(self.padded(shape), self.kernel, self.stride, self.dilation, strict=True)
        )
        return height, width

    def shifts(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield (u, v, rows, columns): which pixels of the padded image are entry (u, v) of their patches."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        oh, ow = self.positions(shape)
        for u in range(kh):
            rows = slice(u * dh, u * dh + sh * (oh - 1) + 1, sh)
            for v in range(kw):
                yield u, v, rows, slice(v * dw, v * dw + sw * (ow - 1) + 1, sw)


def patches(x: Array, window: Window, around: float = 0.0) -> Array:
    """Return what every position of the window sees, ``(N, C, H, W) -> (N, C, kh, kw, OH, OW)``.

    Args:
        x: the images.
        window: how it walks.
        around: the value of the margins.
    """
    top, bottom, left, right = window.margins
    padded = backend.namespace(x).pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=around)
    windows = backend.sliding_windows(padded, window.kernel, window.stride, window.dilation)  # (N, C, OH, OW, kh, kw)
    return windows.transpose(0, 1, 4, 5, 2, 3)


def add_patches(entries: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return images of ``shape`` where every pixel holds the sum over its copies: the transpose of :func:`patches`."""
    padded = backend.namespace(entries).zeros((*shape[:2], *window.padded(shape)), dtype=entries.dtype)
    for u, v, rows, cols in window.shifts(shape):
        padded[:, :, rows, cols] += entries[:, :, u, v]  # (N, C, OH, OW)
    top, _, left, _ = window.margins
    added: Array = padded[:, :, top : top + shape[2], left : left + shape[3]]
    return added


def margins(
    padding: tuple[int, int] | str, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return how many zeros to put at the top, bottom, left and right.

    Raises:
        ValueError: an unknown ``padding``, or ``"same"`` with a stride.
    """
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding 'same' needs stride 1, got {stride}: give the padding as numbers")
        down, across = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return down // 2, down - down // 2, across // 2, across - across // 2
    if isinstance(padding, str):
        raise ValueError(f"padding must be 'same', 'valid' or numbers, got {padding!r}")
    return padding[0], padding[0], padding[1], padding[1]
