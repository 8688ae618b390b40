"""The two-dimensional convolution, told as patches times weights."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from uanref import backend, kernels
from uanref.backend import Array, DTypeLike, Generator
from uanref.blocking import Scratch, as_rows, sample_blocks, sum_samples, walk
from uanref.kernels import columns as fused
from uanref.layers.base import Layer, Parameter, count, he_normal, pair

# Bytes of a block's columns: the product reads them again at once, from the second-level cache.
COLUMN_BYTES = 1 << 19
# A device has the memory but not without end: the columns of (256, 64, 32, 32) and a 3 x 3 kernel take 604 MB.
DEVICE_COLUMN_BYTES = 1 << 28

T = TypeVar("T")


class Conv2d(Layer):
    r"""A convolution of images, as networks define it: a cross-correlation with a bank of O kernels.

    With zeros around the image (:math:`x^p`), stride :math:`s` and dilation :math:`d`,

    .. math::
        y_{n,o,p} = b_o + \sum_{i,u,v} W_{o,i,u,v} \; x^p_{n,\, i,\, h s + u d,\, w s + v d}, \qquad p = (h, w).

    Write the patch that output position :math:`p` sees as column :math:`p` of a matrix
    :math:`X_n` with :math:`I k_h k_w` rows. All positions together are then one matrix
    product, and its chain rule is the linear layer's:

    .. math::
        Y_n = W X_n + b 1^T, \qquad
        dW = \sum_n dY_n X_n^T, \quad
        dX_n = W^T dY_n, \quad
        db = \sum_n dY_n 1.

    A pixel belongs to several patches, so :math:`dx` adds up what its copies in
    :math:`dX_n` received (:func:`_add_columns`, the transpose of :func:`_columns`).

    With stride 1 the same sums can be read from the pixel's side: pixel :math:`q` met output
    :math:`q - (u, v) d` through :math:`W_{o,i,u,v}`, so :math:`dx` is a correlation of
    :math:`dy` with the kernels turned by 180 degrees. The columns :math:`D_n` of
    :math:`dy` serve both gradients, :math:`W'` being the turned weights with i and o swapped:

    .. math::
        dx_n = W' D_n, \qquad dW' = \sum_n x_n D_n^T.

    :math:`D_n` has :math:`O k_h k_w` rows; this way is taken unless :math:`O > 2 I`, where
    they cost more than adding columns up.

    Source: LeCun et al. 1989 for the layer; columns as in Chellapilla et al. 2006; the
    choice between the two ways is this project's, from measurements.

    Args:
        in_channels: I, >= 1.
        out_channels: O, >= 1.
        kernel_size: (kh, kw), or one number for both.
        stride: step between output positions, a number or a pair.
        padding: zeros on each side, a number or a pair; ``"valid"`` for none; ``"same"`` for an
            output as large as the input (stride 1 only; where the zeros cannot be split evenly
            the extra one is at the bottom and right, as in PyTorch).
        dilation: step between the pixels of one patch, a number or a pair.
        bias: whether to add ``b``.
        dtype: dtype of the parameters.
        rng: generator for the start, ``default_rng(0)`` if None.

    Attributes:
        weight: shape (O, I, kh, kw), started at N(0, 2 / (I kh kw)) (He et al. 2015).
        bias: shape (O,), started at 0, or None.

    Raises:
        ValueError: a size out of range, an unknown padding, ``"same"`` with a stride.
        TypeError: a size that is no integer or pair of integers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.in_channels = count("in_channels", in_channels)
        self.out_channels = count("out_channels", out_channels)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = pair("stride", stride)
        self.dilation = pair("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else pair("padding", padding, least=0)
        margins = _margins(self.padding, self.kernel_size, self.stride, self.dilation)
        self._window = _Window(self.kernel_size, self.stride, self.dilation, margins)

        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        fan_in = self.in_channels * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self._new(he_normal(backend.as_generator(rng), shape, fan_in))
        self.bias: Parameter | None = self._new([0.0] * self.out_channels) if bias else None

    def forward(self, x: Array) -> Array:
        """Return the convolution of ``x`` with the weights.

        Args:
            x: ``(N, I, H, W)``.

        Returns:
            ``(N, O, OH, OW)`` with ``OH = (H + padding_h - dilation_h (kh - 1) - 1) // stride_h + 1``,
            padding counted on both sides, and OW alike.

        Raises:
            ValueError: another rank or number of channels, or a kernel larger than the padded image.
            TypeError: another dtype than the parameters'.
        """
        self._check_input(x)
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"Conv2d expects (N, {self.in_channels}, H, W), got {backend.shape_text(x.shape)}: "
                "put the channels on axis 1 and match in_channels"
            )
        height, width = self._window.positions(x.shape)
        if height < 1 or width < 1:
            raise ValueError(
                f"Conv2d's kernel {self.kernel_size} with dilation {self.dilation} is larger than images of "
                f"{x.shape[2]} x {x.shape[3]} with padding {self.padding}: enlarge the padding or shrink the kernel"
            )
        weight, bias = self.weight.value, None if self.bias is None else self.bias.value
        xp = backend.namespace(x, weight, bias)
        matrix = weight.reshape(self.out_channels, -1)  # (O, I kh kw)
        y: Array = xp.empty((x.shape[0], self.out_channels, height, width), dtype=x.dtype)

        def multiply(block: slice, scratch: Scratch) -> None:
            columns = _columns(x[block], self._window, scratch)  # (n, I kh kw, OH OW)
            part = as_rows(y[block])  # (n, O, OH OW), a view
            xp.matmul(matrix, columns, out=part)
            if bias is not None:
                part += bias[:, None]

        _walk(multiply, x, matrix.shape[1] * height * width, COLUMN_BYTES)
        self._keep(y, x, weight)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, I, H, W)`` for ``dy`` ``(N, O, OH, OW)``; fills ``weight.grad`` and ``bias.grad``."""
        x, weight = self._take(dy)
        # 1. The bias is added at every position of every sample.
        if self.bias is not None:
            self.bias.receive(sum_samples(as_rows(dy)))  # (O,)
        # 2. Weights and input, by the cheaper of the two ways.
        turned = self._window.turned()
        if turned is not None and self.out_channels <= 2 * self.in_channels:
            dweight, dx = _gradients_by_correlation(x, dy, weight, turned)
        else:
            dweight, dx = _gradients_by_columns(x, dy, weight, self._window)
        self.weight.receive(dweight)  # (O, I, kh, kw)
        return dx


def _gradients_by_columns(x: Array, dy: Array, weight: Array, window: _Window) -> tuple[Array, Array]:
    """Return dW ``(O, I, kh, kw)`` and dx ``(N, I, H, W)`` from the columns X of x, for any stride."""
    xp = backend.namespace(x, dy, weight)
    matrix = weight.reshape(weight.shape[0], -1)  # (O, I kh kw)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)

    def differentiate(block: slice, scratch: Scratch) -> Array:
        dout = as_rows(dy[block])  # (n, O, OH OW)
        columns = _columns(x[block], window, scratch)  # (n, I kh kw, OH OW)
        # 1. dW = sum_n dY X^T
        dmatrix = _sum_of_products(dout, columns)  # (O, I kh kw)
        # 2. dX = W^T dY
        dcolumns = scratch("dcolumns", columns.shape, like=x)
        xp.matmul(matrix.T, dout, out=dcolumns)  # (n, I kh kw, OH OW)
        # 3. Every pixel collects from the patches that it belongs to.
        _add_columns(dcolumns, window, dx[block], scratch)
        return dmatrix

    floats = matrix.shape[1] * dy.shape[2] * dy.shape[3]
    dmatrix = _sum(_walk(differentiate, x, floats, max(COLUMN_BYTES, weight.nbytes)))  # (O, I kh kw)
    return dmatrix.reshape(weight.shape), dx


def _gradients_by_correlation(x: Array, dy: Array, weight: Array, turned: _Window) -> tuple[Array, Array]:
    """Return dW ``(O, I, kh, kw)`` and dx ``(N, I, H, W)`` from the columns D of dy, for stride 1."""
    xp = backend.namespace(x, dy, weight)
    outputs, inputs, kh, kw = weight.shape
    # W'[i, (o, u, v)] = W[o, i, kh - 1 - u, kw - 1 - v]
    matrix = weight[:, :, ::-1, ::-1].swapaxes(0, 1).reshape(inputs, -1)  # (I, O kh kw)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)

    def differentiate(block: slice, scratch: Scratch) -> Array:
        columns = _columns(dy[block], turned, scratch)  # (n, O kh kw, H W)
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


class _Window(NamedTuple):
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

    def turned(self) -> _Window | None:
        """The window that walks over dy and has a position for every pixel of x; None where there is none."""
        down, across = (d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))
        top, bottom, left, right = self.margins
        margins = (down - top, down - bottom, across - left, across - right)
        if self.stride != (1, 1) or min(margins) < 0:
            return None
        return self._replace(margins=margins)


def _columns(x: Array, window: _Window, scratch: Scratch) -> Array:
    """Lay out the patches of every image as the columns of a matrix.

    Args:
        x: ``(n, C, H, W)``.
        window: its ``positions`` are (OH, OW).
        scratch: where the result lies until the next call; x itself is returned for a 1 x 1 kernel.

    Returns:
        ``(n, C kh kw, OH OW)``.
    """
    if window == _POINTWISE:
        return as_rows(x)
    n, channels = x.shape[:2]
    columns = scratch("columns", (n, channels, *window.kernel, *window.positions(x.shape)), like=x)
    if _is_fused(x, columns, window):
        fused.im2col(x, *window, out=columns)
    else:
        padded = _pad(x, window, scratch)
        for u, v, rows, cols in window.shifts(x.shape):
            columns[:, :, u, v] = padded[:, :, rows, cols]  # (n, C, OH, OW)
    return columns.reshape(n, -1, columns.shape[4] * columns.shape[5])


def _add_columns(columns: Array, window: _Window, x: Array, scratch: Scratch) -> None:
    """Write into every pixel of ``x`` the sum over the columns' entries that :func:`_columns` copies from it.

    Args:
        columns: ``(n, C kh kw, OH OW)``.
        window: its ``positions`` are (OH, OW).
        x: ``(n, C, H, W)``, overwritten.
        scratch: buffers.
    """
    n, channels, height, width = x.shape
    entries = columns.reshape(n, channels, *window.kernel, *window.positions(x.shape))
    if _is_fused(x, entries, window):
        fused.col2im(entries, *window, out=x)
        return
    padded = scratch("padded", (n, channels, *window.padded(x.shape)), like=x)
    padded.fill(0)
    for u, v, rows, cols in window.shifts(x.shape):
        padded[:, :, rows, cols] += entries[:, :, u, v]  # (n, C, OH, OW)
    top, _, left, _ = window.margins
    x[...] = padded[:, :, top : top + height, left : left + width]


def _is_fused(x: Array, columns: Array, window: _Window) -> bool:
    """Tell whether a kernel can make columns of x, or add them up: it counts positions in 32 bits."""
    return kernels.serves(x, columns) and max(window.padded(x.shape)) < 2**31


def _pad(x: Array, window: _Window, scratch: Scratch) -> Array:
    """Return ``x`` with the window's margins of zeros around it."""
    if not any(window.margins):
        return x
    height, width = x.shape[2:]
    top, _, left, _ = window.margins
    padded = scratch("padded", (*x.shape[:2], *window.padded(x.shape)), like=x)
    padded.fill(0)
    padded[:, :, top : top + height, left : left + width] = x
    return padded


_POINTWISE = _Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


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


def _margins(
    padding: tuple[int, int] | str, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return how many zeros to put at the top, bottom, left and right."""
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
