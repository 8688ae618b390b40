"""Pooling: the maximum or the mean of every window of an image.

Both walk over the kh kw places *inside* a window instead of over the windows: place (u, v)
of all windows together is one strided slice of the image, so that a 2 x 2 pooling is four
array operations. No pixel occurs twice in a slice, so the way back needs no scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.blocking import as_rows, sum_rows
from uanref.layers.base import Layer, pair

Place: TypeAlias = "tuple[tuple[slice, ...], tuple[slice, ...]]"


class _Pool2d(Layer):
    """What both poolings share: the window, the check of the input, the places inside a window."""

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

    def _output_shape(self, x: Array) -> tuple[int, ...]:
        """Check ``x`` ``(N, C, H, W)`` and return ``(N, C, OH, OW)``."""
        self._check_input(x)
        name = type(self).__name__
        if x.ndim != 4:
            raise ValueError(f"{name} expects (N, C, H, W), got {backend.shape_text(x.shape)}: give images")
        height, width = (
            (size + 2 * p - k) // s + 1
            for size, p, k, s in zip(x.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        )
        if height < 1 or width < 1:
            raise ValueError(
                f"{name}'s window {self.kernel_size} is larger than images of {x.shape[2]} x {x.shape[3]} with "
                f"padding {self.padding}: pool less often or with a smaller window"
            )
        return (*x.shape[:2], height, width)

    def _places(self, image: tuple[int, ...], pooled: tuple[int, ...]) -> Iterator[Place]:
        """Yield (windows, pixels) for every place in the window, row by row.

        ``y[windows]`` are the windows whose place (u, v) lies inside the image (all of them
        unless there is padding), and ``x[pixels]``, of the same shape, what they see there.
        """
        every = slice(None)
        for u in range(self.kernel_size[0]):
            down = _inside(u - self.padding[0], self.stride[0], image[2], pooled[2])
            for v in range(self.kernel_size[1]):
                across = _inside(v - self.padding[1], self.stride[1], image[3], pooled[3])
                yield (every, every, down[0], across[0]), (every, every, down[1], across[1])


class MaxPool2d(_Pool2d):
    r"""The maximum of every window: :math:`y_p = \max_{q \in w(p)} x_q`.

    .. math::
        dx_q = \sum_{p :\, q = q^*(p)} dy_p, \qquad
        q^*(p) = \text{the first } q \in w(p) \text{ with } x_q = y_p.

    The maximum depends on one pixel alone, so that pixel takes the whole gradient. Where
    several pixels tie, the **first** one does, row by row inside the window (PyTorch's rule
    too); dividing the gradient among them would be another subgradient.

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
        shape = self._output_shape(x)
        xp = backend.namespace(x)
        y: Array = xp.full(shape, -math.inf, dtype=x.dtype)
        for windows, pixels in self._places(x.shape, shape):
            xp.maximum(y[windows], x[pixels], out=y[windows])
        self._keep(y, x, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C, OH, OW)``."""
        x, y = self._take(dy)
        xp = backend.namespace(x, dy)
        dx: Array = xp.zeros(x.shape, dtype=x.dtype)
        waiting = xp.ones(y.shape, dtype=bool)  # windows whose maximum has not been met yet
        for windows, pixels in self._places(x.shape, y.shape):
            hit = (x[pixels] == y[windows]) & waiting[windows]
            dx[pixels] += dy[windows] * hit
            waiting[windows] ^= hit
        return dx


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
        shape = self._output_shape(x)
        y: Array = backend.namespace(x).zeros(shape, dtype=x.dtype)
        for windows, pixels in self._places(x.shape, shape):
            y[windows] += x[pixels]
        y *= 1.0 / math.prod(self.kernel_size)
        self._keep(y, x.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C, OH, OW)``."""
        (shape,) = self._take(dy)
        share = dy * (1.0 / math.prod(self.kernel_size))  # (N, C, OH, OW)
        dx: Array = backend.namespace(dy).zeros(shape, dtype=dy.dtype)
        for windows, pixels in self._places(shape, dy.shape):
            dx[pixels] += share[windows]
        return dx


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
        y: Array = sum_rows(as_rows(x)) * (1.0 / (x.shape[2] * x.shape[3]))  # (N, C)
        self._keep(y, x.shape)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, C, H, W)`` for ``dy`` ``(N, C)``."""
        (shape,) = self._take(dy)
        dx: Array = backend.namespace(dy).empty(shape, dtype=dy.dtype)
        dx[...] = (dy * (1.0 / (shape[2] * shape[3])))[:, :, None, None]  # (N, C, H, W)
        return dx


def _inside(offset: int, stride: int, size: int, windows: int) -> tuple[slice, slice]:
    """Along one axis: which windows see a pixel at ``window * stride + offset``, and which pixels those are."""
    first = max(0, -(offset // stride))  # the first window with window * stride + offset >= 0
    last = min(windows - 1, (size - 1 - offset) // stride)
    seen = max(0, last - first + 1)
    begin = first * stride + offset
    return slice(first, first + seen), slice(begin, begin + max(0, (seen - 1) * stride + 1), stride)
