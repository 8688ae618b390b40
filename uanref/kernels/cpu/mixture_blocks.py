"""A mixture's posteriors, weighted moments and their backward over one block of samples, in one worker's buffers.

The equations are those of :mod:`uanref.norms.mixture_weights` and :mod:`uanref.norms.mixture_moments`, written with
the posterior tau instead of the weights w = tau / sqrt(lambda): what they differ by is a constant per component, which
joins the others, and tau costs one exponential and no product more. A component whose tau are subnormal where its w
are not is dead, and its moments, which nobody reads, have few digits. Below, ``(K, ...)`` is K times the block.

What that costs at least: NumPy takes 0.6 ns for an exponential in float32 and 0.15 ns for a sum or a product in the
cache, per component and activation; posteriors are 8 such steps and one exponential, both passes together about 45.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu import mixture_kept
from uanref.kernels.cpu.blocks import per_channel
from uanref.kernels.cpu.mixture_lanes import Constant, Lanes, Part, empty_lines

MixtureArrays: TypeAlias = tuple[Array, Array, Array]
"""log lambda (K, P), mu and s = sigma^2 + eps (K, C): a :class:`uanref.norms.mixture_weights.Mixture`."""


class Batch:
    """A batch ``x (N, C, S)``, its mixture, and the posteriors as far as they are kept.

    Args:
        x: the batch.
        mixture: log lambda ``(K, P)``, mu ``(K, C)`` and s = sigma^2 + eps ``(K, C)``.
    """

    def __init__(self, x: Array, mixture: MixtureArrays) -> None:
        self.x, self.mixture = x, mixture
        self.log_prior, self.mean, self.variance = mixture
        self.components, self.joint = self.mean.shape[0], self.log_prior.shape[1] != self.mean.shape[1]
        self.lanes = Lanes(x, self.components, self.joint)
        self.keeps = mixture_kept.fits(self.log_prior.size * x.shape[0] * x.shape[2], x)
        self.posteriors: list[Array | None] = [None] * len(self.lanes.blocks)

    def recall(self, moments: Array) -> None:
        """Take the posteriors that this pass has kept under ``moments``, if it has."""
        found = mixture_kept.recall(moments, self.x, *self.mixture)
        if found is not None:
            self.posteriors = found

    def keep(self, moments: Array) -> None:
        """Keep the posteriors for the rest of this pass, if they are small."""
        if self.keeps:
            mixture_kept.keep(self.posteriors, moments, self.x, *self.mixture)

    @functools.cached_property
    def root_prior(self) -> Array:
        """Sqrt(lambda), what w divides by, ``(K, P)``; its logarithm is not below 3/4 log tiny."""
        xp, bound = backend.namespace(self.mean), 0.75 * math.log(backend.tiny(self.log_prior.dtype))
        root: Array = xp.exp(xp.maximum(0.5 * self.log_prior, bound))
        return root

    @functools.cached_property
    def laid_out(self) -> tuple[Constant, Constant, Constant]:
        """What posteriors need: mu, sqrt(1 / 2s), the factor of x - mu under the square, and l_k at x = mu_k."""
        xp = backend.namespace(self.mean)
        scale, log_det = xp.sqrt(0.5 / self.variance), 0.5 * xp.log(self.variance)
        if self.joint:
            log_det = log_det.sum(axis=1, keepdims=True, dtype=backend.wide(log_det))
            peak = [per_channel(self.log_prior - log_det, self.lanes.shape[2])]
            mean_, scale_ = self.lanes.constants(self.mean, scale)
            return mean_, scale_, peak
        mean_, scale_, peak_ = self.lanes.constants(self.mean, scale, self.log_prior - log_det)
        return mean_, scale_, peak_


def posterior(part: Part, batch: Batch, near_x: Array | None = None) -> Array:
    """Return ``tau_k`` of a block, ``(K, ...)``: what is kept, or computed.

    Args:
        part: the block.
        batch: see :class:`Batch`.
        near_x: :func:`near` of the block, if the caller has it.
    """
    kept = batch.posteriors[part.block.number]
    if kept is not None:
        return kept
    x = near(part.samples(batch.x)) if near_x is None else near_x
    xp, shape, (mean_, scale_, peak_) = part.xp, (batch.components, *x.shape), batch.laid_out
    alone = batch.keeps and not batch.joint
    (e,) = empty_lines(1, shape, x) if alone else part.buffers("posterior", 1, shape, x)
    xp.subtract(x, part.constant(mean_, x), out=e)
    e *= part.constant(scale_, x)
    e *= e  # (x - mu)^2 / (2 s)
    if batch.joint:
        # Large, but for what is subtracted: kept wide till then.
        e = e.sum(axis=2, keepdims=True, dtype=backend.wide(x))  # (K, b, 1, S)
    xp.subtract(part.constant(peak_, x), e, out=e)  # l_k
    e -= e.max(axis=0)
    e = e.astype(x.dtype, copy=False)
    xp.exp(e, out=e)
    e /= e.sum(axis=0)  # >= 1; exactly 1 where one component is alone
    if batch.keeps:
        batch.posteriors[part.block.number] = e
    return e


def near(x: Array) -> Array:
    """Return ``x`` where its square is far from overflow, else that bound: 3e15 in float32, 1e123 in float64.

    Out there one component has all the weight, and the posterior no slope.
    """
    xp, bound = backend.namespace(x), backend.largest(x.dtype) ** 0.4
    if backend.name_of(x) == "numpy":
        with backend.quiet():
            # Rows of some channels lie apart, and a product of vectors copies none.
            squares = xp.dot(x.ravel(), x.ravel()) if x.flags.c_contiguous else xp.vecdot(x, x).sum()
        if squares < bound * bound:
            return x  # none is beyond, and none is NaN
    bounded: Array = xp.minimum(xp.maximum(x, -bound), bound)
    return bounded


def weighted_moments(part: Part, batch: Batch, x: Array, tau: Array) -> tuple[Array, Array, Array]:
    r"""Return each component's total weight, mean and scatter over a block, weighted with w = tau / sqrt(lambda).

    .. math::
        W_k = \sum_m w_{km}, \quad m_k = \frac{1}{W_k} \sum_m w_{km} x_m, \quad
        W_k v_k = \sum_m w_{km} (x_m - m_k)^2.

    Args:
        part: the block.
        batch: see :class:`Batch`.
        x: the block's samples.
        tau: ``(K, ...)``.

    Returns:
        ``W (K, P)``, ``m (K, C)`` (0 where W is 0) and ``W v (K, C)``, the last two in double precision:
        what :func:`uanref.kernels.cpu.merging.merge_moments` merges over blocks. Where W is subnormal, m has few
        digits: they count for as little in the merge.
    """
    xp = part.xp
    product, centred = part.buffers("moments", 2, (batch.components, *x.shape), x)
    root_prior = batch.root_prior[:, part.channels]  # (K, P)
    total = part.sums(tau)  # (K, P)
    xp.multiply(tau, x, out=product)
    some = total + (total == 0)  # to divide by, never a reciprocal: that of a subnormal total is infinite
    mean = part.sums(product) / some  # (K, C)
    xp.subtract(x, part.spread(mean, x), out=centred)
    xp.multiply(tau, centred, out=product)
    # What is left of the first moment corrects both, as in standardize.channel_moments.
    left = part.sums(product).astype(xp.result_type(x.dtype, "float64"))
    product *= centred
    scatter = part.sums(product) - left * (left / some)
    return total / root_prior, mean + left / some, scatter / root_prior


def posterior_backward(
    part: Part, batch: Batch, near_x: Array, tau: Array, buffers: list[Array], laid_out: list[Constant]
) -> tuple[Array, Array, Array]:
    r"""Backward of :func:`posterior`, from the gradient with respect to :math:`\log w_k`.

    With :math:`\log w_k = l_k - \log\sum_j e^{l_j} - \tfrac12\log\lambda_k`:

    1. softmax: :math:`dl_k = d\log w_k - \tau_k \sum_j d\log w_j`;
    2. with :math:`u_k = (x - \mu_k) / s_k`: :math:`d\mu_k = \sum_m dl_k u_k`,
       :math:`ds_k = \tfrac12 \sum_m dl_k (u_k^2 - 1/s_k)`, :math:`dx = -\sum_k dl_k u_k`.

    Args:
        part: the block.
        batch: see :class:`Batch`.
        near_x: its samples, not beyond :func:`near`.
        tau: ``(K, ...)``.
        buffers: d log w ``(K, ...)``, for a joint posterior the channels' parts, which add up; what dx is the sum
            over k of, ``(K, ...)``, to which this way's part is added; and a spare one. Overwritten.
        laid_out: mu and 1 / s.

    Returns:
        ``sum_m dl (K, P)``, ``dmean (K, C)`` and ``dvariance (K, C)``, summed over this block.
    """
    xp, (dlog_w, dx_k, spare), variance = part.xp, buffers, batch.variance[:, part.channels]
    dl = dlog_w
    # 1. Through the softmax over k. Where one component is alone, its tau is exactly 1, and dl exactly 0.
    if batch.joint:
        dl = dlog_w.sum(axis=2, keepdims=True, dtype=backend.wide(near_x)).astype(near_x.dtype)  # (K, b, 1, S)
        dl -= tau * dl.sum(axis=0)
    else:
        xp.multiply(tau, dl.sum(axis=0), out=spare)
        dl -= spare
    dl_sum = part.sums(dl)  # (K, P)
    # 2. Through the quadratic form.
    u, dl_u, (mean, precision) = spare, dlog_w, (part.constant(a, near_x) for a in laid_out)
    xp.subtract(near_x, mean, out=u)
    u *= precision
    xp.multiply(dl, u, out=dl_u)
    dx_k -= dl_u
    dmean = part.sums(dl_u)  # (K, C)
    dl_u *= u
    return dl_sum, dmean, 0.5 * (part.sums(dl_u) - dl_sum / variance)
