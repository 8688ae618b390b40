"""The two-dimensional convolution, told as patches times weights."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.kernels import accelerated
from uanref.layers.base import Layer, Parameter, count, he_normal, pair
from uanref.layers.sums import sum_samples
from uanref.layers.window import Window, add_patches, margins, patches


@accelerated
def forward(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Return ``Y_n = W X_n + b``, ``(N, O, OH, OW)``: see :class:`Conv2d`.

    Args:
        x: ``(N, I, H, W)``.
        weight: ``(O, I, kh, kw)``.
        bias: ``(O,)``, or None for 0.
        window: kernel, stride, dilation and margins.
    """
    matrix = weight.reshape(len(weight), -1)  # W, (O, I kh kw)
    y = matrix @ columns(x, window)  # (N, O, OH OW)
    if bias is not None:
        y = y + bias[:, None]
    return y.reshape(len(x), len(weight), *window.positions(x.shape))


@accelerated
def backward(dy: Array, x: Array, weight: Array, window: Window) -> tuple[Array, Array]:
    """Return dL/dx ``(N, I, H, W)`` and dL/dW ``(O, I, kh, kw)`` for ``dy (N, O, OH, OW)``."""
    matrix, dy = weight.reshape(len(weight), -1), dy.reshape(*dy.shape[:2], -1)  # (O, I kh kw), (N, O, OH OW)
    # 1. dW = sum_n dY_n X_n^T
    products = dy @ columns(x, window).swapaxes(1, 2)  # (N, O, I kh kw)
    dweight = products.sum(axis=0, dtype=backend.wide(x)).astype(x.dtype)
    # 2. dX_n = W^T dY_n, and every pixel collects from the patches that it belongs to.
    dx = add_columns(matrix.T @ dy, x.shape, window)
    return dx, dweight.reshape(weight.shape)


def columns(x: Array, window: Window) -> Array:
    """Lay out the patches of every image as the columns of a matrix: ``(N, I, H, W) -> (N, I kh kw, OH OW)``."""
    height, width = window.positions(x.shape)
    return patches(x, window).reshape(len(x), -1, height * width)


def add_columns(entries: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return images of ``shape`` where every pixel holds the sum over its copies: the transpose of :func:`columns`."""
    entries = entries.reshape(*shape[:2], *window.kernel, *window.positions(shape))  # (N, I, kh, kw, OH, OW)
    return add_patches(entries, shape, window)


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
    :math:`dX_n` received (:func:`add_columns`, the transpose of :func:`columns`).

    Source: LeCun et al. 1989 for the layer; columns as in Chellapilla et al. 2006.

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
        zeros = margins(self.padding, self.kernel_size, self.stride, self.dilation)
        self._window = Window(self.kernel_size, self.stride, self.dilation, zeros)

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
        backend.namespace(x, weight)
        y = forward(x, weight, bias, self._window)
        self._keep(y, x, weight)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, I, H, W)`` for ``dy`` ``(N, O, OH, OW)``; fills ``weight.grad`` and ``bias.grad``."""
        x, weight = self._take(dy)
        dx, dweight = backward(dy, x, weight, self._window)
        self.weight.receive(dweight)  # (O, I, kh, kw)
        if self.bias is not None:
            self.bias.receive(sum_samples(dy.reshape(*dy.shape[:2], -1)))  # (O,): the bias is added at every position
        return dx
