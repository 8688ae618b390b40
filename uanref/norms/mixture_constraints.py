"""From unconstrained weights to a mixture's parameters, each function beside its backward."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated


@accelerated
def constrained(logits: Array, raw_variance: Array, eps: float, width: int) -> tuple[Array, Array, Array]:
    r"""Return what unconstrained weights mean: a mixture's parameters.

    Args:
        logits: a, ``(K, P)``, or ``(K, 1)`` where one prior serves all of the posterior's columns.
        raw_variance: s, ``(K, C)``.
        eps: added to the variance where densities are computed.
        width: P, how many columns the posterior has: C, or 1 for a joint one.

    Returns:
        :math:`\log\lambda = \log \mathrm{softmax}(a)` ``(K, P)``, :math:`\sigma^2 = \mathrm{softplus}(s)` and
        :math:`\sigma^2 + \epsilon`, ``(K, C)`` each.
    """
    variance = softplus(raw_variance)
    log_prior = log_softmax(logits)
    if log_prior.shape[1] < width:
        log_prior = log_prior.repeat(width, axis=1)  # (K, 1) -> (K, P)
    return log_prior, variance, variance + eps


@accelerated
def constrained_backward(
    dlog_prior: Array,
    dmean: Array,
    dvariance: Array,
    dmoments_mean: Array | None,
    dmoments_variance: Array | None,
    log_prior: Array,
    raw_variance: Array,
    alive: Array | None,
    shared: bool = False,
) -> tuple[Array, Array, Array]:
    r"""Take a mixture's gradients back to what is trained; backward of :func:`constrained`.

    1. Where the mixture's mean and variance are also the moments that normalize, both ways add up.
    2. A component to which no sample of the batch belongs stays where it is, whatever its gradient.
    3. A prior that serves all columns gets what reaches each of them: the sum over c.
    4. :math:`da_k = d\log\lambda_k - \lambda_k \sum_j d\log\lambda_j` and
       :math:`ds_k = \mathrm{sigmoid}(s_k)\, d\sigma_k^2`.

    Args:
        dlog_prior: ``(K, P)``.
        dmean, dvariance: ``(K, C)``.
        dmoments_mean, dmoments_variance: of learned moments, ``(K, C)``; else None.
        log_prior: from :func:`constrained`, ``(K, P)``.
        raw_variance: as given to :func:`constrained`, ``(K, C)``.
        alive: 1, or 0 for a dead component, ``(K, P)``; None where no batch decides.
        shared: whether one prior served all columns.

    Returns:
        da ``(K, P)``, ``(K, 1)`` if it is shared; dmu and ds ``(K, C)``.
    """
    xp = backend.namespace(dmean)
    if dmoments_mean is not None:
        dmean, dvariance = dmean + dmoments_mean, dvariance + dmoments_variance
    if alive is not None:
        dmean, dvariance = xp.where(alive > 0, dmean, 0.0), xp.where(alive > 0, dvariance, 0.0)
    if shared:
        total = dlog_prior.sum(axis=1, keepdims=True, dtype=backend.wide(dlog_prior))  # (K, 1)
        dlog_prior, log_prior = total.astype(dlog_prior.dtype), log_prior[:, :1]
    return log_softmax_backward(dlog_prior, log_prior), dmean, softplus_backward(dvariance, raw_variance)


def log_softmax(logits: Array) -> Array:
    """Return ``log softmax_k(a)`` over axis 0, ``(K, P) -> (K, P)``."""
    xp, shifted = backend.namespace(logits), logits - logits.real.max(axis=0)
    log_prior: Array = shifted - xp.log(xp.exp(shifted).sum(axis=0))
    return log_prior


def log_softmax_backward(dlog_prior: Array, log_prior: Array) -> Array:
    r"""Return :math:`da_k = d\log\lambda_k - \lambda_k \sum_j d\log\lambda_j`; sums to 0 over k. Shapes (K, P)."""
    dlogits: Array = dlog_prior - backend.namespace(log_prior).exp(log_prior) * dlog_prior.sum(axis=0)
    return dlogits


@accelerated
def softplus(s: Array) -> Array:
    """Return ``log(1 + e^s)``, elementwise: ``max(s, 0) + log(1 + e^-|s|)``, which does not overflow."""
    xp = backend.namespace(s)
    y: Array = xp.maximum(s, 0) + xp.log1p(xp.exp(xp.minimum(s, -s)))
    return y


@accelerated
def softplus_backward(dy: Array, s: Array) -> Array:
    """Return ``dy * sigmoid(s)``, with ``sigmoid(s) = exp(s - softplus(s))``: nothing overflows."""
    ds: Array = dy * backend.namespace(s).exp(s - softplus(s))
    return ds


@accelerated
def inverse_softplus(v: Array, floor: float) -> Array:
    """Return s with ``softplus(s) = max(v, floor, tiny)``: ``v + log(1 - e^-v)``, for ``log(e^v - 1)`` overflows."""
    xp = backend.namespace(v)
    v = xp.maximum(v, max(floor, backend.tiny(v.dtype)))
    s: Array = v + xp.log(-xp.expm1(-v))
    return s
