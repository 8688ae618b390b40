"""The convolution with stride 1 as products of whole planes, shifted: how they lie in memory.

A plane is a channel's images with zeros around, laid out so that a shift of the window is a shift in memory. The
kernel is taken apart. Its shifts *across* are copied, ``C[v, i, p] = x[i, p + v]`` for every row of the plane; one
product serves all rows, ``Z[u, o, p] = sum_{v, i} W[o, i, u, v] C[v, i, p]``; and the shifts *down* are made when its
results are added up, ``y[o, p] = sum_u Z[u, o, p + u rows]``. So kw I rows are copied and kh O added, each in long
runs, where columns of whole patches are kh kw I. Where those come to less, all shifts are copied.

The way back is the correlation of :mod:`uanref.kernels.cpu.columns`, for any number of channels: the columns D of dy
serve dx = W' D and ``dW'[u] = sum_p D[p + u rows] x[p]^T``.

Small images lie with the samples last, ``(C, rows, columns, n)``: n of them are one product, and every run is n times
as long. A large image is a block of its own and is copied in one run a channel. The zeros between its rows belong to
the run, so a few positions of each row are computed for nothing.
"""

from __future__ import annotations

import functools

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks
from uanref.kernels.cpu.columns import Window, turned_window

# Bytes of a block's columns and products: they are read again at once, from the second-level cache.
PLANE_BYTES = 1 << 20
# Fewer samples side by side than this make short runs: one alone then, in the runs of a large image.
SAMPLES_LAST = 4


class Planes:
    """Planes of images ``(n, C, H, W)`` for a window with stride 1 and a turned one.

    Attributes:
        down: how many numbers further on a column has the position one shift down.
    """

    def __init__(self, shape: tuple[int, ...], window: Window) -> None:
        self.samples, self.channels, self.height, self.width = shape
        self.kernel, self.dilation = window.kernel, window.dilation
        self.top, _, self.left, right = window.margins
        self.padded = window.padded(shape)[0]
        self.rows, self.across = window.positions(shape)
        self.row = self.width + max(self.left, right)  # the zeros right of a row are the next one's left ones
        self.step = self.across if self.samples > 1 else self.row  # a column's row
        self.down = self.dilation[0] * self.step * self.samples

    def columns(self, x: Array, taken: int, scratch: Scratch) -> Array:
        """Copy the planes of x for every shift across.

        Args:
            x: ``(n, C, H, W)``.
            taken: for how many shifts down: 1, or all kh.
            scratch: where the result lies until the next call.

        Returns:
            ``(taken kw C, P)``, P the positions of all rows, or of those that all shifts leave.
        """
        n, (kw, (down, across)) = self.samples, (self.kernel[1], self.dilation)
        pitch = self.row * n
        flat = scratch("planes", (self.channels, self.padded * pitch + across * (kw - 1) * n), like=x)
        flat.fill(0)
        inside = flat[:, self.left * n : self.left * n + self.padded * pitch]
        inside = inside.reshape(self.channels, self.padded, self.row, n)
        inside[:, self.top : self.top + self.height, : self.width] = x.transpose(1, 2, 3, 0)
        rows = self.padded - down * (taken - 1)
        columns = scratch("columns", (taken * kw, self.channels, rows, self.step * n), like=x)
        for i, column in enumerate(columns):
            start = (i // kw * down * self.row + i % kw * across) * n
            run = flat[:, start : start + rows * pitch].reshape(self.channels, rows, pitch)
            column[...] = run[:, :, : self.step * n]
        return columns.reshape(taken * kw * self.channels, -1)

    def write(self, products: Array, bias: Array | None, y: Array) -> None:
        """Add up the shifts down that columns leave apart, and write the sums into ``y (n, O, OH, OW)``."""
        outputs = y.shape[1]
        # One run for all channels: what comes from the next one lies below the last row that counts.
        first, *others = products.reshape(products.shape[0] // outputs, -1)
        for u, other in enumerate(others, 1):
            first[: -u * self.down] += other[u * self.down :]
        sums = first.reshape(outputs, -1)
        if bias is not None:
            sums += bias[:, None]
        positions = sums.reshape(outputs, -1, self.step, self.samples)
        y.transpose(1, 2, 3, 0)[...] = positions[:, : self.rows, : self.across]

    def beside(self, y: Array, scratch: Scratch) -> Array:
        """Lay out ``y (n, O, OH, OW)`` at the positions of columns, with zeros at what is for nothing: ``(P', O)``.

        Positions come first: BLAS is faster where it need not turn the second operand of a product.
        """
        laid = scratch("beside", (self.rows, self.step, self.samples, y.shape[1]), like=y)
        laid[:, self.across :] = 0
        laid[:, : self.across] = y.transpose(2, 3, 0, 1)
        return laid.reshape(-1, y.shape[1])


planes_for = functools.lru_cache(maxsize=128)(Planes)


def serves(x: Array, window: Window) -> bool:
    """Tell whether planes serve, in both directions."""
    return backend.name_of(x) == "numpy" and _fits(x.shape, window)


@functools.lru_cache(maxsize=128)
def _fits(shape: tuple[int, ...], window: Window) -> bool:
    """Tell whether the stride is 1, with a turned window, and at most as many rows are for nothing as count."""
    padded, positions = window.padded(shape)[0], window.positions(shape)[0]
    return turned_window(window) is not None and padded <= 2 * positions


def image_blocks(x: Array, window: Window, matrix: Array) -> list[slice]:
    """Cut the batch: into products that are not smaller than their weights, of which BLAS makes a copy."""
    floats = sum(matrix.shape) * window.padded(x.shape)[0] * window.positions(x.shape)[1]
    blocks = sample_blocks(x, floats, max(PLANE_BYTES, matrix.nbytes))
    if len(blocks) > 1 and blocks[0].stop < SAMPLES_LAST:
        return [slice(i, i + 1) for i in range(x.shape[0])]
    return blocks
