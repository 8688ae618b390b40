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

====================  ==================  =======================================================
pass                  launches            arrays of x's size that are read or written
====================  ==================  =======================================================
forward, train mode   3, of one part 2    3: x for the moments; x, y
forward, eval mode    1                   2: x, y
backward, train mode  3, of one part 1    5: dy, x for the sums; dy, x, dx. Of one part 3: dy, x, dx
backward, eval mode   3, of one part 1    4: dy, x for the sums; dy, dx. Of one part 3: dy, x, dx
====================  ==================  =======================================================

Where a channel has one part, of at most CHUNK samples, nothing is to be merged: its block has all of it.

Without spatial axes (S = 1) the threads of a warp read numbers that lie C apart; the cache, where neighbouring channels
find what was read along with them, makes up for most of that.
"""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda import launch

CHANNELS = 65535
"""The most channels that the kernels take: so many blocks fit along the second axis of a launch."""


# --- forward ------------------------------------------------------------------------------------


def statistics(x: Array, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array, Array, Array]:
    """Serve :func:`uanref.norms.batch.statistics`: x is read once. A variance saturates at the largest number."""
    if not _serves(x):
        return NotImplemented
    xp = backend.namespace(x, running_mean, running_var)
    x = xp.ascontiguousarray(x)
    samples, channels, spatial = _sizes(x)
    parts = launch.parts(samples)

    part_mean, part_scatter = xp.empty((2, channels, parts), dtype="float64")  # (C, P)
    mean, var, moved_mean, moved_var = xp.empty((4, channels), dtype=x.dtype)  # (C,)
    running = (_per_channel(running_mean, x), _per_channel(running_var, x))
    result = (backend.largest(x.dtype), float(momentum), *running, mean, var, moved_mean, moved_var)
    _kernel("batch_norm_moments", x)(
        (parts, channels), _BLOCK, (x, samples, channels, spatial, part_mean, part_scatter, *result)
    )
    if parts > 1:
        _kernel("batch_norm_merge", x)((channels,), _BLOCK, (part_mean, part_scatter, samples, parts, *result))
    return mean, var, moved_mean, moved_var


def normalize(x: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> Array:
    """Serve :func:`uanref.norms.batch.normalize`: 1 launch, x read and y written once."""
    if not _serves(x):
        return NotImplemented
    xp = backend.namespace(x, mean, var, gamma, beta)
    x = xp.ascontiguousarray(x)
    samples, channels, spatial = _sizes(x)
    mean, var, gamma, beta = (_per_channel(a, x) for a in (mean, var, gamma, beta))

    y: Array = xp.empty_like(x)
    _kernel("batch_norm_normalize", x)(
        (launch.parts(samples), channels),
        _BLOCK,
        (x, samples, channels, spatial, mean, var, float(eps), gamma, beta, y),
    )
    return y


# --- backward -----------------------------------------------------------------------------------


def backward(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.batch.backward`; dx is written once, dy and x are read once or twice."""
    return _backward(dy, x, mean, var, gamma, eps, from_batch=True) if _serves(x) else NotImplemented


def backward_fixed(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.batch.backward_fixed`; dx is written once, x read once, dy once or twice."""
    return _backward(dy, x, mean, var, gamma, eps, from_batch=False) if _serves(x) else NotImplemented


def _backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    xp = backend.namespace(dy, rows, mean, var, gamma)
    dy, rows = xp.ascontiguousarray(dy), xp.ascontiguousarray(rows)
    samples, channels, spatial = _sizes(rows)
    parts = launch.parts(samples)
    mean, var, gamma = (_per_channel(a, rows) for a in (mean, var, gamma))
    eps = float(eps)

    dbeta, dgamma = xp.empty((2, channels), dtype=rows.dtype)  # (C,)
    dx: Array = xp.empty_like(rows)
    given, sizes = (dy, rows), (samples, channels, spatial)
    if parts == 1:
        _kernel("batch_norm_backward", rows)(
            (1, channels), _BLOCK, (*given, *sizes, mean, var, eps, gamma, dbeta, dgamma, dx, int(from_batch))
        )
        return dx, dgamma, dbeta

    part_dbeta, part_dgamma = xp.empty((2, channels, parts), dtype="float64")  # (C, P)
    grid = (parts, channels)
    _kernel("batch_norm_sums", rows)(grid, _BLOCK, (*given, *sizes, mean, var, eps, part_dbeta, part_dgamma))
    _kernel("batch_norm_merge_sums", rows)((channels,), _BLOCK, (part_dbeta, part_dgamma, parts, dbeta, dgamma))
    if from_batch:
        _kernel("batch_norm_dx", rows)(grid, _BLOCK, (*given, *sizes, mean, var, eps, gamma, dbeta, dgamma, dx))
    else:
        _kernel("batch_norm_scale", rows)(grid, _BLOCK, (dy, *sizes, mean, var, eps, gamma, dx))
    return dx, dgamma, dbeta


# --- what the launches share --------------------------------------------------------------------

_BLOCK = (launch.THREADS,)


def _serves(rows: Array) -> bool:
    """Tell whether the kernels compute with ``rows`` ``(N, C, S)``: :func:`launch.serves` and C <= CHANNELS."""
    return launch.serves(rows) and rows.shape[1] <= CHANNELS


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
