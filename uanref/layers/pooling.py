"""Pooling: the maximum or the mean of every window of an image."""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.layers.base import Layer, pair
from uanref.layers.sums import sum_rows
from uanref.layers.window import Window, add_patches, patches


@accelerated
def max_pool(x: Array, window: Window) -> Array:
    """Return the windows' maxima, ``(N, C, H, W) -> (N, C, OH, OW)``; a NaN is larger than everything."""
    y: Array = patches(x, window, around=-math.inf).max(axis=(2, 3))
    return y


@accelerated
def max_pool_backward(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """Return dL/dx: each window's gradient goes to the first of its pixels that is its maximum y, or NaN."""
    xp, seen = backend.namespace(dy, x), patches(x, window)  # (N, C, kh, kw, OH, OW)
    is_pixel = patches(xp.ones_like(x[:1, :1]), window) > 0  # what surrounds the image is none, even where it ties
    is_maximum = (is_pixel & ((seen == y[:, :, None, None]) | (seen != seen))).reshape(*x.shape[:2], -1, *y.shape[2:])
    is_first = is_maximum & (is_maximum.cumsum(axis=2) == 1)  # (N, C, kh kw, OH, OW)
    dpatches = xp.where(is_first, dy[:, :, None], 0.0)  # not a product: dy may be infinite
    return add_patches(dpatches.reshape(seen.shape), x.shape, window)


@accelerated
def mean_pool(x: Array, window: Window) -> Array:
    """Return the windows' means, ``(N, C, H, W) -> (N, C, OH, OW)``; the zeros around count as pixels."""
    y: Array = patches(x, window).mean(axis=(2, 3), dtype=backend.wide(x)).astype(x.dtype)
    return y


@accelerated
def mean_pool_backward(dy: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return dL/dx of ``shape``: every pixel of a window has the same share of its gradient."""
    share = dy[:, :, None, None] / math.prod(window.kernel)  # (N, C, 1, 1, OH, OW)
    places = (*dy.shape[:2], *window.kernel, *dy.shape[2:])  # (N, C, kh, kw, OH, OW)
    return add_patches(backend.namespace(dy).broadcast_to(share, places), shape, window)


class _Pool2d(Layer):
    """What both poolings share: the window and the check of the input."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("stride", stride)
        self.padding = pair("padding", padding, least=0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"padding must be at most half of kernel_size {self.kernel_size}, got {self.padding}: "
                "a window must see at least one pixel"
            )

        (down, across), still = self.padding, (1, 1)
        self._window = Window(self.kernel_size, self.stride, still, (down, down, across, across))

    def _check_images(self, x: Array) -> None:
        """Check ``x`` ``(N, C, H, W)``, and that a window fits."""
        self._check_input(x)
        name = type(self).__name__
        if x.ndim != 4:
            raise ValueError(f"{name} expects (N, C, H, W), got {backend.shape_text(x.shape)}: give images")
        if min(self._window.positions(x.shape)) < 1:
            raise ValueError(
                f"{name}'s window {self.kernel_size} is larger than images of {x.shape[2]} x {x.shape[3]} with "
                f"padding {self.padding}: pool less often or with a smaller window"
            )


class MaxPool2d(_Pool2d):
    r"""The maximum of every window: :math:`y_p = \max_{q \in w(p)} x_q`.

    .. math::
        dx_q = \sum_{p :\, q = q^*(p)} dy_p, \qquad
        q^*(p) = \text{the first } q \in w(p) \text{ with } x_q = y_p.

    The maximum depends on one pixel alone, so that pixel takes the whole gradient. Where
    several pixels tie, the **first** one does, row by row inside the window (PyTorch's rule
    too); dividing the gradient among them would be another subgradient. A NaN is larger than everything: it is the
    maximum of its windows and takes their gradients.

    Args:
        kernel_size: (kh, kw), or one number for both.
        stride: step between windows, ``kernel_size`` if None. Pixels that no whole window covers are ignored.
        padding: pixels of minus infinity on each side, at most half the kernel.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is no integer or pair of integers.
    """

    def forward(self, x: Array) -> Array:
        """Return the windows' maxima.

        Args:
            x: ``(N, C, H, W)``.

        Returns:
            ``(N, C, OH, OW)`` with ``OH = (H + 2 padding_h - kh) // stride_h + 1`` and OW alike.

        Raises:
            ValueError: another rank, or a window larger than the padded image.
            TypeError: not a floating dtype.
        """
        self._check_images(x)
        y = max_pool(x, self._window)
        self._keep(y, x, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C, OH, OW)``."""
        x, y = self._take(dy)
        return max_pool_backward(dy, x, y, self._window)


class AvgPool2d(_Pool2d):
    r"""The mean of every window: :math:`y_p = \frac{1}{k_h k_w} \sum_{q \in w(p)} x_q`.

    .. math::
        dx_q = \frac{1}{k_h k_w} \sum_{p :\, q \in w(p)} dy_p.

    Padded zeros count as pixels (PyTorch's ``count_include_pad=True``): the divisor is the same everywhere.

    Args:
        kernel_size: (kh, kw), or one number for both.
        stride: step between windows, ``kernel_size`` if None. Pixels that no whole window covers are ignored.
        padding: zeros on each side, at most half the kernel.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is no integer or pair of integers.
    """

    def forward(self, x: Array) -> Array:
        """Return the windows' means.

        Args:
            x: ``(N, C, H, W)``.

        Returns:
            ``(N, C, OH, OW)`` with ``OH = (H + 2 padding_h - kh) // stride_h + 1`` and OW alike.

        Raises:
            ValueError: another rank, or a window larger than the padded image.
            TypeError: not a floating dtype.
        """
        self._check_images(x)
        y = mean_pool(x, self._window)
        self._keep(y, x.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C, OH, OW)``."""
        (shape,) = self._take(dy)
        return mean_pool_backward(dy, shape, self._window)


class GlobalAvgPool2d(Layer):
    r"""The mean of every channel of every image: :math:`y_{nc} = \frac{1}{HW} \sum_q x_{ncq}`.

    Every pixel has the same share: :math:`dx_{ncq} = dy_{nc} / (HW)` (Lin et al. 2014, section 3.2).
    """

    def forward(self, x: Array) -> Array:
        """Return the channels' means.

        Args:
            x: ``(N, C, H, W)``.

        Returns:
            ``(N, C)``.

        Raises:
            ValueError: another rank.
            TypeError: not a floating dtype.
        """
        self._check_input(x)
        if x.ndim != 4:
            raise ValueError(f"GlobalAvgPool2d expects (N, C, H, W), got {backend.shape_text(x.shape)}: give images")
        y: Array = sum_rows(x.reshape(*x.shape[:2], -1)) * (1.0 / (x.shape[2] * x.shape[3]))  # (N, C)
        self._keep(y, x.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C)``."""
        (shape,) = self._take(dy)
        dx: Array = backend.namespace(dy).empty(shape, dtype=dy.dtype)
        dx[...] = (dy * (1.0 / (shape[2] * shape[3])))[:, :, None, None]  # (N, C, H, W)
        return dx
