"""Images cut so that a pooling needs few long operations: columns first, then rows.

A window's maximum is the maximum over its rows of the maxima over its columns. Where the width is a whole number of
strides, place v of every window in every row of every image is one slice of memory, ``flat[v::stride]``: one operation
with one inner loop, where a slice of each row would be a short loop by itself. A :class:`Frame` has such a width and is
filled from the image; an image that its windows tile is its own frame. Rows are moved whole, each as one item.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch


class Frame(NamedTuple):
    """How the pixels under all windows lie in memory; (vertical, horizontal) each.

    Attributes:
        kernel, stride: of the window.
        windows: how many there are.
        strides: how many strides the frame spans: as many as windows, or more, so that every place of the last window
            lies in it. What the surplus ones give is of no window.
        margins: pixels that surround the image at the top and on the left.
        image: its size.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    windows: tuple[int, int]
    strides: tuple[int, int]
    margins: tuple[int, int]
    image: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the frame."""
        return self.strides[0] * self.stride[0], self.strides[1] * self.stride[1]

    @property
    def is_image(self) -> bool:
        """Whether the frame is the image itself."""
        return self.margins == (0, 0) and self.size == self.image

    @property
    def is_tiled(self) -> bool:
        """Whether every pixel lies in exactly one window."""
        return self.is_image and self.kernel == self.stride

    @property
    def is_wasteful(self) -> bool:
        """Whether most of what the frame gives is of no window: few windows, which overlap."""
        return self.strides[0] * self.strides[1] > 2 * self.windows[0] * self.windows[1]

    def inside(self) -> tuple[Any, Any]:
        """Return where frame and image overlap: the slices of the frame, and those of the image."""
        sizes = [min(n, f - m) for n, f, m in zip(self.image, self.size, self.margins, strict=True)]
        framed = (slice(m, m + n) for m, n in zip(self.margins, sizes, strict=True))
        image = (slice(0, n) for n in sizes)
        return (..., *framed), (..., *image)


def frame(window: Any, shape: tuple[int, ...]) -> Frame:
    """Return the frame of a :class:`uanref.layers.window.Window` of dilation 1 over images of ``shape``."""
    windows = window.positions(shape)
    spans = (n - 1 - -k // s for n, k, s in zip(windows, window.kernel, window.stride, strict=True))
    top, _, left, _ = window.margins
    return Frame(window.kernel, window.stride, windows, (next(spans), next(spans)), (top, left), (shape[2], shape[3]))


def lay(x: Array, of: Frame, around: float, scratch: Scratch) -> Array:
    """Return x ``(n, C, H, W)`` in its frame, rank 1: x itself where the frame is the image, else in a buffer."""
    x = backend.namespace(x).ascontiguousarray(x)
    if of.is_image:
        return x.reshape(-1)
    laid = scratch("laid", (*x.shape[:2], *of.size), x)
    laid[...] = around
    framed, image = of.inside()
    _move(x[image], laid[framed])
    return laid.reshape(-1)


def crop(laid: Array, of: Frame, out: Array) -> None:
    """Write what lies in a frame, rank 1, into images ``out``, and 0 where no frame is."""
    framed, image = of.inside()
    out[...] = 0.0
    _move(laid.reshape(*out.shape[:2], *of.size)[framed], out[image])


def planes(laid: Array, of: Frame) -> list[Array]:
    """View every stride's first pixel, every stride's second ..., as far as windows see them; rank 1 each."""
    step = of.stride[1]
    return [laid[first::step] for first in range(min(step, of.kernel[1]))]


def columns(of_planes: list[Array], of: Frame) -> list[Array]:
    """View every column of all windows in every row; entry i belongs to stride i, row by row."""
    places = (divmod(v, of.stride[1]) for v in range(of.kernel[1]))
    return [of_planes[first][shift:] for shift, first in places]


def rows(z: Array, of: Frame, scratch: Scratch) -> list[Array]:
    """Return every row of all windows, of z with one entry per row and stride across; rank 1 each."""
    (down, across), step = of.windows, of.stride[0]
    by_row = z.reshape(-1, of.size[0], of.strides[1])
    found = []
    for u in range(of.kernel[0]):
        row = by_row[:, u : u + step * (down - 1) + 1 : step, :across]
        found.append(scratch(f"row {u}", row.shape, z))
        _move(row, found[-1])
    return [row.reshape(-1) for row in found]


def from_rows(shares: list[Array], of: Frame, scratch: Scratch) -> Array:
    """Add up what :func:`rows` would take apart: rank 1, one entry per row and stride across."""
    (down, across), step = of.windows, of.stride[0]
    images = shares[0].size // (down * across)
    found = scratch("from rows", (images, of.strides[0], step, of.strides[1]), shares[0])
    if of.kernel[0] < step or across < of.strides[1]:
        found[...] = 0.0
    for first in range(min(step, of.kernel[0])):
        row = shares[first].reshape(images, down, across)
        if down < of.strides[0]:
            row = scratch("sum", (images, of.strides[0], across), row)
            row[...] = 0.0
            for u in range(first, of.kernel[0], step):
                row[:, u // step : u // step + down] += shares[u].reshape(images, down, across)
        _move(row, found[:, :, first, :across])
    return found.reshape(-1)


def from_columns(shares: list[Array], of: Frame, out: Array) -> None:
    """Add up what :func:`columns` would take apart, in ``out``, laid out as the frame. Changes ``shares``."""
    step = of.stride[1]
    for v, share in enumerate(shares[step:], step):
        shares[v % step][v // step :] += share
    for first in range(step):
        out[first::step] = shares[first] if first < len(shares) else 0.0


def _move(source: Array, target: Array) -> None:
    """Copy arrays whose rows lie in one piece each, row by row as items: a loop over a short row takes longer."""
    row = f"V{source.shape[-1] * source.dtype.itemsize}"
    target.view(row)[...] = source.view(row)
