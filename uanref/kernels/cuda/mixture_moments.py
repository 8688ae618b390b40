"""A batch's weighted moments on a device: one kernel, two where a channel has several parts; fixed ones in one."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.constraints import launch, like
from uanref.kernels.cuda.launch import serves
from uanref.kernels.cuda.mixture_launch import (
    MixtureArrays,
    launch_mixture,
    of_mixture,
    parts_of,
    serves_mixture,
    sizes,
)


def batch_moments(x: Array, mixture: MixtureArrays, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_moments.batch_moments`: 1 array size, 1 or 2 kernels."""
    if not serves_mixture(x, mixture):
        return NotImplemented
    xp, (components, channels) = backend.namespace(x), mixture[1].shape
    x, mixture = xp.ascontiguousarray(x), of_mixture(mixture, x)
    split = parts_of(x)
    partial = xp.empty((3, components, channels, split), dtype="float64")
    mean, variance, inverse_std, total, alive = (xp.empty((components, channels), dtype=x.dtype) for _ in range(5))
    bounds = (backend.tiny(x.dtype), backend.largest(x.dtype), float(eps))
    found = (mean, variance, inverse_std, total, alive, *bounds)
    launch_mixture("mixture_moments", x, components, (split, channels), x, *mixture, partial, *found, *sizes(x))
    if split > 1:
        merging = (partial, mixture[0], *found, channels, split)
        launch_mixture("mixture_moments_merge", x, components, (components, channels), *merging)
    return mean, variance, inverse_std, total, alive


def inverse_std(variance: Array, eps: float) -> Array:
    """Serve :func:`uanref.norms.mixture_moments.inverse_std`."""
    if not serves(variance):
        return NotImplemented
    result: Array = backend.namespace(variance).empty(variance.shape, dtype=variance.dtype)
    launch("inverse_std", variance.size, result, like(variance, variance), result, float(eps), variance.size)
    return result
