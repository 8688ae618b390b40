r"""Batch normalization on a device, forward and backward, in as few passes over x as it can be done.

With the M = N S samples of a channel and :math:`i = 1/\sqrt{v + \epsilon}`,

.. math::
    \mu = \frac1M \sum_m x_m, \quad v = \frac1M \sum_m (x_m - \mu)^2, \quad
    y_m = \gamma\, (x_m - \mu)\, i + \beta, \\
    d\beta = \sum_m dy_m, \quad d\gamma = \sum_m dy_m (x_m - \mu)\, i, \quad
    dx_m = \gamma\, i \left( dy_m - \frac{d\beta}{M} - (x_m - \mu)\, i\, \frac{d\gamma}{M} \right)

(Ioffe & Szegedy 2015). A channel is cut into parts of ``launch.CHUNK`` samples, one block of threads each. The samples
of a part stay in registers while their mean and then the scatter around it are taken, and the parts' moments merge in
double precision by the formula of Chan, Golub & LeVeque (1983): no variance is a difference of squares.

====================  ========  =================================================================
pass                  launches  arrays of x's size that are read or written
====================  ========  =================================================================
forward, train mode   3         3: x for the moments; x, y
forward, eval mode    1         2: x, y
backward, train mode  3         5: dy, x for the sums; dy, x, dx
backward, eval mode   3         4: dy, x for the sums; dy, dx
====================  ========  =================================================================

Without spatial axes (S = 1) the threads of a warp read numbers that lie C apart; the cache, where neighbouring channels
find what was read along with them, makes up for most of that.
"""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels import launch

CHANNELS = 65535
"""The most channels that the kernels take: so many blocks fit along the second axis of a launch."""


def serves(rows: Array) -> bool:
    """Tell whether the kernels compute with ``rows`` ``(N, C, S)``: :func:`uanref.kernels.serves` and C <= CHANNELS."""
    return launch.serves(rows) and rows.shape[1] <= CHANNELS


# --- forward ------------------------------------------------------------------------------------


def moments(rows: Array, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array, Array, Array]:
    """Return the batch's moments, and the running moments moved towards them: 2 launches, x read once.

    Args:
        rows: x as ``(N, C, S)`` with N S >= 2, float32 or float64.
        running_mean: ``(C,)``; not changed.
        running_var: ``(C,)``; not changed.
        momentum: weight of the batch in the running moments, in [0, 1].

    Returns:
        Mean, biased variance, moved mean, and variance moved towards the unbiased M/(M-1) v: ``(C,)`` each, of x's
        dtype. A variance beyond the dtype saturates at its largest number.

    Raises:
        ValueError: a running moment does not fit C.
    """
    xp = backend.namespace(rows, running_mean, running_var)
    rows = xp.ascontiguousarray(rows)
    samples, channels, spatial = _sizes(rows)
    parts = launch.parts(samples)

    part_mean, part_scatter = xp.empty((2, channels, parts), dtype="float64")  # (C, P)
    _kernel("batch_norm_moments", rows)(
        (parts, channels), _BLOCK, (rows, samples, channels, spatial, part_mean, part_scatter)
    )

    mean, var, moved_mean, moved_var = xp.empty((4, channels), dtype=rows.dtype)  # (C,)
    running = (_per_channel(running_mean, rows), _per_channel(running_var, rows))
    parts_moments = (part_mean, part_scatter, samples, parts)
    _kernel("batch_norm_merge", rows)(
        (channels,),
        _BLOCK,
        (*parts_moments, backend.largest(rows.dtype), float(momentum), *running, mean, var, moved_mean, moved_var),
    )
    return mean, var, moved_mean, moved_var


