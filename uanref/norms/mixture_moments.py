"""Posterior-weighted moments of a batch, and what the components of a mixture are normalized with."""

from __future__ import annotations

from typing import NamedTuple

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.norms.mixture_weights import Mixture, column, half_log, near, weights


class Moments(NamedTuple):
    """What the components are normalized with: the batch's own moments, running ones or learned ones."""

    mean: Array  # m_k, (K, C)
    variance: Array  # v_k, (K, C)
    inverse_std: Array  # i_k = 1 / sqrt(v_k + eps), 0 for a dead component, (K, C)
    total: Array | None = None  # W_k = sum_m w_k, (K, P); None unless these are the batch's own moments
    alive: Array | None = None  # 1 where a component has samples in the batch, else 0, (K, P); None as above


def weighted_moments(x: Array, w: Array) -> tuple[Array, Array, Array]:
    r"""Return each component's total weight W ``(K, P)``, mean and variance ``(K, C)``, in ``backend.wide(x)``.

    .. math::
        W_k = \sum_m w_{km}, \quad m_k = \frac{1}{W_k} \sum_m w_{km} x_m, \quad
        v_k = \frac{1}{W_k} \sum_m w_{km} (x_m - m_k)^2

    Args:
        x: ``(N, C, S)``.
        w: ``(K, N, P, S)``, posteriors or weights: a factor per component changes W alone. Where W is below the dtype's
            smallest normal number, whose reciprocal need not be finite, m and v are 0.
    """
    xp, tiny = backend.namespace(x, w), backend.tiny(x.dtype)
    total = w.sum(axis=(1, 3), dtype=backend.wide(x))  # (K, P)
    share = w * column((total >= tiny) / xp.maximum(total, tiny))  # (K, N, P, S)
    mean = (share * x).sum(axis=(1, 3))  # (K, C)
    variance = (share * (x - column(mean)) ** 2).sum(axis=(1, 3))  # (K, C)
    return total, mean, xp.minimum(variance, backend.largest(x.dtype))  # a root of infinity would hide x


def weighted_moments_backward(
    dmean: Array, dvariance: Array, x: Array, share: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    r"""Backward of :func:`weighted_moments`, with respect to x and :math:`\log w`.

    With :math:`\bar w_k = w_k / W_k` and because :math:`\sum_m w_k (x - m_k) = 0`:

    .. math::
        dx = \sum_k \bar w_k \left( dm_k + 2\, dv_k (x - m_k) \right), \qquad
        d\log w_k = \bar w_k \left( dm_k (x - m_k) + dv_k ((x - m_k)^2 - v_k) \right).

    Args:
        dmean, dvariance: dL/dm_k and dL/dv_k, ``(K, C)``.
        x: ``(N, C, S)``.
        share: w / W, ``(K, N, P, S)``.
        mean, variance: m_k and v_k, ``(K, C)``.

    Returns:
        ``dx (N, C, S)`` and ``dlog_w (K, N, C, S)``.
    """
    dm, dv, m, v = map(column, (dmean, dvariance, mean, variance))  # (K, 1, C, 1)
    centred = near(x) - m  # (K, N, C, S)
    dx = (share * (dm + 2.0 * dv * centred)).sum(axis=0)
    dlog_w = share * ((dm + dv * centred) * centred - dv * v)  # in this order no square overflows
    return dx, dlog_w


@accelerated
def batch_moments(x: Array, mixture: Mixture, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """Return the fields of the batch's own :class:`Moments`, weighted with w, for ``x (N, C, S)``.

    A component whose posteriors sum to less than the dtype's smallest normal number is dead: its ``inverse_std`` and
    ``alive`` are 0. A mask, not a test, so that a device need not wait.
    """
    xp = backend.namespace(mixture.mean)
    w = weights(x, mixture)  # (K, N, P, S)
    total, mean, variance = weighted_moments(x, w)  # (K, P), (K, C), (K, C)
    alive = xp.exp(half_log(mixture.log_prior)) * total >= backend.tiny(x.dtype)  # S_k = sum_m tau_k, (K, P)
    inverse = alive / xp.sqrt(variance + eps + (1.0 - alive))  # where it is dead, v and eps may both be 0
    mean, variance, inverse, total, alive = (a.astype(x.dtype) for a in (mean, variance, inverse, total, alive))
    return mean, variance, inverse, total, alive


@accelerated
def inverse_std(variance: Array, eps: float) -> Array:
    """Return ``i = 1 / sqrt(v + eps)`` of moments that do not depend on the batch; shapes (K, C)."""
    inverse: Array = 1.0 / backend.namespace(variance).sqrt(variance + eps)
    return inverse


def fixed_moments(mean: Array, variance: Array, eps: float) -> Moments:
    """Return moments that do not depend on the batch: running or learned ones, (K, C)."""
    return Moments(mean, variance, inverse_std(variance, eps))
