"""The transform that UAN and Mixture Normalization share: components normalize, the posterior mixes."""

from __future__ import annotations

from typing import NamedTuple

from uanref import backend, kernels
from uanref.backend import Array
from uanref.blocking import Scratch, merge_moments, merge_sums, per_channel, sample_blocks, sum_samples, walk
from uanref.kernels import constraints
from uanref.kernels import mixture_transform as fused
from uanref.norms.gaussian_mixture import (
    Mixture,
    weighted_moments,
    weighted_moments_backward,
    weights,
    weights_backward,
)


class Moments(NamedTuple):
    """What the components are normalized with: the batch's own moments, running ones or learned ones."""

    mean: Array  # m_k, (K, C)
    variance: Array  # v_k, (K, C)
    inverse_std: Array  # i_k = 1 / sqrt(v_k + eps), 0 for a dead component, (K, C)
    total: Array | None = None  # W_k = sum_m w_k, (K, P); None unless these are the batch's own moments
    alive: Array | None = None  # 1 where a component has samples in the batch, else 0, (K, P); None as above


class Gradients(NamedTuple):
    """What :func:`transform_backward` returns besides dx."""

    gamma: Array  # (C,)
    beta: Array  # (C,)
    moments_mean: Array  # dm_k: the moments' own gradient, used where they are learned, (K, C)
    moments_variance: Array  # dv_k, as dm_k, (K, C)
    log_prior: Array  # (K, P), before the projection on normalized priors
    mean: Array  # dmu_k through the weights, (K, C)
    variance: Array  # ds_k through the weights, (K, C)


def fixed_moments(mean: Array, variance: Array, eps: float) -> Moments:
    """Return moments that do not depend on the batch. Shapes (K, C)."""
    if kernels.serves(mean, variance):
        return Moments(mean, variance, constraints.inverse_std(variance, eps))
    return Moments(mean, variance, 1.0 / backend.namespace(mean).sqrt(variance + eps))


