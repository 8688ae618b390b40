"""EM's step and running averages, one kernel each. Their arrays hold K x C numbers: launches are what counts."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.constraints import launch, like, root_prior
from uanref.kernels.cuda.launch import serves


def em_step(
    log_prior: Array,
    mean: Array,
    variance: Array,
    total: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_em.em_step`: 3 launches."""
    if not serves(log_prior, mean, variance, total, moments_mean, moments_variance, alive):
        return NotImplemented
    total = root_prior(log_prior) * total  # S_k = sum_m tau_k
    found = tuple(backend.namespace(mean).empty(a.shape, dtype=mean.dtype) for a in (log_prior, mean, variance))
    per_prior = (like(mean, a, log_prior.shape) for a in (log_prior, total, alive))
    per_channel = (like(mean, a) for a in (mean, variance, moments_mean, moments_variance))
    sizes = (float(momentum), *mean.shape, log_prior.shape[1])
    launch("em_step", mean.shape[1], mean, *per_prior, *per_channel, *found, *sizes)
    new_log_prior, new_mean, new_variance = found
    return new_log_prior, new_mean, new_variance


def moved(old: Array, found: Array, alive: Array, momentum: float) -> Array:
    """Serve :func:`uanref.norms.mixture_em.moved`: 1 launch."""
    if not serves(old, found, alive):
        return NotImplemented
    result: Array = backend.namespace(old, found, alive).empty(old.shape, dtype=old.dtype)
    sizes = (float(momentum), old.shape[1], alive.shape[1], old.size)
    given = like(old, old), like(old, found), like(old, alive, alive.shape)
    launch("moved", old.size, result, *given, result, *sizes)
    return result
