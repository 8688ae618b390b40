"""The transform of UAN and Mixture Normalization on a device: one kernel forward; one to four backward."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.mixture_launch import (
    MixtureArrays,
    MomentArrays,
    launch_mixture,
    of_mixture,
    parts_of,
    ready,
    serves_mixture,
    sizes,
)


def transform(
    x: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    """Serve :func:`uanref.norms.mixture_transform.transform`: 2 array sizes, 1 kernel."""
    if not serves_mixture(x, mixture):
        return NotImplemented
    xp, (components, channels) = backend.namespace(x), mixture[1].shape
    x, mixture = xp.ascontiguousarray(x), of_mixture(mixture, x)
    mean, inverse_std = (ready(a, (components, channels), x) for a in (moments[0], moments[2]))
    y: Array = xp.empty(x.shape, dtype=x.dtype)
    launch_mixture(
        "mixture_transform",
        x,
        components,
        (parts_of(x), channels),
        *(x, *mixture, mean, inverse_std, ready(gamma, (channels,), x), ready(beta, (channels,), x), y),
        *(float(rho), *sizes(x)),
    )
    return y


def transform_backward(
    dy: Array, x: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    """Serve :func:`uanref.norms.mixture_transform.transform_backward`.

    With the batch's moments 5 array sizes: dx needs sums over the whole batch first. With fixed moments 3 array sizes.
    One kernel where a block has a whole channel; where channels have several parts, 4 with the batch's moments and 3
    with fixed ones.
    """
    if not serves_mixture(x, mixture):
        return NotImplemented
    xp, (components, channels) = backend.namespace(x), mixture[1].shape
    dy, x, mixture = xp.ascontiguousarray(dy), xp.ascontiguousarray(x), of_mixture(mixture, x)
    mean, variance, inverse_std, total, alive = (ready(a, (components, channels), x) for a in moments)
    gamma_ = ready(gamma, (channels,), x)
    split, from_batch = parts_of(x), moments[3] is not None
    grid, counts = (split, channels), sizes(x)
    dx: Array = xp.empty(x.shape, dtype=x.dtype)
    dgamma, dbeta = (xp.empty(channels, dtype=x.dtype) for _ in range(2))
    dm, dv, dlog_prior, dmean, dvariance = (xp.empty((components, channels), dtype=x.dtype) for _ in range(5))
    if split == 1:
        launch_mixture(
            "mixture_backward",
            x,
            components,
            grid,
            *(dy, x, *mixture, mean, variance, inverse_std, total, alive, gamma_),
            *(dx, dgamma, dbeta, dm, dv, dlog_prior, dmean, dvariance, float(rho), *counts),
            from_batch=from_batch,
        )
        return dx, dgamma, dbeta, dm, dv, dlog_prior, dmean, dvariance

    partial = xp.empty((5 * components + 1, channels, split), dtype="float64")
    weight_sums, moment_sums = partial[: 3 * components], partial[3 * components :]

    def propagate() -> None:
        launch_mixture(
            "mixture_propagate",
            x,
            components,
            grid,
            *(dy, x, *mixture, mean, variance, inverse_std, total, alive, dm, dv, gamma_),
            *(dx, partial, float(rho), *counts),
            from_batch=from_batch,
        )

    # 1. Sums per component. With fixed moments the one pass over memory gives all sums.
    if from_batch:
        launch_mixture("mixture_sums", x, components, grid, dy, x, *mixture, mean, inverse_std, moment_sums, *counts)
    else:
        propagate()
    launch_mixture(
        "mixture_sums_merge",
        x,
        components,
        (channels,),
        *(moment_sums, inverse_std, gamma_, dgamma, dbeta, dm, dv, float(rho), channels, split),
    )
    # 2. dx, and the sums through the weights.
    if from_batch:
        propagate()
    launch_mixture(
        "mixture_propagate_merge",
        x,
        components,
        (components, channels),
        *(weight_sums, moment_sums, mixture[2], gamma_, dlog_prior, dmean, dvariance, float(rho), channels, split),
    )
    return dx, dgamma, dbeta, dm, dv, dlog_prior, dmean, dvariance
