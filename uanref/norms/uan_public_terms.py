r"""The steps of what UAN's authors released, each beside its backward; :class:`uanref.norms.uan_public.UANPublic`.

Notation: x is ``(N, C, S)``, every channel by itself; :math:`q_k = \mathrm{softplus}(\text{variance}_k) + \epsilon`, a
column ``(K, 1, C, 1)``; the steps' numbers are the class's. Source: recorded results of the released layers, from which
these formulas were confirmed; the backward passes are derived here.
"""

from __future__ import annotations

from typing import NamedTuple

from uanref import backend
from uanref.backend import Array
from uanref.layers.sums import sum_rows, sum_samples
from uanref.norms.mixture_weights import column


def gated_posterior(x: Array, mean: Array, q: Array, eps: float) -> tuple[Array, Array]:
    r"""Return :math:`x - \mu_k` and :math:`\tau_k`, steps 1 and 2, ``(N, C, S) -> (K, N, C, S)`` each.

    Args:
        x: ``(N, C, S)``.
        mean, q: columns ``(K, 1, C, 1)``.
        eps: closes the gate where all densities are small.
    """
    xp = backend.namespace(x, mean)
    distance = x - mean  # (K, N, C, S)
    # 1. e^-(1e8)^2 is 0 in every format; beyond, the square itself might overflow.
    scaled = xp.minimum(xp.maximum(distance * xp.sqrt(0.5 / q), -1e8), 1e8)
    p = xp.exp(-scaled * scaled)
    # 2.
    return distance, p / (p.sum(axis=0) + eps)


def gated_posterior_backward(dtau: Array, distance: Array, tau: Array, q: Array) -> tuple[Array, Array, Array]:
    r"""Backward of :func:`gated_posterior`.

    Softmax with eps in the sum: with :math:`l_k = \log p_k`, :math:`dl_k = \tau_k (d\tau_k - \sum_j \tau_j d\tau_j)`;
    then, with :math:`u_k = (x - \mu_k) / q_k`, :math:`dx = -\sum_k dl_k u_k`, :math:`d\mu_k = \sum_m dl_k u_k` and
    :math:`dq_k = \tfrac12 \sum_m dl_k u_k^2`.

    Returns:
        dx ``(N, C, S)``, dmean and dq ``(K, C)``.
    """
    dl = tau * (dtau - (tau * dtau).sum(axis=0))  # (K, N, C, S)
    u = distance / q
    dl_u = dl * u
    return -dl_u.sum(axis=0), sum_samples(dl_u), 0.5 * sum_samples(dl_u * u)


class BatchTerms(NamedTuple):
    """What steps 3 to 5 leave for their backward."""

    tau_sum: Array  # with eps, (K, 1, C, 1)
    h: Array  # (K, N, C, S)
    v: Array  # x - E, (K, N, C, S)
    inverse_std: Array  # (V + eps)^(-1/2), (K, N, C, 1)


def batch_terms(x: Array, tau: Array, eps: float) -> tuple[Array, BatchTerms]:
    """Return the terms y_k by the batch's own weights, steps 3 to 6, ``(K, N, C, S)``, and what backward needs."""
    xp, spatial = backend.namespace(x), x.shape[2]
    # 3.
    tau_sum = column(sum_samples(tau) + eps)  # (K, 1, C, 1)
    h = tau / tau_sum
    # 4. and 5.
    h_x = h * x
    v = x - sum_rows(h_x)[..., None] / spatial  # (K, N, C, S)
    inverse_std = 1.0 / xp.sqrt(sum_rows(h * h_x * h_x)[..., None] / spatial + eps)  # (K, N, C, 1)
    # 6.
    return tau * v * inverse_std * (1.0 + eps) ** -0.5, BatchTerms(tau_sum, h, v, inverse_std)


def batch_terms_backward(dy: Array, x: Array, tau: Array, kept: BatchTerms, eps: float) -> tuple[Array, Array]:
    """Backward of :func:`batch_terms` and their sum, from its end: dx ``(N, C, S)`` and dtau ``(K, N, C, S)``."""
    tau_sum, h, v, inverse_std = kept
    spatial = x.shape[2]
    # 6. Each term is tau_k v_k i_k, times a constant; i = (V + eps)^(-1/2).
    g = dy * (1.0 + eps) ** -0.5  # (N, C, S)
    dtau = g * v * inverse_std  # (K, N, C, S)
    dv = g * tau * inverse_std
    dV = -0.5 * inverse_std**3 * sum_rows(g * tau * v)[..., None]  # (K, N, C, 1)
    # 4. and 5. x directly in v = x - E; E = mean_s(h x); V = mean_s(h^3 x^2).
    dx = dv.sum(axis=0)
    dE = -sum_rows(dv)[..., None]  # (K, N, C, 1)
    h_x = h * x
    dh = (dE * x + 3.0 * dV * h_x * h_x) / spatial
    dx += ((dE * h + 2.0 * dV * h * h * h_x) / spatial).sum(axis=0)
    # 3. Every tau_k stands in the sum that divides it.
    through_sum = sum_samples(dh * h)  # (K, C)
    return dx, dtau + (dh - column(through_sum)) / tau_sum


def mixture_terms(distance: Array, tau: Array, q: Array, eps: float) -> Array:
    r"""Return the terms by the mixture's own moments, :math:`\tau_k (x - \mu_k) / \sqrt{(1 + \epsilon) q_k}`.

    Args:
        distance, tau: from :func:`gated_posterior`, ``(K, N, C, S)``.
        q: column ``(K, 1, C, 1)``.
        eps: beside the prior 1.

    Returns:
        ``(K, N, C, S)``.
    """
    terms: Array = tau * distance / backend.namespace(q).sqrt(q) * (1.0 + eps) ** -0.5
    return terms


def mixture_terms_backward(dy: Array, distance: Array, tau: Array, q: Array, eps: float) -> tuple[Array, ...]:
    r"""Backward of :func:`mixture_terms` and their sum.

    Each term is :math:`\tau_k (x - \mu_k) i_k` times a constant, with :math:`i_k = q_k^{-1/2}` and
    :math:`di_k / dq_k = -\tfrac12 i_k^3`: x stands in every term, mu and q in their own.

    Returns:
        dx ``(N, C, S)``, dtau ``(K, N, C, S)``, dmean and dq ``(K, C)``.
    """
    inverse_std = 1.0 / backend.namespace(q).sqrt(q)  # (K, 1, C, 1)
    g = dy * (1.0 + eps) ** -0.5  # (N, C, S)
    dtau = g * distance * inverse_std  # (K, N, C, S)
    ddistance = g * tau * inverse_std
    di = sum_samples(g * tau * distance)  # (K, C)
    return ddistance.sum(axis=0), dtau, -sum_samples(ddistance), -0.5 * inverse_std[:, 0, :, 0] ** 3 * di
