"""The small functions between a network's weights and a mixture, one kernel each: serve their namesakes.

Their arrays hold K x C numbers: what counts is the number of launches.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.constraints import launch, like
from uanref.kernels.cuda.launch import serves


def softplus(s: Array) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.softplus`."""
    if not serves(s):
        return NotImplemented
    y: Array = backend.namespace(s).empty(s.shape, dtype=s.dtype)
    launch("softplus", s.size, y, like(s, s), y, s.size)
    return y


def softplus_backward(dy: Array, s: Array) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.softplus_backward`."""
    if not serves(dy, s):
        return NotImplemented
    ds: Array = backend.namespace(dy, s).empty(s.shape, dtype=s.dtype)
    launch("softplus_backward", s.size, ds, like(s, dy), like(s, s), ds, s.size)
    return ds


def log_softmax(logits: Array) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.log_softmax`."""
    if not serves(logits):
        return NotImplemented
    log_prior: Array = backend.namespace(logits).empty(logits.shape, dtype=logits.dtype)
    launch("log_softmax", logits.shape[1], log_prior, like(logits, logits), log_prior, *logits.shape)
    return log_prior


def log_softmax_backward(dlog_prior: Array, log_prior: Array) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.log_softmax_backward`."""
    if not serves(dlog_prior, log_prior):
        return NotImplemented
    dlogits: Array = backend.namespace(dlog_prior, log_prior).empty(log_prior.shape, dtype=log_prior.dtype)
    arguments = (like(log_prior, dlog_prior), like(log_prior, log_prior), dlogits, *log_prior.shape)
    launch("log_softmax_backward", log_prior.shape[1], dlogits, *arguments)
    return dlogits


def inverse_softplus(v: Array, floor: float) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.inverse_softplus`."""
    if not serves(v):
        return NotImplemented
    s: Array = backend.namespace(v).empty(v.shape, dtype=v.dtype)
    launch("inverse_softplus", v.size, s, like(v, v), s, max(float(floor), backend.tiny(v.dtype)), v.size)
    return s
