"""EM's step and running averages, one kernel each. Their arrays hold K x C numbers: launches are what counts."""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.constraints import launch, like
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
    shared: bool = False,
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_em.em_step`."""
    per_prior, per_component = (log_prior, total, alive), (mean, variance, moments_mean, moments_variance)
    return _step(per_prior, per_component, None, momentum, 0.0, shared)


def em_step_of_weights(
    log_prior: Array,
    mean: Array,
    raw_variance: Array,
    variance: Array,
    total: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
    eps: float,
    shared: bool = False,
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_em.em_step_of_weights`."""
    per_prior, per_component = (log_prior, total, alive), (mean, variance, moments_mean, moments_variance)
    return _step(per_prior, per_component, raw_variance, momentum, eps, shared)


def _step(
    per_prior: tuple[Array, ...],
    per_component: tuple[Array, ...],
    raw_variance: Array | None,
    momentum: float,
    eps: float,
    shared: bool,
) -> tuple[Array, Array, Array]:
    """Return the new log prior and mean, and the new variance, or the weight behind it where the old one is given."""
    if not serves(*per_prior, *per_component, raw_variance):
        return NotImplemented
    log_prior, mean = per_prior[0], per_component[0]
    shapes = (log_prior.shape[0], 1) if shared else log_prior.shape, mean.shape, mean.shape
    new_log_prior, new_mean, new = (backend.namespace(mean).empty(shape, dtype=mean.dtype) for shape in shapes)
    given = (*(like(mean, a, log_prior.shape) for a in per_prior), *(like(mean, a) for a in per_component))
    # Bounds of half a prior's logarithm (uanref.norms.mixture_weights.half_log) and of a variance.
    bounds = 0.75 * math.log(backend.tiny(mean.dtype)), max(float(eps), backend.tiny(mean.dtype))
    sizes = (float(momentum), *bounds, *mean.shape, log_prior.shape[1], int(shared))
    found = new_log_prior, new_mean, new
    launch("em_step", mean.shape[1], mean, *given, like(mean, raw_variance), *found, *sizes)
    return found


def moved_moments(
    mean: Array, variance: Array, found_mean: Array, found_variance: Array, alive: Array, momentum: float
) -> tuple[Array, Array]:
    """Serve :func:`uanref.norms.mixture_em.moved_moments`."""
    if not serves(mean, variance, found_mean, found_variance, alive):
        return NotImplemented
    new_mean, new_variance = (backend.namespace(mean).empty(mean.shape, dtype=mean.dtype) for _ in range(2))
    given = (like(mean, a) for a in (mean, variance, found_mean, found_variance))
    sizes = (float(momentum), mean.shape[1], alive.shape[1], mean.size)
    launch("moved_moments", mean.size, mean, *given, like(mean, alive, alive.shape), new_mean, new_variance, *sizes)
    return new_mean, new_variance
