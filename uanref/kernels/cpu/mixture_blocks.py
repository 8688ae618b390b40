"""A mixture's weights and weighted moments over one block of samples, in the buffers of one worker.

The equations are those of :mod:`uanref.norms.mixture_weights` and :mod:`uanref.norms.mixture_moments`, arranged for
one exponential per component: w = e_k / sum_j sqrt(lambda_j) e_j with e_k = exp(l_k - 1/2 log lambda_k - max_j ...).
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, per_channel, sample_blocks
from uanref.kernels.cpu.sums import sum_samples

MixtureArrays: TypeAlias = tuple[Array, Array, Array]
"""log lambda (K, P), mu and s = sigma^2 + eps (K, C): a :class:`uanref.norms.mixture_weights.Mixture`."""


class Constants:
    """What blocks of samples need of a mixture, made when it is first asked for.

    Args:
        mixture: log lambda ``(K, P)``, mu ``(K, C)`` and s = sigma^2 + eps ``(K, C)``.
        spatial: S, the spatial elements of the samples that will be asked about.
    """

    def __init__(self, mixture: MixtureArrays, spatial: int) -> None:
        self.log_prior, self.mean, self.variance = mixture
        self.spatial, self.joint = spatial, self.log_prior.shape[1] != self.mean.shape[1]

    @functools.cached_property
    def half_log_prior(self) -> Array:
        """The logarithm of what w divides by, 1/2 log lambda, not below 3/4 log tiny, ``(K, P)``."""
        bound = 0.75 * math.log(backend.tiny(self.log_prior.dtype))
        half: Array = backend.namespace(self.mean).maximum(0.5 * self.log_prior, bound)
        return half

    @functools.cached_property
    def root_prior(self) -> Array:
        """Sqrt(lambda), ``(K, P)``: tau = w * root_prior."""
        root: Array = backend.namespace(self.mean).exp(self.half_log_prior)
        return root

    @functools.cached_property
    def mean_(self) -> Array:
        """Mu, ``(K, 1, C, 1 or S)`` (:func:`uanref.kernels.cpu.blocks.per_channel`), as all below."""
        return per_channel(self.mean, self.spatial)

    @functools.cached_property
    def scale_(self) -> Array:
        """The factor of x - mu under the square, sqrt(1 / 2s)."""
        return per_channel(backend.namespace(self.mean).sqrt(0.5 / self.variance), self.spatial)

    @functools.cached_property
    def precision_(self) -> Array:
        """1 / s."""
        return per_channel(1.0 / self.variance, self.spatial)

    @functools.cached_property
    def root_prior_(self) -> Array:
        """Sqrt(lambda)."""
        return per_channel(self.root_prior, self.spatial)

    @functools.cached_property
    def offset_(self) -> Array:
        """``l_k - 1/2 log lambda_k`` at x = mu_k."""
        log_det = 0.5 * backend.namespace(self.mean).log(self.variance)
        if self.joint:
            log_det = log_det.sum(axis=1, keepdims=True, dtype=backend.wide(log_det))
        return per_channel(self.log_prior - self.half_log_prior - log_det, self.spatial)


def weights(x: Array, mixture: Constants, scratch: Scratch) -> Array:
    """Return ``w_k = tau_k / sqrt(lambda_k)``.

    Args:
        x: ``(b, C, S)``.
        mixture: see :class:`Constants`.
        scratch: buffers; the result is one of them, good until the next call.

    Returns:
        ``(K, b, P, S)``, >= 0.
    """
    xp = backend.namespace(x, mixture.mean)
    e = scratch("weights", (mixture.mean.shape[0], *x.shape), x)
    xp.subtract(_bounded(x), mixture.mean_, out=e)
    e *= mixture.scale_
    e *= e  # (x - mu)^2 / (2 s)
    if mixture.joint:
        e = e.sum(
            axis=2, keepdims=True, dtype=backend.wide(x)
        )  # large, but for what is subtracted: kept wide till then
    xp.subtract(mixture.offset_, e, out=e)  # l_k - 1/2 log lambda_k
    e -= e.max(axis=0)
    e = e.astype(x.dtype, copy=False)
    xp.exp(e, out=e)
    total = e[0] * mixture.root_prior_[0]  # (b, P, S)
    for k in range(1, e.shape[0]):
        total += e[k] * mixture.root_prior_[k]
    e /= total  # not below the least root_prior: the largest e is 1
    return e


def weights_backward(
    dlog_w: Array, x: Array, w: Array, mixture: Constants, scratch: Scratch
) -> tuple[Array, Array, Array, Array]:
    r"""Backward of :func:`weights`, from the gradient with respect to :math:`\log w_k`.

    With :math:`\log w_k = l_k - \log\sum_j e^{l_j} - \tfrac12\log\lambda_k`:

    1. softmax: :math:`dl_k = d\log w_k - \tau_k \sum_j d\log w_j`;
    2. :math:`d\log\lambda_k = \sum_m dl_k - \tfrac12 \sum_m d\log w_k`;
    3. with :math:`u_k = (x - \mu_k) / s_k`: :math:`d\mu_k = \sum_m dl_k u_k`,
       :math:`ds_k = \tfrac12 \sum_m dl_k (u_k^2 - 1/s_k)`, :math:`dx = -\sum_k dl_k u_k`.

    Args:
        dlog_w: ``(K, b, C, S)``; overwritten. For a joint posterior the channels' parts, which add up.
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)`` from :func:`weights`; overwritten.
        mixture: see :class:`Constants`.
        scratch: buffers.

    Returns:
        ``dx (b, C, S)``, ``dlog_prior (K, P)``, ``dmean (K, C)``, ``dvariance (K, C)``, the last three
        summed over this block. ``dlog_prior`` is not yet projected on normalized priors: see
        :func:`uanref.norms.mixture_constraints.log_softmax_backward`.
    """
    xp = backend.namespace(dlog_w, x)
    # 1. Through the softmax over k.
    if mixture.joint:
        dlog_w = dlog_w.sum(axis=2, keepdims=True, dtype=backend.wide(x)).astype(x.dtype)  # (K, b, 1, S)
    dlog_prior = -0.5 * sum_samples(dlog_w)  # (K, P), from the division by sqrt(lambda)
    w *= mixture.root_prior_  # tau
    w /= w.sum(axis=0)  # exactly 1 where one component is alone
    w *= dlog_w.sum(axis=0)
    dlog_w -= w
    dl = dlog_w  # (K, b, P, S)
    # 2. The prior's logarithm stands in l_k as a summand.
    dl_sum = sum_samples(dl)  # (K, P)
    dlog_prior += dl_sum
    # 3. Through the quadratic form.
    u = scratch("quadratic", (dl.shape[0], *x.shape), x)
    xp.subtract(_bounded(x), mixture.mean_, out=u)
    u *= mixture.precision_
    dl_u = scratch("product", u.shape, x)
    xp.multiply(dl, u, out=dl_u)
    dx = -dl_u.sum(axis=0)  # (b, C, S)
    dmean = sum_samples(dl_u)  # (K, C)
    dl_u *= u
    dvariance = 0.5 * (sum_samples(dl_u) - dl_sum / mixture.variance)  # (K, C)
    return dx, dlog_prior, dmean, dvariance


def _bounded(x: Array) -> Array:
    """Return ``x`` where its square is far from overflow, else that bound: 3e15 in float32, 1e123 in float64.

    Out there one component has all the weight, and the posterior no slope.
    """
    xp, bound = backend.namespace(x), backend.largest(x.dtype) ** 0.4
    bounded: Array = xp.minimum(xp.maximum(x, -bound), bound)
    return bounded


def weighted_moments(x: Array, w: Array, scratch: Scratch) -> tuple[Array, Array, Array]:
    r"""Return each component's total weight, mean and scatter over a block.

    .. math::
        W_k = \sum_m w_{km}, \quad m_k = \frac{1}{W_k} \sum_m w_{km} x_m, \quad
        W_k v_k = \sum_m w_{km} (x_m - m_k)^2.

    Args:
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)``, posteriors or weights: a factor per component changes W alone.
        scratch: buffers.

    Returns:
        ``W (K, P)``, ``m (K, C)`` (0 where W is 0) and ``W v (K, C)``, the last two in double precision:
        what :func:`uanref.kernels.cpu.merging.merge_moments` merges over blocks. Where W is subnormal, m has few
        digits: they count for as little in the merge.
    """
    xp = backend.namespace(x, w)
    total = sum_samples(w)  # (K, P)
    product = scratch("product", (w.shape[0], *x.shape), x)
    xp.multiply(w, x, out=product)
    some = total + (total == 0)  # to divide by, never a reciprocal: that of a subnormal W is infinite
    mean = sum_samples(product) / some  # (K, C)
    centred = scratch("quadratic", product.shape, x)
    xp.subtract(x, per_channel(mean, x.shape[2]), out=centred)
    xp.multiply(w, centred, out=product)
    # What is left of the first moment corrects both, as in standardize.channel_moments.
    left = sum_samples(product).astype(xp.result_type(x.dtype, "float64"))
    product *= centred
    return total, mean + left / some, sum_samples(product) - left * (left / some)


def weighted_moments_backward(
    dmean: Array, dvariance: Array, x: Array, w: Array, mean: Array, variance: Array, scratch: Scratch
) -> tuple[Array, Array]:
    r"""Backward of :func:`weighted_moments` for one block, with respect to x and :math:`\log w`.

    With :math:`\bar w_k = w_k / W_k` and because :math:`\sum_m w_k (x - m_k) = 0`:

    .. math::
        dx = \sum_k \bar w_k \left( dm_k + 2\, dv_k (x - m_k) \right), \qquad
        d\log w_k = \bar w_k \left( dm_k (x - m_k) + dv_k ((x - m_k)^2 - v_k) \right).

    Args:
        dmean: dL/dm_k divided by W_k, ``(K, 1, C, 1 or S)`` (:func:`uanref.kernels.cpu.blocks.per_channel`).
        dvariance: dL/dv_k divided by W_k, as ``dmean``.
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)``.
        mean: m_k of the whole batch, as ``dmean``.
        variance: v_k of the whole batch, as ``dmean``.
        scratch: buffers; the second result is one of them.

    Returns:
        ``dx (b, C, S)`` and ``dlog_w (K, b, C, S)``.
    """
    xp = backend.namespace(x, w)
    shape = (w.shape[0], *x.shape)
    centred, dx_k, dlog_w = (scratch(name, shape, x) for name in ("quadratic", "product", "dlog_w_moments"))
    xp.subtract(_bounded(x), mean, out=centred)
    xp.multiply(centred, dvariance, out=dx_k)  # dv (x - m)
    xp.add(dx_k, dmean, out=dlog_w)  # dm + dv (x - m)
    dx_k += dlog_w  # dm + 2 dv (x - m)
    dlog_w *= centred
    dlog_w -= dvariance * variance
    dlog_w *= w
    dx_k *= w
    dx: Array = dx_k.sum(axis=0)
    return dx, dlog_w


def blocks_of(rows: Array, mixture: MixtureArrays) -> list[slice]:
    """Cut the batch ``rows (N, C, S)`` so that a block's five buffers per component stay in the cache."""
    return sample_blocks(rows, 5 * mixture[1].shape[0] * rows[0].size)
