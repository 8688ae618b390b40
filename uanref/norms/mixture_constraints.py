"""From unconstrained weights to a mixture's parameters, each function beside its backward."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated


@accelerated
def log_softmax(logits: Array) -> Array:
    """Return ``log softmax_k(a)`` over axis 0, ``(K, P) -> (K, P)``."""
    xp, shifted = backend.namespace(logits), logits - logits.real.max(axis=0)
    log_prior: Array = shifted - xp.log(xp.exp(shifted).sum(axis=0))
    return log_prior


@accelerated
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
