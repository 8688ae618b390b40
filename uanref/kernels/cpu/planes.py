"""The convolution with stride 1 as products of whole planes, shifted.

A plane is a channel's images with zeros around, laid out so that a shift of the window is a shift in memory. The
kernel is taken apart. Its shifts *across* are copied, ``C[v, i, p] = x[i, p + v]`` for every row of the plane; one
product serves all rows, ``Z[u, o, p] = sum_{v, i} W[o, i, u, v] C[v, i, p]``; and the shifts *down* are made when its
results are added up, ``y[o, p] = sum_u Z[u, o, p + u rows]``. So kw I rows are copied and kh O added, each in long
runs, where columns of whole patches are kh kw I. Where those are fewer (of few channels) they are copied at once.

The way back is the same from the pixel's side: see :mod:`uanref.kernels.cpu.columns` for W' and the turned window. The
columns D of dy serve dx = W' D and ``dW'[u] = sum_p D[p + u rows] x[p]^T``.

Small images lie with the samples last, ``(C, rows, columns, n)``: n of them are one product, and every run is n times
as long. A large image is a block of its own and is copied in one run a channel. The zeros between its rows belong to
the run, so a few positions of each row are computed for nothing.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.columns import Window, turned_window

# Bytes of a block's columns and products: they are read again at once, from the second-level cache.
PLANE_BYTES = 1 << 20
# Fewer samples than this make short runs: one alone then, in the runs of a large image.
SAMPLES_LAST = 4
# Partial sums of dW: enough for a few threads.
PARTS = 16


class Columns(NamedTuple):
    """Shifted planes ``(taken kw C, height width n)``, and the width of their rows."""

    values: Array
    width: int


def serves(x: Array, window: Window) -> bool:
    """Tell whether planes serve, in both directions: on the host, with stride 1, few rows computed for nothing."""
    if backend.name_of(x) != "numpy" or turned_window(window) is None:
        return False
    height: int = window.positions(x.shape)[0]
    return window.padded(x.shape)[0] <= 2 * height


def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Return W X + b, ``(N, O, OH, OW)``."""
    outputs, inputs, kh, kw = weight.shape
    y = np.empty((x.shape[0], outputs, *window.positions(x.shape)), dtype=x.dtype)
    taken = kh if kh * kw * inputs + outputs <= kw * inputs + kh * outputs else 1  # what makes fewer rows
    turns = (2, 0, 3, 1) if taken == 1 else (0, 2, 3, 1)
    matrix = weight.transpose(turns).reshape(-1, taken * kw * inputs)  # (kh O, kw I) or (O, kh kw I)

    def multiply(block: slice, scratch: Scratch) -> None:
        write(matrix, columns(x[block], window, taken, scratch), window, bias, y[block], scratch)

    walk(multiply, _blocks(x, window, matrix), x.size)
    return y


