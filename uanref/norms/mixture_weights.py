r"""The posterior of a Gaussian mixture over a channel's activations, and the weights that it gives.

Notation, for samples x ``(N, C, S)`` and K components of prior :math:`\lambda_k`, mean :math:`\mu_k` and variance
:math:`s_k = \sigma_k^2 + \epsilon`,

.. math::
    l_k(x) = \log\lambda_k - \tfrac12 \log s_k - \frac{(x - \mu_k)^2}{2 s_k}, \qquad
    \tau_k(x) = \frac{e^{l_k}}{\sum_j e^{l_j}}, \qquad
    w_k(x) = \frac{\tau_k(x)}{\sqrt{\lambda_k}}.

tau is the posterior; w is what the components are weighted with in UAN and Mixture Normalization. Weighted moments
are the same for tau and w, since a factor per component cancels, so the layers compute w alone, from logarithms:
a literal tau / sqrt(lambda) is 0/0 for a tiny prior.

Shapes: P is C for one posterior per activation and channel, and 1 for the joint posterior of all channels at a
position, where l_k sums over the channels (diagonal covariance).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from uanref import backend
from uanref.backend import Array


class Mixture(NamedTuple):
    """A mixture's values in one forward pass."""

    log_prior: Array  # log lambda, normalized over k, (K, P)
    mean: Array  # mu, (K, C)
    variance: Array  # s = sigma^2 + eps > 0, (K, C)

    @property
    def joint(self) -> bool:
        """Whether one posterior serves all channels."""
        return bool(self.log_prior.shape[1] != self.mean.shape[1])


def column(a: Array) -> Array:
    """Give ``(K, C)`` the shape ``(K, 1, C, 1)``, which broadcasts against samples ``(N, C, S)``."""
    return a[:, None, :, None]


def weights(x: Array, mixture: Mixture) -> Array:
    """Return ``w_k = tau_k / sqrt(lambda_k)``, ``(N, C, S) -> (K, N, P, S)``."""
    xp, (log_prior, mean, variance) = backend.namespace(x, mixture.mean), map(column, mixture)  # (K, 1, P or C, 1)
    z = (near(x) - mean) / xp.sqrt(variance)  # (K, N, C, S), divided before it is squared: nothing overflows
    log_density = -0.5 * (xp.log(variance) + z * z)  # (K, N, C, S)
    if mixture.joint:
        log_density = log_density.sum(axis=2, keepdims=True, dtype=backend.wide(x))  # (K, N, 1, S), large: kept wide
    likeliest = (log_prior + log_density).real.max(axis=0)  # any real shift is right: nothing overflows
    log_tau = log_prior + log_density - likeliest
    log_tau = log_tau - xp.log(xp.exp(log_tau).sum(axis=0))
    w: Array = xp.exp(log_tau - half_log(log_prior))
    return w.astype(x.dtype)


def weights_backward(dlog_w: Array, x: Array, w: Array, mixture: Mixture) -> tuple[Array, ...]:
    r"""Backward of :func:`weights`, from the gradient with respect to :math:`\log w_k`.

    With :math:`\log w_k = l_k - \log\sum_j e^{l_j} - \tfrac12\log\lambda_k`:

    1. softmax: :math:`dl_k = d\log w_k - \tau_k \sum_j d\log w_j`;
    2. :math:`d\log\lambda_k = \sum_m dl_k - \tfrac12 \sum_m d\log w_k`;
    3. with :math:`u_k = (x - \mu_k) / s_k`: :math:`d\mu_k = \sum_m dl_k u_k`,
       :math:`ds_k = \tfrac12 \sum_m dl_k (u_k^2 - 1/s_k)`, :math:`dx = -\sum_k dl_k u_k`.

    Args:
        dlog_w: ``(K, N, C, S)``; for a joint posterior the channels' parts, which add up.
        x: ``(N, C, S)``.
        w: ``(K, N, P, S)`` from :func:`weights`.
        mixture: see :class:`Mixture`.

    Returns:
        ``dx (N, C, S)``, ``dlog_prior (K, P)``, not yet projected on normalized priors
        (:func:`uanref.norms.mixture_constraints.log_softmax_backward`), ``dmean (K, C)`` and ``dvariance (K, C)``.
    """
    wide, (log_prior, mean, variance) = backend.wide(x), map(column, mixture)
    if mixture.joint:
        dlog_w = dlog_w.sum(axis=2, keepdims=True, dtype=wide)  # (K, N, 1, S)
    # 1. Through the softmax over k. Divided by its sum, 1 but for rounding, tau is exactly 1 where one component is
    #    alone: what rounding would leave there, step 3 multiplies with x / s.
    tau = w * backend.namespace(x).exp(half_log(log_prior))  # (K, N, P, S)
    dl = dlog_w - tau / tau.sum(axis=0) * dlog_w.sum(axis=0)
    # 2. The prior's logarithm stands in l_k as a summand, and w was divided by its root.
    dlog_prior = (dl - 0.5 * dlog_w).sum(axis=(1, 3), dtype=wide)  # (K, P)
    # 3. Through the quadratic form.
    u = (near(x) - mean) / variance  # (K, N, C, S)
    dx = -(dl * u).sum(axis=0)  # (N, C, S)
    dmean = (dl * u).sum(axis=(1, 3), dtype=wide)  # (K, C)
    dvariance = 0.5 * (dl * u * u - dl / variance).sum(axis=(1, 3), dtype=wide)  # (K, C)
    return tuple(a.astype(x.dtype) for a in (dx, dlog_prior, dmean, dvariance))


def posterior(x: Array, mixture: Mixture) -> Array:
    """Return ``tau_k(x)``, the probability that component k produced x, ``(N, C, S) -> (K, N, P, S)``."""
    tau: Array = weights(x, mixture) * backend.namespace(x).exp(half_log(column(mixture.log_prior)))
    return tau


def posterior_backward(dtau: Array, x: Array, mixture: Mixture) -> tuple[Array, Array, Array, Array]:
    r"""Backward of :func:`posterior`: :math:`d\log\tau_k = \tau_k d\tau_k`, then :func:`weights_backward`.

    The posterior has no division by sqrt(lambda): what that one adds to ``dlog_prior`` is taken back.

    Returns:
        As :func:`weights_backward`.
    """
    dlog_tau = posterior(x, mixture) * dtau  # (K, N, P, S)
    dx, dlog_prior, dmean, dvariance = weights_backward(dlog_tau, x, weights(x, mixture), mixture)
    return dx, dlog_prior + 0.5 * dlog_tau.sum(axis=(1, 3)), dmean, dvariance


def half_log(log_prior: Array) -> Array:
    """Return ``1/2 log lambda``, the logarithm of what w divides by, not below 3/4 log tiny.

    At that bound (a prior of 1e-57 in float32) weights saturate, so that sums of many of them stay finite.
    """
    bound = 0.75 * math.log(backend.tiny(log_prior.dtype))
    half: Array = backend.namespace(log_prior).maximum(0.5 * log_prior, bound)
    return half


def near(x: Array) -> Array:
    """Return x where its square is far from overflow, else that bound: 3e15 in float32, 1e123 in float64.

    Out there one component has all the weight, and the posterior no slope.
    """
    xp, bound = backend.namespace(x), backend.largest(x.dtype) ** 0.4
    bounded: Array = xp.minimum(xp.maximum(x, -bound), bound)
    return bounded
