"""The small functions between a network's weights and a mixture, one kernel each: serve their namesakes.

Their arrays hold K x C numbers: what counts is the number of launches.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.constraints import launch, like
from uanref.kernels.cuda.launch import serves


def constrained(logits: Array, raw_variance: Array, eps: float, width: int) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_constraints.constrained`."""
    if not serves(logits, raw_variance):
        return NotImplemented
    xp = backend.namespace(logits, raw_variance)
    log_prior = xp.empty((logits.shape[0], width), dtype=logits.dtype)
    variance, with_eps = (xp.empty(raw_variance.shape, dtype=logits.dtype) for _ in range(2))
    given = like(logits, logits), like(logits, raw_variance, raw_variance.shape)
    sizes = (float(eps), *raw_variance.shape, width, int(logits.shape[1] != width))
    launch("constrained", raw_variance.shape[1], logits, *given, log_prior, variance, with_eps, *sizes)
    return log_prior, variance, with_eps


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
    """Serve :func:`uanref.norms.mixture_constraints.constrained_backward`."""
    given = (dlog_prior, log_prior, alive), (dmean, dvariance, dmoments_mean, dmoments_variance, raw_variance)
    if not serves(*given[0], *given[1]):
        return NotImplemented
    xp = backend.namespace(dmean)
    per_prior = (like(dmean, a, log_prior.shape) for a in given[0])
    per_component = (like(dmean, a) for a in given[1])
    shapes = (log_prior.shape[0], 1) if shared else log_prior.shape, dmean.shape, dmean.shape
    dlogits, dmu, draw_variance = (xp.empty(shape, dtype=dmean.dtype) for shape in shapes)
    sizes = (*dmean.shape, log_prior.shape[1], int(shared))
    found = dlogits, dmu, draw_variance
    launch("constrained_backward", dmean.shape[1], dmean, *per_prior, *per_component, *found, *sizes)
    return found


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


def inverse_softplus(v: Array, floor: float) -> Array:
    """Serve :func:`uanref.norms.mixture_constraints.inverse_softplus`."""
    if not serves(v):
        return NotImplemented
    s: Array = backend.namespace(v).empty(v.shape, dtype=v.dtype)
    launch("inverse_softplus", v.size, s, like(v, v), s, max(float(floor), backend.tiny(v.dtype)), v.size)
    return s