def batch_moments(rows: Array, mixture: Mixture, eps: float) -> Moments:
    """Return the posterior-weighted moments of the batch ``rows (N, C, S)``.

    A component whose posteriors sum to less than the dtype's smallest normal number is dead: its
    ``inverse_std`` and ``alive`` are 0. A mask, not a test, so that a device need not wait.
    """
    if _served(rows, mixture):
        return Moments(*fused.batch_moments(rows, _arrays(mixture), eps))

    def task(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        x = rows[block]
        return weighted_moments(x, weights(x, mixture, scratch), scratch)

    parts = walk(task, _blocks(rows, mixture), rows.size)
    total, mean, variance = merge_moments(parts, rows.dtype)
    alive = (mixture.root_prior * total >= backend.tiny(rows.dtype)).astype(rows.dtype)  # S_k = sum_m tau_k
    return Moments(mean, variance, alive / backend.namespace(rows).sqrt(variance + eps), total, alive)


def transform(
    rows: Array, mixture: Mixture, moments: Moments, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    r"""Return :math:`y = \gamma \rho \sum_k w_k (x - m_k) i_k + \beta`.

    Args:
        rows: x, ``(N, C, S)``.
        mixture: gives the weights w.
        moments: m and i.
        rho: the rescaling factor.
        gamma, beta: ``(C,)``, or None for 1 and 0.

    Returns:
        ``(N, C, S)``.
    """
    if _served(rows, mixture):
        return fused.transform(rows, _arrays(mixture), moments, rho, gamma, beta)
    xp, spatial = backend.namespace(rows, mixture.mean), rows.shape[2]
    scale = moments.inverse_std * (rho if gamma is None else rho * gamma)  # (K, C)
    mean_, scale_ = per_channel(moments.mean, spatial), per_channel(scale, spatial)
    beta_ = None if beta is None else per_channel(beta, spatial)
    y: Array = xp.empty(rows.shape, dtype=rows.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        x, out = rows[block], y[block]  # (b, C, S)
        w = weights(x, mixture, scratch)  # (K, b, P, S)
        term = scratch("product", (w.shape[0], *x.shape), x)
        xp.subtract(x, mean_, out=term)
        term *= scale_
        term *= w
        term.sum(axis=0, out=out)
        if beta_ is not None:
            out += beta_

    walk(task, _blocks(rows, mixture), rows.size)
    return y


def transform_backward(
    dy: Array, rows: Array, mixture: Mixture, moments: Moments, rho: float, gamma: Array | None
) -> tuple[Array, Gradients]:
    r"""Backward of :func:`transform`, and of :func:`batch_moments` where those are the batch's.

    With :math:`g = \gamma \rho\, dy` and :math:`\hat x^k = (x - m_k) i_k`; :math:`\log w` is the
    natural variable, its gradient is w dL/dw.

    1. Per component :math:`A_k = \sum_m dy\, w_k` and :math:`B_k = \sum_m dy\, w_k \hat x^k`, so
       :math:`d\gamma = \rho \sum_k B_k`, :math:`dm_k = -\gamma \rho\, i_k A_k`,
       :math:`dv_k = -\tfrac12 \gamma \rho\, i_k^2 B_k`.
    2. Directly: :math:`dx = \sum_k g w_k i_k` and :math:`d\log w_k = g w_k \hat x^k`.
    3. Batch moments depend on x and w: ``weighted_moments_backward`` adds to both.
    4. The weights depend on x and the mixture: ``weights_backward``.

    Args:
        dy: ``(N, C, S)``.
        rows: x, ``(N, C, S)``.
        mixture, moments, rho, gamma: as given to :func:`transform`.

    Returns:
        ``dx (N, C, S)`` and the other gradients.
    """
    if _served(rows, mixture):
        fused_dx, *others = fused.transform_backward(dy, rows, _arrays(mixture), moments, rho, gamma)
        return fused_dx, Gradients(*others)
    xp, spatial = backend.namespace(dy, rows), rows.shape[2]
    mean_, inverse_std_ = per_channel(moments.mean, spatial), per_channel(moments.inverse_std, spatial)
    blocks = _blocks(rows, mixture)

    def sums(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        x, dy_b = rows[block], dy[block]  # (b, C, S)
        w = weights(x, mixture, scratch)  # (K, b, P, S)
        shape = (w.shape[0], *x.shape)
        dy_w, centred = scratch("product", shape, x), scratch("quadratic", shape, x)
        xp.multiply(w, dy_b, out=dy_w)
        a = sum_samples(dy_w)
        xp.subtract(x, mean_, out=centred)
        dy_w *= centred
        return a, sum_samples(dy_w), sum_samples(dy_b)

    # 1. Sums per component.
    parts = walk(sums, blocks, rows.size)
    a = merge_sums([part[0] for part in parts], dy.dtype)  # (K, C)
    b = merge_sums([part[1] for part in parts], dy.dtype) * moments.inverse_std  # (K, C)
    dbeta = merge_sums([part[2] for part in parts], dy.dtype)  # (C,)
    dgamma = rho * b.sum(axis=0)  # (C,)
    scale = rho if gamma is None else rho * gamma
    dm = -scale * moments.inverse_std * a  # (K, C)
    dv = -0.5 * scale * moments.inverse_std * moments.inverse_std * b  # (K, C)

    from_batch = moments.total is not None and moments.alive is not None
    if moments.total is not None and moments.alive is not None:
        share = moments.alive / (moments.total + (1.0 - moments.alive))  # 1 / W_k, 0 for a dead component
        dm_, dv_ = per_channel(dm * share, spatial), per_channel(dv * share, spatial)
        variance_ = per_channel(moments.variance, spatial)
    scale_ = rho if gamma is None else per_channel(rho * gamma, spatial)
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)

    def propagate(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        x, out = rows[block], dx[block]  # (b, C, S)
        w = weights(x, mixture, scratch)  # (K, b, P, S)
        shape = (w.shape[0], *x.shape)
        # 2. Directly.
        g = dy[block] * scale_  # (b, C, S)
        g_w_i, dlog_w = scratch("product", shape, x), scratch("dlog_w", shape, x)
        xp.multiply(w, g, out=g_w_i)
        g_w_i *= inverse_std_
        g_w_i.sum(axis=0, out=out)
        xp.subtract(x, mean_, out=dlog_w)
        dlog_w *= g_w_i
        # 3. Through the batch's moments.
        if from_batch:
            dx_moments, dlog_w_moments = weighted_moments_backward(dm_, dv_, x, w, mean_, variance_, scratch)
            out += dx_moments
            dlog_w += dlog_w_moments
        # 4. Through the weights.
        dx_weights, dlog_prior, dmean, dvariance = weights_backward(dlog_w, x, w, mixture, scratch)
        out += dx_weights
        return dlog_prior, dmean, dvariance

    parts = walk(propagate, blocks, rows.size)
    through_weights = (merge_sums([part[i] for part in parts], dy.dtype) for i in range(3))
    return dx, Gradients(dgamma, dbeta, dm, dv, *through_weights)


def moved(old: Array, found: Array, alive: Array, momentum: float) -> Array:
    r"""Return running moments after a batch, :math:`(1 - \eta\,a_k)\, old_k + \eta\,a_k\, found_k`.

    Args:
        old, found: ``(K, C)``.
        alive: a_k, 1, or 0 for a dead component, which stays as it was, ``(K, P)``.
        momentum: eta, in [0, 1].

    Returns:
        ``(K, C)``.
    """
    if kernels.serves(old, found, alive):
        return constraints.moved(old, found, alive, momentum)
    step = momentum * alive
    new: Array = (1.0 - step) * old + step * found
    return new


def _served(rows: Array, mixture: Mixture) -> bool:
    """Tell whether the fused kernels can do this: on a device, for a posterior of each activation by itself."""
    components, channels = mixture.mean.shape
    return (
        kernels.serves(rows)
        and not mixture.joint
        and components <= fused.MAX_COMPONENTS
        and channels <= fused.MAX_CHANNELS
    )


def _arrays(mixture: Mixture) -> fused.MixtureArrays:
    return mixture.log_prior, mixture.mean, mixture.variance


def _blocks(rows: Array, mixture: Mixture) -> list[slice]:
    """Cut the batch so that a block's five buffers per component stay in the cache."""
    return sample_blocks(rows, 5 * mixture.mean.shape[0] * rows[0].size)
