"""The convolution on a device: the CPU's two ways (one block of samples, cuBLAS), columns by our own kernels.

For a 3 x 3 window with stride 1 and zeros around the image, in passes over x: the kernels read 1 and write 9 (im2col),
read 9 and write 1 (col2im), one launch each.
"""

from __future__ import annotations

import math

from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, as_rows
from uanref.kernels.cpu.columns import POINTWISE, Maker, Window, gradients, multiplied
from uanref.kernels.cuda import columns as kernel
from uanref.kernels.cuda.launch import serves


def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Serve :func:`uanref.layers.conv.forward`."""
    if not _serves(x, weight, window):
        return NotImplemented
    return multiplied(x, weight, bias, window, KERNELS)


def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Serve :func:`uanref.layers.conv.backward`."""
    if not _serves(x, weight, window):
        return NotImplemented
    return gradients(dy, x, weight, window, KERNELS)


def _serves(x: Array, weight: Array, window: Window) -> bool:
    """Tell whether kernels can make columns of x and add them up: they count positions in 32 bits."""
    entries = x.shape[1] * math.prod((*window.kernel, *window.positions(x.shape)))  # of a sample's columns
    return serves(x, weight) and max(entries, *window.padded(x.shape)) < 2**31


def _make_columns(x: Array, window: Window, scratch: Scratch) -> Array:
    if window == POINTWISE:
        return as_rows(x)
    columns = scratch("columns", (*x.shape[:2], *window.kernel, *window.positions(x.shape)), like=x)
    kernel.im2col(x, window.kernel, window.stride, window.dilation, window.margins, out=columns)
    return columns.reshape(x.shape[0], -1, columns.shape[4] * columns.shape[5])


def _add_columns(columns: Array, window: Window, x: Array, scratch: Scratch) -> None:
    entries = columns.reshape(*x.shape[:2], *window.kernel, *window.positions(x.shape))
    kernel.col2im(entries, window.kernel, window.stride, window.dilation, window.margins, out=x)


KERNELS = Maker(_make_columns, _add_columns)
