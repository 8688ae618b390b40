"""The transform that UAN and Mixture Normalization share: components normalize, the posterior mixes."""

from __future__ import annotations

from typing import NamedTuple

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.norms.mixture_moments import Moments, weighted_moments_backward
from uanref.norms.mixture_weights import Mixture, column, weights, weights_backward
from uanref.norms.standardize import scale_and_shift


class Gradients(NamedTuple):
    """What :func:`transform_backward` returns besides dx."""

    gamma: Array  # (C,)
    beta: Array  # (C,)
    moments_mean: Array  # dm_k: the moments' own gradient, used where they are learned, (K, C)
    moments_variance: Array  # dv_k, as dm_k, (K, C)
    log_prior: Array  # (K, P), before the projection on normalized priors
    mean: Array  # dmu_k through the weights, (K, C)
    variance: Array  # ds_k through the weights, (K, C)


@accelerated
def transform(
    x: Array, mixture: Mixture, moments: Moments, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    r"""Return :math:`y = \gamma \rho \sum_k w_k \hat x^k + \beta` with :math:`\hat x^k = (x - m_k) i_k`, ``(N, C, S)``.

    Args:
        x: ``(N, C, S)``.
        mixture: gives the weights w.
        moments: m and i.
        rho: the rescaling factor.
        gamma, beta: ``(C,)``, or None for 1 and 0.
    """
    x_hat = (x - column(moments.mean)) * column(moments.inverse_std)  # (K, N, C, S)
    y: Array = rho * (weights(x, mixture) * x_hat).sum(axis=0)  # (N, C, S)
    return scale_and_shift(y, gamma, beta)


@accelerated
def transform_backward(
    dy: Array, x: Array, mixture: Mixture, moments: Moments, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    r"""Backward of :func:`transform`, and of :func:`batch_moments` where those are the batch's.

    With :math:`h = \gamma \rho\, dy`; :math:`\log w` is the natural variable, its gradient is w dL/dw.

    1. :math:`dm_k = -i_k \sum_m h w_k` and :math:`dv_k = -\tfrac12 i_k^2 \sum_m h w_k \hat x^k`.
    2. Directly: :math:`dx = \sum_k h w_k i_k` and :math:`d\log w_k = h w_k \hat x^k`.
    3. Batch moments depend on x and w: :func:`uanref.norms.mixture_moments.weighted_moments_backward`.
    4. The weights depend on x and the mixture: :func:`uanref.norms.mixture_weights.weights_backward`.

    Args:
        dy: ``(N, C, S)``.
        x, mixture, moments, rho, gamma: as given to :func:`transform`.

    Returns:
        ``dx (N, C, S)`` and the fields of :class:`Gradients`.
    """
    wide, w = backend.wide(x), weights(x, mixture)  # (K, N, P, S)
    m, i = column(moments.mean), column(moments.inverse_std)  # (K, 1, C, 1)
    x_hat = (x - m) * i  # (K, N, C, S)
    h = rho * dy if gamma is None else rho * gamma[:, None] * dy  # (N, C, S)
    # 1. Sums per component.
    dgamma = rho * (dy * w * x_hat).sum(axis=(0, 1, 3), dtype=wide)  # (C,)
    dbeta = dy.sum(axis=(0, 2), dtype=wide)  # (C,)
    dm = -(h * w * i).sum(axis=(1, 3), dtype=wide)  # (K, C)
    dv = -0.5 * (h * w * x_hat).sum(axis=(1, 3), dtype=wide) * moments.inverse_std**2  # (K, C)
    # 2. Directly.
    dx = (h * w * i).sum(axis=0)  # (N, C, S)
    dlog_w = h * w * x_hat  # (K, N, C, S)
    # 3. Through the batch's moments.
    if moments.total is not None and moments.alive is not None:
        share = w * column(moments.alive / (moments.total + (1.0 - moments.alive)))  # (K, N, P, S), 0 for a dead one
        dx_moments, dlog_w_moments = weighted_moments_backward(dm, dv, x, share, moments.mean, moments.variance)
        dx, dlog_w = dx + dx_moments, dlog_w + dlog_w_moments
    # 4. Through the weights.
    dx_weights, dlog_prior, dmean, dvariance = weights_backward(dlog_w, x, w, mixture)
    found = (dx + dx_weights, dgamma, dbeta, dm, dv, dlog_prior, dmean, dvariance)
    return tuple(a.astype(x.dtype) for a in found)
