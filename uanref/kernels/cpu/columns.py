"""The convolution as blocks of patches times weights, and its two gradient routes.

:func:`uanref.layers.conv.forward` and ``backward`` are the definitions. With stride 1 the gradients can be read from
the pixel's side: pixel q met output q - (u, v) d through W[o, i, u, v], so dx is a correlation of dy with the kernels
turned by 180 degrees. The columns D of dy serve both gradients, W' being the turned weights with i and o swapped:
dx_n = W' D_n, dW' = sum_n x_n D_n^T. D has O kh kw rows; this way is taken unless O > 2 I, where they cost more than
adding columns up (measured).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, as_rows, sample_blocks, walk

# Bytes of a block's columns: the product reads them again at once, from the second-level cache.
COLUMN_BYTES = 1 << 19
# A device has the memory but not without end: the columns of (256, 64, 32, 32) and a 3 x 3 kernel take 604 MB.
DEVICE_COLUMN_BYTES = 1 << 28

T = TypeVar("T")

Window: TypeAlias = Any
"""A :class:`uanref.layers.window.Window`."""
POINTWISE = ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


class Maker(NamedTuple):
    """Who lays out columns and adds them up: array code, or a device's kernels."""

    columns: Callable[[Array, Window, Scratch], Array]
    add_columns: Callable[[Array, Window, Array, Scratch], None]


def multiplied(x: Array, weight: Array, bias: Array | None, window: Window, maker: Maker) -> Array:
    """Return W X + b block by block, ``(N, O, OH, OW)``."""
    xp = backend.namespace(x, weight, bias)
    matrix, (height, width) = weight.reshape(weight.shape[0], -1), window.positions(x.shape)  # (O, I kh kw)
    y: Array = xp.empty((x.shape[0], weight.shape[0], height, width), dtype=x.dtype)

    def multiply(block: slice, scratch: Scratch) -> None:
        columns = maker.columns(x[block], window, scratch)  # (n, I kh kw, OH OW)
        part = as_rows(y[block])  # (n, O, OH OW), a view
        xp.matmul(matrix, columns, out=part)
        if bias is not None:
            part += bias[:, None]

    _walk(multiply, x, matrix.shape[1] * height * width, COLUMN_BYTES)
    return y


def gradients(dy: Array, x: Array, weight: Array, window: Window, maker: Maker) -> tuple[Array, Array]:
    """Return dx and dW by the cheaper of the two ways."""
    turned = turned_window(window)
    if turned is not None and weight.shape[0] <= 2 * weight.shape[1]:
        dweight, dx = gradients_by_correlation(x, dy, weight, turned, maker)
    else:
        dweight, dx = gradients_by_columns(x, dy, weight, window, maker)
    return dx, dweight


def turned_window(window: Window) -> Window | None:
    """Return the window that walks over dy and has a position for every pixel of x; None where there is none."""
    down, across = (d * (k - 1) for k, d in zip(window.kernel, window.dilation, strict=True))
    top, bottom, left, right = window.margins
    margins = (down - top, down - bottom, across - left, across - right)
    if window.stride != (1, 1) or min(margins) < 0:
        return None
    return window._replace(margins=margins)


def gradients_by_columns(x: Array, dy: Array, weight: Array, window: Window, maker: Maker) -> tuple[Array, Array]:
    """Return dW ``(O, I, kh, kw)`` and dx ``(N, I, H, W)`` from the columns X of x, for any stride."""
    xp = backend.namespace(x, dy, weight)
    matrix = weight.reshape(weight.shape[0], -1)  # (O, I kh kw)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)

    def differentiate(block: slice, scratch: Scratch) -> Array:
        dout = as_rows(dy[block])  # (n, O, OH OW)
        columns = maker.columns(x[block], window, scratch)  # (n, I kh kw, OH OW)
        # 1. dW = sum_n dY X^T
        dmatrix = _sum_of_products(dout, columns)  # (O, I kh kw)
        # 2. dX = W^T dY
        dcolumns = scratch("dcolumns", columns.shape, like=x)
        xp.matmul(matrix.T, dout, out=dcolumns)  # (n, I kh kw, OH OW)
        # 3. Every pixel collects from the patches that it belongs to.
        maker.add_columns(dcolumns, window, dx[block], scratch)
        return dmatrix

    floats = matrix.shape[1] * dy.shape[2] * dy.shape[3]
    dmatrix = _sum(_walk(differentiate, x, floats, max(COLUMN_BYTES, weight.nbytes)))  # (O, I kh kw)
    return dmatrix.reshape(weight.shape), dx


