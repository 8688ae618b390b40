"""Adaptive local contrast normalization (ALCN)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer, number


class AdaptiveLocalContrastNorm(Layer):
    r"""A weighted sum of Gaussian filters of the image, weights given per image (ALCN, Rad, Roth & Lepetit 2020).

    With :math:`G_f` the filter of standard deviation :math:`\sigma_f` and one weight per image n and filter f,

    .. math::
        y_n = \sum_f w_{nf}\, G_f * x_n.

    Two filters with weights 1 and -1 are the difference of Gaussians; weights that sum to 0
    remove constant illumination. In the paper a network predicts the weights from the image; here they are an
    input with a gradient, so any network can be put before them.

    A Gaussian is separable: along an axis of length L the filter is the matrix :math:`A_f` (L, L) of
    :func:`gaussian_matrix`, and :math:`G_f * x = A_f\, x\, A_f^T` with the matrices of height and width. So the
    backward pass is the transposed product, borders included,

    .. math::
        z_{nf} = A_f^T\, dy_n\, A_f, \qquad dx_n = \sum_f w_{nf}\, z_{nf}, \qquad
        dw_{nf} = \langle dy_n, G_f * x_n \rangle = \langle z_{nf}, x_n \rangle :

    the filtered images need not be kept.

    The layer has no parameters, filters are fixed, all channels of an image share its weights. Borders: the edge
    pixel is repeated outwards (this project's choice, as is cutting the filter off at 3 sigma). ``forward``
    takes two inputs and ``backward`` returns two gradients, so it stands in no Sequential.

    Args:
        sigmas: the standard deviations in pixels, each > 0; F of them, F >= 1.

    Raises:
        ValueError: no sigma, or one that is not positive and finite.
        TypeError: a sigma that is no number.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.sigmas = tuple(number("sigmas", sigma, 0.0, open_low=True) for sigma in sigmas)
        if not self.sigmas:
            raise ValueError("AdaptiveLocalContrastNorm needs >= 1 sigma, got none")

    def forward(self, x: Array, weights: Array) -> Array:  # type: ignore[override]  # a second input
        """Return the weighted sum of the filtered images.

        Args:
            x: ``(N, C, H, W)``.
            weights: ``(N, F)``, dtype of ``x``.

        Returns:
            ``(N, C, H, W)``.

        Raises:
            ValueError: wrong shapes.
            TypeError: another dtype than that of ``x``.
            BackendMismatch: the two inputs are not on one backend.
        """
        self._check_input(x)
        xp = backend.namespace(x, weights)
        if x.ndim != 4:
            raise ValueError(f"AdaptiveLocalContrastNorm expects (N, C, H, W), got {backend.shape_text(x.shape)}")
        if weights.shape != (x.shape[0], len(self.sigmas)):
            raise ValueError(
                f"AdaptiveLocalContrastNorm expects weights ({x.shape[0]}, {len(self.sigmas)}), got "
                f"{backend.shape_text(weights.shape)}: one row per image, one column per sigma"
            )
        if weights.dtype != x.dtype:
            raise TypeError(
                f"AdaptiveLocalContrastNorm got weights of {weights.dtype} for an image of {x.dtype}: "
                f"use weights.astype('{x.dtype}')"
            )
        height, width = x.shape[2:]
        filters = [(gaussian_matrix(height, sigma, x), gaussian_matrix(width, sigma, x)) for sigma in self.sigmas]
        y: Array = xp.zeros(x.shape, dtype=x.dtype)
        for f, (down, across) in enumerate(filters):
            filtered = xp.matmul(down, xp.matmul(x, across.T))  # G_f * x, (N, C, H, W)
            y += weights[:, f, None, None, None] * filtered
        self._keep(y, x, weights, filters)
        return y

    def __call__(self, x: Array, weights: Array) -> Array:  # type: ignore[override]
        """Same as :meth:`forward`."""
        return self.forward(x, weights)

    def backward(self, dy: Array) -> tuple[Array, Array]:  # type: ignore[override]  # a gradient per input
        """Return dL/dx ``(N, C, H, W)`` and dL/dweights ``(N, F)`` for ``dy`` of the output's shape."""
        x, weights, filters = self._take(dy)
        xp = backend.namespace(dy, x)
        dx: Array = xp.zeros(x.shape, dtype=dy.dtype)
        dweights: Array = xp.zeros(weights.shape, dtype=dy.dtype)
        for f, (down, across) in enumerate(filters):
            # 1. Back through the filter: each matrix transposed.
            z = xp.matmul(down.T, xp.matmul(dy, across))  # (N, C, H, W)
            # 2. The weight scales the filtered image; the inner product may be taken before the filter or behind it.
            dweights[:, f] = (z * x).reshape(x.shape[0], -1).sum(axis=1)  # (N,)
            # 3. The image reaches y through every filter.
            z *= weights[:, f, None, None, None]
            dx += z
        return dx, dweights


def gaussian_matrix(length: int, sigma: float, like: Array) -> Array:
    r"""Return the matrix that filters an axis with a Gaussian, edge pixels repeated outwards.

    .. math::
        (A x)_i = \sum_{o=-r}^{r} g_o\, x_{\mathrm{clip}(i + o,\, 0,\, L-1)}, \qquad
        g_o \propto e^{-o^2 / 2 \sigma^2}, \quad \sum_o g_o = 1, \quad r = \lceil 3 \sigma \rceil.

    Args:
        length: L, >= 1.
        sigma: standard deviation in pixels, > 0.
        like: an array of the wanted dtype and backend.

    Returns:
        ``(L, L)``, rows summing to 1: a constant stays a constant up to the border.
    """
    xp = backend.namespace(like)
    radius = math.ceil(3.0 * sigma)
    offset = xp.arange(-radius, radius + 1)
    g = xp.exp(-0.5 * (offset / sigma) * (offset / sigma))  # (2r + 1,), float64
    total = g.sum()
    g = g / total
    i = xp.arange(length)[:, None]  # (L, 1)
    apart = xp.arange(length) - i  # (L, L)
    matrix = xp.exp(-0.5 * (apart / sigma) * (apart / sigma)) / total * (abs(apart) <= radius)
    matrix[:, 0] += (g * (i + offset < 0)).sum(axis=1)  # taps beyond the border meet the edge pixel
    matrix[:, -1] += (g * (i + offset > length - 1)).sum(axis=1)
    result: Array = matrix.astype(like.dtype)
    return result
