r"""Subtract a mean, divide by a deviation: what batch, layer, group and instance normalization share.

The four differ in one thing, which numbers share a mean and a variance: the *cell* of a number, given by the axes that
are summed over. With the M numbers of a cell,

.. math::
    \mu = \frac1M \sum_l x_l, \qquad v = \frac1M \sum_l (x_l - \mu)^2, \qquad
    \hat x_l = \frac{x_l - \mu}{\sqrt{v + \epsilon}}.

x reaches the loss directly, through the mean and through the variance. The three collapse to

.. math::
    dx_l = \frac{1}{\sqrt{v + \epsilon}}
    \left( d\hat x_l - \frac1M \sum_j d\hat x_j - \hat x_l \frac1M \sum_j d\hat x_j \hat x_j \right)

(Ioffe & Szegedy 2015, section 3, summed up). Then every channel has its gamma and beta, whatever the cells are.

Range: float32 up to its largest number, where a variance saturates; float64 deviations up to 1e150, where squares end.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated


def as_rows(x: Array) -> Array:
    """View ``(N, C, ...)`` as ``(N, C, S)``, S the product of the spatial sizes (1 for rank 2).

    Copied once where it does not lie in this order, so that whoever reads it need not do so again.
    """
    rows: Array = x.reshape(x.shape[0], x.shape[1], -1).astype(x.dtype, order="C", copy=False)
    return rows


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return mean and biased variance over ``axes``, which keep length 1; in ``backend.wide(x)``."""
    mean = x.mean(axis=axes, keepdims=True, dtype=backend.wide(x))
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    variance = backend.namespace(x).minimum(variance, backend.largest(x.dtype))  # a root of infinity would hide x
    return mean, variance


@accelerated
def channel_moments(x: Array) -> tuple[Array, Array]:
    """Return each channel's mean and biased variance over the batch, ``(N, C, S) -> (C,), (C,)``."""
    mean, variance = moments(x, axes=(0, 2))
    return mean[0, :, 0].astype(x.dtype), variance[0, :, 0].astype(x.dtype)


def standardize(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    """Return x_hat in x's dtype; mean and variance broadcast against x, and far from 0 are better given wide."""
    x_hat: Array = (x - mean) / (variance + eps) ** 0.5
    return x_hat.astype(x.dtype)


def standardize_backward(dx_hat: Array, x_hat: Array, variance: Array, eps: float, axes: tuple[int, ...]) -> Array:
    """Return dL/dx for ``dx_hat`` where mean and variance are x's own over ``axes``."""
    wide = backend.wide(x_hat)
    through_mean = dx_hat.mean(axis=axes, keepdims=True, dtype=wide)
    through_variance = x_hat * (dx_hat * x_hat).mean(axis=axes, keepdims=True, dtype=wide)
    dx: Array = (dx_hat - through_mean - through_variance) / (variance + eps) ** 0.5
    return dx.astype(x_hat.dtype)


def scale_and_shift(x_hat: Array, gamma: Array | None, beta: Array | None) -> Array:
    """Return ``y = gamma x_hat + beta``, ``(N, C, S)``; gamma and beta are ``(C,)``, or None for 1 and 0."""
    y = x_hat if gamma is None else gamma[:, None] * x_hat
    return y if beta is None else y + beta[:, None]


def scale_and_shift_backward(dy: Array, x_hat: Array, gamma: Array | None) -> tuple[Array, Array, Array]:
    """Return dL/dx_hat ``(N, C, S)``, dL/dgamma and dL/dbeta ``(C,)`` for ``dy (N, C, S)``."""
    wide = backend.wide(dy)
    dgamma = (dy * x_hat).sum(axis=(0, 2), dtype=wide).astype(dy.dtype)  # (C,)
    dbeta = dy.sum(axis=(0, 2), dtype=wide).astype(dy.dtype)  # (C,)
    return dy if gamma is None else gamma[:, None] * dy, dgamma, dbeta