def normalize(rows: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> Array:
    """Return ``gamma (x - mean) / sqrt(var + eps) + beta``: 1 launch, x read and y written once.

    Args:
        rows: x as ``(N, C, S)``, float32 or float64.
        mean: ``(C,)``.
        var: ``(C,)``, >= 0.
        gamma: ``(C,)``, or None for 1.
        beta: ``(C,)``, or None for 0.
        eps: added to the variance, >= 0.

    Returns:
        y, ``(N, C, S)``, C-contiguous.

    Raises:
        ValueError: an array per channel does not fit C.
    """
    xp = backend.namespace(rows, mean, var, gamma, beta)
    rows = xp.ascontiguousarray(rows)
    samples, channels, spatial = _sizes(rows)
    mean, var, gamma, beta = (_per_channel(a, rows) for a in (mean, var, gamma, beta))

    y: Array = xp.empty_like(rows)
    _kernel("batch_norm_normalize", rows)(
        (launch.parts(samples), channels),
        _BLOCK,
        (rows, samples, channels, spatial, mean, var, float(eps), gamma, beta, y),
    )
    return y


def reference_forward(
    rows: Array,
    running_mean: Array,
    running_var: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    eps: float,
    momentum: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """The train-mode forward pass in array code: y, and what :func:`moments` returns."""
    samples = rows.shape[0] * rows.shape[2]
    mean = rows.mean(axis=(0, 2))  # (C,)
    var = ((rows - _column(mean)) ** 2).mean(axis=(0, 2))  # (C,)
    moved_mean = (1.0 - momentum) * running_mean + momentum * mean
    moved_var = (1.0 - momentum) * running_var + momentum * samples / (samples - 1) * var
    return reference_normalize(rows, mean, var, gamma, beta, eps), mean, var, moved_mean, moved_var


def reference_normalize(
    rows: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float
) -> Array:
    """:func:`normalize` in array code."""
    y: Array = (rows - _column(mean)) * _column((var + eps) ** -0.5)
    y = y if gamma is None else _column(gamma) * y
    return y if beta is None else y + _column(beta)


# --- backward -----------------------------------------------------------------------------------


def backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    """Return dx, dgamma and dbeta: 3 launches; dy and x are read twice (x once in eval mode), dx is written.

    Args:
        dy: dL/dy, with as many elements and of the same dtype as x.
        rows: x as ``(N, C, S)``.
        mean: ``(C,)``, by which the forward pass normalized.
        var: ``(C,)``, likewise.
        gamma: ``(C,)``, or None for 1.
        eps: added to the variance, >= 0.
        from_batch: whether mean and var are the batch's (train mode) or constants (eval mode).

    Returns:
        dx ``(N, C, S)``; dgamma and dbeta ``(C,)``, as if there were a gamma and a beta.

    Raises:
        ValueError: an array per channel does not fit C.
    """
    xp = backend.namespace(dy, rows, mean, var, gamma)
    dy, rows = xp.ascontiguousarray(dy), xp.ascontiguousarray(rows)
    samples, channels, spatial = _sizes(rows)
    parts = launch.parts(samples)
    mean, var, gamma = (_per_channel(a, rows) for a in (mean, var, gamma))
    eps = float(eps)

    part_dbeta, part_dgamma = xp.empty((2, channels, parts), dtype="float64")  # (C, P)
    _kernel("batch_norm_sums", rows)(
        (parts, channels), _BLOCK, (dy, rows, samples, channels, spatial, mean, var, eps, part_dbeta, part_dgamma)
    )

    dbeta, dgamma = xp.empty((2, channels), dtype=rows.dtype)  # (C,)
    _kernel("batch_norm_merge_sums", rows)((channels,), _BLOCK, (part_dbeta, part_dgamma, parts, dbeta, dgamma))

    dx: Array = xp.empty_like(rows)
    if from_batch:
        _kernel("batch_norm_dx", rows)(
            (parts, channels),
            _BLOCK,
            (dy, rows, samples, channels, spatial, mean, var, eps, gamma, dbeta, dgamma, dx),
        )
    else:
        _kernel("batch_norm_scale", rows)(
            (parts, channels), _BLOCK, (dy, samples, channels, spatial, var, eps, gamma, dx)
        )
    return dx, dgamma, dbeta


def reference_backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    """:func:`backward` in array code."""
    samples = rows.shape[0] * rows.shape[2]
    inverse_std = (var + eps) ** -0.5  # (C,)
    x_hat = (rows - _column(mean)) * _column(inverse_std)  # (N, C, S)
    dbeta = dy.sum(axis=(0, 2))  # (C,)
    dgamma = (dy * x_hat).sum(axis=(0, 2))  # (C,)
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)
    dx = _column(scale) * dy
    if from_batch:
        dx = dx - _column(scale / samples) * (_column(dbeta) + _column(dgamma) * x_hat)
    return dx, dgamma, dbeta


# --- what the launches share --------------------------------------------------------------------

_BLOCK = (launch.THREADS,)


def _kernel(name: str, rows: Array) -> Any:
    return launch.kernel("batch_norm", name, rows.dtype.char)


def _sizes(rows: Array) -> tuple[int, int, int]:
    """Return M = N S, C and S."""
    return rows.shape[0] * rows.shape[2], rows.shape[1], rows.shape[2]


def _per_channel(a: Array | None, rows: Array) -> Any:
    """Return ``a`` as the kernels read it: C numbers of x's dtype side by side; for None a null pointer."""
    if a is None:
        return 0
    xp = backend.namespace(a)
    return xp.ascontiguousarray(xp.broadcast_to(a, (rows.shape[1],)), dtype=rows.dtype)


def _column(a: Array) -> Array:
    """Give ``(C,)`` the shape ``(1, C, 1)``, which broadcasts against ``(N, C, S)``."""
    column: Array = a[None, :, None]
    return column
