"""The convolution in blocks of samples: as shifted planes where they serve, else as patches."""

from __future__ import annotations

import functools
import operator

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, walk
from uanref.kernels.cpu.columns import ARRAY_CODE, Window, gradients, multiplied, turned_window
from uanref.kernels.cpu.planes import image_blocks, planes_for, serves

# Partial sums of dW: enough for a few threads.
PARTS = 16
# BLAS multiplies with a matrix of fewer columns than this at a fraction of its speed.
NARROW = 8


def _has_few_inputs(weight: Array) -> bool:
    """Tell whether columns of patches are fewer than outputs: they cost less than a copy of y, which planes make."""
    size: int = weight[0].size
    return size <= weight.shape[0]


def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Serve :func:`uanref.layers.conv.forward`."""
    outputs, inputs, kh, kw = weight.shape
    if _has_few_inputs(weight) or not serves(x, window):
        return multiplied(x, weight, bias, window, ARRAY_CODE)
    xp = backend.namespace(x, weight)
    y = xp.empty((x.shape[0], outputs, *window.positions(x.shape)), dtype=x.dtype)
    apart = (kw * inputs + kh * outputs) * window.padded(x.shape)[0]
    taken = kh if (kh * kw * inputs + outputs) * y.shape[2] <= apart else 1  # what moves fewer numbers
    turns = (2, 0, 3, 1) if taken == 1 else (0, 2, 3, 1)
    matrix = weight.transpose(turns).reshape(-1, taken * kw * inputs)  # (kh O, kw I) or (O, kh kw I)

    def multiply(block: slice, scratch: Scratch) -> None:
        images = x[block]
        planes = planes_for(images.shape, window)
        columns = planes.columns(images, taken, scratch)
        products = scratch("products", (matrix.shape[0], columns.shape[1]), like=x)
        xp.matmul(matrix, columns, out=products)
        planes.write(products, bias, y[block])

    walk(multiply, image_blocks(x, window, matrix), x.size)
    return y


def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.conv.backward`."""
    outputs, inputs, kh, kw = weight.shape
    if _has_few_inputs(weight) or not serves(x, window):
        return gradients(dy, x, weight, window, ARRAY_CODE)
    xp, turned = backend.namespace(x, weight), turned_window(window)
    # W'[u, i, v, o] = W[o, i, kh - 1 - u, kw - 1 - v]
    matrix = weight[:, :, ::-1, ::-1].transpose(2, 1, 3, 0).reshape(-1, kw * outputs)  # (kh I, kw O)
    dx = xp.empty(x.shape, dtype=x.dtype)
    blocks = image_blocks(dy, turned, matrix)
    # A part is the sum over several blocks; all of them together hardly take more memory than x and dy.
    parts = max(2, min(PARTS, (x.nbytes + dy.nbytes) // weight.nbytes))
    step = len(blocks) // parts + 1

    narrow = inputs < NARROW <= outputs
    shape = (kh, kw * inputs, outputs) if narrow else (kh, kw * outputs, inputs)

    def differentiate(part: slice, scratch: Scratch) -> Array:
        total = xp.zeros(shape, dtype=x.dtype)
        for block in blocks[part]:
            douts = dy[block]
            planes = planes_for(douts.shape, turned)
            columns = planes.columns(douts, 1, scratch)  # D, (kw O, P)
            # 1. dx = W' D
            products = scratch("products", (matrix.shape[0], columns.shape[1]), like=x)
            xp.matmul(matrix, columns, out=products)
            planes.write(products, None, dx[block])
            # 2. dW'[u] = sum_p D[p + u rows] x[p]^T; or, of few inputs, dW[u] = sum_p C[p + u rows] dy[p]^T
            if narrow:
                planes = planes_for(x[block].shape, window)
                columns = planes.columns(x[block], 1, scratch)  # C, (kw I, P)
            pixels = planes.beside(douts if narrow else x[block], scratch)  # x^T, (P', I), or dy^T, (P', O)
            for u in range(kh):
                start = u * planes.down
                total[u] += columns[:, start : start + len(pixels)] @ pixels
        return total

    sums = walk(differentiate, [slice(i, i + step) for i in range(0, len(blocks), step)], x.size)
    total = functools.reduce(operator.iadd, sums, xp.zeros(shape))  # in float64
    if narrow:
        dweight = total.reshape(kh, kw, inputs, outputs).transpose(3, 2, 0, 1)
        return dx, xp.ascontiguousarray(dweight, dtype=x.dtype)
    # 3. Turn the kernels back.
    dweight = total.reshape(kh, kw, outputs, inputs)[::-1, ::-1].transpose(2, 3, 0, 1)
    return dx, xp.ascontiguousarray(dweight, dtype=x.dtype)
