"""The columns of a convolution on a device, and their transpose: one launch each.

For a 3 x 3 window with stride 1 and zeros around the image, in passes over x: the kernels read 1 and write 9 (im2col),
read 9 and write 1 (col2im). The array code (zeros, a copy of the image into them, one operation per entry of the
window) takes a memset and 10 launches for either, 21 passes and 30, and memory for a padded copy.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]
"""Zeros at top, bottom, left and right."""


def im2col(x: Array, window: Pair, stride: Pair, dilation: Pair, margins: Margins, out: Array) -> None:
    r"""Copy the patches of every image into the columns of a matrix.

    .. math::
        \mathrm{out}_{n,c,u,v,i,j} = x^p_{n,\, c,\, i s_h + u d_h,\, j s_w + v d_w}

    Args:
        x: ``(N, C, H, W)``, float32 or float64.
        window: ``(kh, kw)``.
        stride: between positions.
        dilation: between the pixels of one patch.
        margins: zeros around each image; the padded image is below 2^31 high and wide.
        out: ``(N, C, kh, kw, OH, OW)``, C-contiguous, of x's dtype, overwritten.
    """
    x = backend.namespace(x, out).ascontiguousarray(x)
    patches = out.size // (window[0] * window[1])
    _launch("im2col", patches, x, out, x.shape, out.shape, window, stride, dilation, margins)


def col2im(columns: Array, window: Pair, stride: Pair, dilation: Pair, margins: Margins, out: Array) -> None:
    """Write into every pixel the sum over the entries that :func:`im2col` copies from it: its transpose.

    Args:
        columns: ``(N, C, kh, kw, OH, OW)``, float32 or float64.
        window: ``(kh, kw)``.
        stride: between positions.
        dilation: between the pixels of one patch.
        margins: zeros around each image; the padded image is below 2^31 high and wide.
        out: ``(N, C, H, W)``, C-contiguous, of the columns' dtype, overwritten.
    """
    columns = backend.namespace(columns, out).ascontiguousarray(columns)
    _launch("col2im", out.size, columns, out, out.shape, columns.shape, window, stride, dilation, margins)


def _launch(
    name: str,
    threads: int,
    source: Array,
    out: Array,
    image: tuple[int, ...],
    columns: tuple[int, ...],
    window: Pair,
    stride: Pair,
    dilation: Pair,
    margins: Margins,
) -> None:
    images, corner = image[0] * image[1], (margins[0], margins[2])
    sizes = (images, *image[2:], *columns[4:], *window, *stride, *dilation, *corner)
    kernel("columns", name, out.dtype.char)((-(-threads // THREADS),), (THREADS,), (source, out, *sizes))