def gradients_by_correlation(x: Array, dy: Array, weight: Array, turned: Window, maker: Maker) -> tuple[Array, Array]:
    """Return dW ``(O, I, kh, kw)`` and dx ``(N, I, H, W)`` from the columns D of dy, for stride 1."""
    xp = backend.namespace(x, dy, weight)
    outputs, inputs, kh, kw = weight.shape
    # W'[i, (o, u, v)] = W[o, i, kh - 1 - u, kw - 1 - v]
    matrix = weight[:, :, ::-1, ::-1].swapaxes(0, 1).reshape(inputs, -1)  # (I, O kh kw)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)

    def differentiate(block: slice, scratch: Scratch) -> Array:
        columns = maker.columns(dy[block], turned, scratch)  # (n, O kh kw, H W)
        # 1. dx = W' D
        xp.matmul(matrix, columns, out=as_rows(dx[block]))  # (n, I, H W)
        # 2. dW'^T = sum_n D x^T
        return _sum_of_products(columns, as_rows(x[block]))  # (O kh kw, I)

    floats = matrix.shape[1] * x.shape[2] * x.shape[3]
    dmatrix = _sum(_walk(differentiate, x, floats, max(COLUMN_BYTES, weight.nbytes))).reshape(outputs, kh, kw, inputs)
    # 3. Turn the kernels back: dW[o, i, u, v] = dW'[i, (o, kh - 1 - u, kw - 1 - v)].
    dweight: Array = xp.ascontiguousarray(dmatrix[:, ::-1, ::-1].transpose(0, 3, 1, 2))  # (O, I, kh, kw)
    return dweight, dx


def _sum_of_products(a: Array, b: Array) -> Array:
    """Return ``sum_n a_n b_n^T`` for ``a (n, A, P)`` and ``b (n, B, P)``: ``(A, B)``."""
    xp = backend.namespace(a, b)
    if backend.name_of(a) == "numpy" and a.shape[2] >= 64:
        total: Array = xp.matmul(a, b.swapaxes(1, 2)).sum(axis=0)
        return total
    # On a device a batched product copies its turned operand: the smaller one.
    if backend.name_of(a) != "numpy" and a.shape[2] >= min(a.shape[1], b.shape[1]):
        if a.shape[1] < b.shape[1]:
            return _sum_of_products(b, a).T
        total = xp.matmul(a, b.swapaxes(1, 2)).sum(axis=0)
        return total
    # Small images: one product over samples and positions, though it copies both,
    # because n results of size A B would outweigh the data.
    inner = a.shape[0] * a.shape[2]
    total = xp.matmul(a.swapaxes(0, 1).reshape(-1, inner), b.swapaxes(0, 1).reshape(-1, inner).T)
    return total


def make_columns(x: Array, window: Window, scratch: Scratch) -> Array:
    """Lay out the patches of every image as the columns of a matrix.

    Args:
        x: ``(n, C, H, W)``.
        window: its ``positions`` are (OH, OW).
        scratch: where the result lies until the next call; x itself is returned for a 1 x 1 kernel.

    Returns:
        ``(n, C kh kw, OH OW)``.
    """
    if window == POINTWISE:
        return as_rows(x)
    n, channels = x.shape[:2]
    columns = scratch("columns", (n, channels, *window.kernel, *window.positions(x.shape)), like=x)
    padded = _pad(x, window, scratch)
    for u, v, rows, cols in window.shifts(x.shape):
        columns[:, :, u, v] = padded[:, :, rows, cols]  # (n, C, OH, OW)
    return columns.reshape(n, -1, columns.shape[4] * columns.shape[5])


def add_columns(columns: Array, window: Window, x: Array, scratch: Scratch) -> None:
    """Write into every pixel of ``x`` the sum over the columns' entries that :func:`make_columns` copies from it.

    Args:
        columns: ``(n, C kh kw, OH OW)``.
        window: its ``positions`` are (OH, OW).
        x: ``(n, C, H, W)``, overwritten.
        scratch: buffers.
    """
    n, channels, height, width = x.shape
    entries = columns.reshape(n, channels, *window.kernel, *window.positions(x.shape))
    padded = scratch("padded", (n, channels, *window.padded(x.shape)), like=x)
    padded.fill(0)
    for u, v, rows, cols in window.shifts(x.shape):
        padded[:, :, rows, cols] += entries[:, :, u, v]  # (n, C, OH, OW)
    top, _, left, _ = window.margins
    x[...] = padded[:, :, top : top + height, left : left + width]


def _pad(x: Array, window: Window, scratch: Scratch) -> Array:
    """Return ``x`` with the window's margins of zeros around it."""
    if not any(window.margins):
        return x
    height, width = x.shape[2:]
    top, _, left, _ = window.margins
    padded = scratch("padded", (*x.shape[:2], *window.padded(x.shape)), like=x)
    padded.fill(0)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


ARRAY_CODE = Maker(make_columns, add_columns)


def _walk(task: Callable[[slice, Scratch], T], x: Array, floats: int, block_bytes: int) -> list[T]:
    """Do ``task(block, scratch)`` for blocks of samples whose columns take ``floats`` numbers a sample.

    On a device the blocks follow one another, with at most DEVICE_COLUMN_BYTES of columns each.
    """
    if backend.name_of(x) == "numpy":
        return walk(task, sample_blocks(x, floats, block_bytes), x.size)
    samples, step = x.shape[0], max(1, DEVICE_COLUMN_BYTES // (floats * x.dtype.itemsize))
    scratch = Scratch()
    return [task(slice(i, min(i + step, samples)), scratch) for i in range(0, samples, step)]


def _sum(parts: list[Array]) -> Array:
    """Add the blocks' results in their order, so that the number of threads changes nothing."""
    return functools.reduce(operator.iadd, parts)