def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return dx ``(N, I, H, W)`` and dW ``(O, I, kh, kw)``."""
    outputs, inputs, kh, kw = weight.shape
    turned = turned_window(window)
    # W'[u, i, v, o] = W[o, i, kh - 1 - u, kw - 1 - v]
    matrix = weight[:, :, ::-1, ::-1].transpose(2, 1, 3, 0).reshape(-1, kw * outputs)  # (kh I, kw O)
    dx = np.empty(x.shape, dtype=x.dtype)

    def differentiate(blocks: list[slice], scratch: Scratch) -> Array:
        total = np.zeros((kh, kw * outputs, inputs), dtype=x.dtype)
        product = scratch("product", total.shape[1:], like=x)
        for block in blocks:
            dcolumns = columns(dy[block], turned, 1, scratch)  # D
            # 1. dx = W' D
            write(matrix, dcolumns, turned, None, dx[block], scratch)
            # 2. dW'[u] = sum_p D[p + u rows] x[p]^T
            pixels = _beside(x[block], dcolumns.width, scratch)  # (I, H width n)
            for u in range(kh):
                shift = u * window.dilation[0] * dcolumns.width * len(x[block])
                np.matmul(dcolumns.values[:, shift : shift + pixels.shape[1]], pixels.T, out=product)
                total[u] += product
        return total

    blocks = _blocks(dy, turned, matrix)
    # A worker adds up its blocks' sums; what it hands on takes no more memory than the data.
    parts = max(2, min(PARTS, (x.nbytes + dy.nbytes) // weight.nbytes))
    step = -(-len(blocks) // parts)
    runs = [slice(i, i + step) for i in range(0, len(blocks), step)]
    sums = walk(lambda run, scratch: differentiate(blocks[run], scratch), runs, x.size)
    total = functools.reduce(operator.iadd, sums, np.zeros((kh, kw * outputs, inputs)))  # in float64
    # 3. Turn the kernels back.
    dweight = total.reshape(kh, kw, outputs, inputs)[::-1, ::-1].transpose(2, 3, 0, 1)
    return dx, np.ascontiguousarray(dweight, dtype=x.dtype)


def columns(x: Array, window: Window, taken: int, scratch: Scratch) -> Columns:
    """Lay out planes of x and copy them once for every shift across, and for every shift down that is ``taken``.

    Args:
        x: ``(n, C, H, W)``.
        window: of stride 1, with a turned one.
        taken: all kh shifts down, or 1 for none but the zeroth.
        scratch: where the result lies until the next call.
    """
    n, channels, height, width = x.shape
    top, _, left, right = window.margins
    down, across = window.dilation
    rows, wide = window.padded(x.shape)[0], width + max(left, right)  # a row's zeros at its right are the next one's
    pitch = wide * n
    flat = scratch("planes", (channels, rows * pitch + across * (window.kernel[1] - 1) * n), like=x)
    flat.fill(0)
    inside = flat[:, left * n : left * n + rows * pitch].reshape(channels, rows, wide, n)
    inside[:, top : top + height, :width] = x.transpose(1, 2, 3, 0)
    if n > 1:
        wide = window.positions(x.shape)[1]
    rows -= down * (taken - 1)
    copies = scratch("columns", (taken, window.kernel[1], channels, rows, wide * n), like=x)
    for u, v in np.ndindex(copies.shape[:2]):
        shift = u * down * pitch + v * across * n
        run = flat[:, shift : shift + rows * pitch].reshape(channels, rows, pitch)
        copies[u, v] = run[:, :, : wide * n]
    return Columns(copies.reshape(-1, rows * wide * n), wide)


def write(
    matrix: Array, columns: Columns, window: Window, bias: Array | None, y: Array, scratch: Scratch
) -> None:
    """Multiply, add up what the shifts down leave apart, and write the result into ``y (n, O, OH, OW)``."""
    n, outputs, height, width = y.shape
    products = scratch("products", (matrix.shape[0], columns.values.shape[1]), like=y)
    np.matmul(matrix, columns.values, out=products)
    # In one run for all channels: what comes from the next one lies below the last row.
    first, *others = products.reshape(matrix.shape[0] // outputs, -1)
    for u, other in enumerate(others, 1):
        shift = u * window.dilation[0] * columns.width * n
        first[:-shift] += other[shift:]
    rows = first.reshape(outputs, -1)
    if bias is not None:
        rows += bias[:, None]
    y.transpose(1, 2, 3, 0)[...] = rows.reshape(outputs, -1, columns.width, n)[:, :height, :width]


def _beside(x: Array, width: int, scratch: Scratch) -> Array:
    """Lay out x as columns are, with zeros at what is computed for nothing: ``(C, H width n)``."""
    n, channels, height, _ = x.shape
    pixels = scratch("pixels", (channels, height, width, n), like=x)
    pixels[:, :, x.shape[3] :] = 0
    pixels[:, :, : x.shape[3]] = x.transpose(1, 2, 3, 0)
    return pixels.reshape(channels, -1)


def _blocks(x: Array, window: Window, matrix: Array) -> list[slice]:
    """Cut the batch: a product should not be smaller than its weights, of which the library makes a copy."""
    floats = sum(matrix.shape) * window.padded(x.shape)[0] * window.positions(x.shape)[1]
    blocks = sample_blocks(x, floats, max(PLANE_BYTES, matrix.nbytes))
    if len(blocks) > 1 and blocks[0].stop < SAMPLES_LAST:
        return [slice(i, i + 1) for i in range(x.shape[0])]
    return blocks
