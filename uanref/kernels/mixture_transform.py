r"""UAN's and Mixture Normalization's passes over memory, for a posterior of each activation by itself.

Counted in array sizes (the bytes of x), for any number of components K:

==================  =================================  ==========================
pass                batch moments                      fixed moments
==================  =================================  ==========================
forward             3: x | x, y                        2: x, y
backward            5: x, dy | x, dy, dx               3: x, dy, dx
kernels, forward    3 (moments, merge, transform)      1
kernels, backward   4 (sums, merge, propagate, merge)  3 (propagate, two merges)
==================  =================================  ==========================

The weights are computed again in each pass, so besides y and dx only the parts' sums take memory: 5 K + 1 numbers for
4096 samples. The equations are those of :mod:`uanref.norms.gaussian_mixture` and
:mod:`uanref.norms.mixture_transform`; the batch's moments are merged as in Chan, Golub & LeVeque (1983).

Shapes: x and dy are ``(N, C, S)``, float32 or float64; another layout than C-contiguous is copied first, by each
function. A channel's parameter is ``(C,)``, the mixture's and the moments' arrays are ``(K, C)``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.launch import THREADS, kernel, parts

MAX_COMPONENTS = 8
"""The kernels keep a thread's weights and sums in registers, 7 K + 1 numbers in the largest one; the compiler unrolls
their loops over K. More components run the array code."""
VARIANTS = tuple(
    {"COMPONENTS": components, "FROM_BATCH": from_batch}
    for components in range(1, MAX_COMPONENTS + 1)
    for from_batch in (0, 1)
)
"""The constants that the source is compiled with."""
MAX_CHANNELS = 65535
"""What a launch grid holds on its second axis."""

MixtureArrays: TypeAlias = tuple[Array, Array, Array]
"""log lambda, mu and s = sigma^2 + eps, (K, C) each."""
MomentArrays: TypeAlias = tuple[Array, Array, Array, Array | None, Array | None]
"""m, v, i = 1 / sqrt(v + eps); W and alive, both None unless the moments are the batch's. (K, C) each."""


def batch_moments(rows: Array, mixture: MixtureArrays, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    r"""Return the moments of the batch, weighted with :math:`w_k = \tau_k / \sqrt{\lambda_k}`: 1 array size, 2 kernels.

    .. math::
        W_k = \sum_m w_{km}, \quad m_k = \frac{1}{W_k} \sum_m w_{km} x_m, \quad
        v_k = \frac{1}{W_k} \sum_m w_{km} (x_m - m_k)^2, \quad i_k = \frac{1}{\sqrt{v_k + \epsilon}}

    Args:
        rows: x, ``(N, C, S)``.
        mixture: log lambda, mu and s, ``(K, C)`` each, K <= ``MAX_COMPONENTS``.
        eps: added to v in i.

    Returns:
        m, v, i, W and alive, ``(K, C)`` each. A component whose posteriors sum to less than the dtype's smallest
        normal number is dead: its i and alive are 0. Where W is 0, so are m and v.
    """
    xp, (components, channels) = backend.namespace(rows), mixture[1].shape
    rows, mixture = xp.ascontiguousarray(rows), _of_mixture(mixture, rows)
    split = _parts(rows)
    partial = xp.empty((3, components, channels, split), dtype="float64")
    _launch("mixture_moments", rows, components, (split, channels), rows, *mixture, partial, *_sizes(rows))
    mean, variance, inverse_std, total, alive = (xp.empty((components, channels), dtype=rows.dtype) for _ in range(5))
    _launch(
        "mixture_moments_merge",
        rows,
        components,
        (components, channels),
        *(partial, mixture[0], mean, variance, inverse_std, total, alive),
        *(backend.tiny(rows.dtype), backend.largest(rows.dtype), float(eps), channels, split),
    )
    return mean, variance, inverse_std, total, alive


def transform(
    rows: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    r"""Return :math:`y = \gamma \rho \sum_k w_k (x - m_k) i_k + \beta`: 2 array sizes, 1 kernel.

    Args:
        rows: x, ``(N, C, S)``.
        mixture: log lambda, mu and s, ``(K, C)`` each, K <= ``MAX_COMPONENTS``.
        moments: of which m and i are used.
        rho: the rescaling factor.
        gamma, beta: ``(C,)``, or None for 1 and 0.

    Returns:
        ``(N, C, S)``, C-contiguous.
    """
    xp, (components, channels) = backend.namespace(rows), mixture[1].shape
    rows, mixture = xp.ascontiguousarray(rows), _of_mixture(mixture, rows)
    mean, inverse_std = (_ready(a, (components, channels), rows) for a in (moments[0], moments[2]))
    y: Array = xp.empty(rows.shape, dtype=rows.dtype)
    _launch(
        "mixture_transform",
        rows,
        components,
        (_parts(rows), channels),
        *(rows, *mixture, mean, inverse_std, _ready(gamma, (channels,), rows), _ready(beta, (channels,), rows), y),
        *(float(rho), *_sizes(rows)),
    )
    return y


def transform_backward(
    dy: Array, rows: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    """Backward of :func:`transform`, and of :func:`batch_moments` where W and alive are given.

    With the batch's moments 5 array sizes and 4 kernels: dx needs sums over the whole batch first. With fixed moments
    3 array sizes and 3 kernels. :func:`uanref.norms.mixture_transform.transform_backward` holds the derivation.

    Args:
        dy: ``(N, C, S)``.
        rows: x, ``(N, C, S)``.
        mixture, moments, rho, gamma: as given to :func:`transform`.

    Returns:
        dx ``(N, C, S)``, C-contiguous; dgamma and dbeta ``(C,)``; dm, dv, dlog lambda, dmu and ds ``(K, C)``.
    """
    xp, (components, channels) = backend.namespace(rows), mixture[1].shape
    dy, rows, mixture = xp.ascontiguousarray(dy), xp.ascontiguousarray(rows), _of_mixture(mixture, rows)
    mean, variance, inverse_std, total, alive = (_ready(a, (components, channels), rows) for a in moments)
    gamma_ = _ready(gamma, (channels,), rows)
    split, from_batch = _parts(rows), moments[3] is not None
    grid, sizes = (split, channels), _sizes(rows)
    dx: Array = xp.empty(rows.shape, dtype=rows.dtype)
    dgamma, dbeta = (xp.empty(channels, dtype=rows.dtype) for _ in range(2))
    dm, dv, dlog_prior, dmean, dvariance = (xp.empty((components, channels), dtype=rows.dtype) for _ in range(5))
    partial = xp.empty((5 * components + 1, channels, split), dtype="float64")
    weight_sums, moment_sums = partial[: 3 * components], partial[3 * components :]

    def propagate() -> None:
        _launch(
            "mixture_propagate",
            rows,
            components,
            grid,
            *(dy, rows, *mixture, mean, variance, inverse_std, total, alive, dm, dv, gamma_),
            *(dx, partial, float(rho), *sizes),
            from_batch=from_batch,
        )

    # 1. Sums per component. With fixed moments the one pass over memory gives all sums.
    if from_batch:
        _launch("mixture_sums", rows, components, grid, dy, rows, *mixture, mean, inverse_std, moment_sums, *sizes)
    else:
        propagate()
    _launch(
        "mixture_sums_merge",
        rows,
        components,
        (channels,),
        *(moment_sums, inverse_std, gamma_, dgamma, dbeta, dm, dv, float(rho), channels, split),
    )
    # 2. dx, and the sums through the weights.
    if from_batch:
        propagate()
    _launch(
        "mixture_propagate_merge",
        rows,
        components,
        (components, channels),
        *(weight_sums, moment_sums, mixture[2], gamma_, dlog_prior, dmean, dvariance, float(rho), channels, split),
    )
    return dx, dgamma, dbeta, dm, dv, dlog_prior, dmean, dvariance


def _launch(
    name: str, rows: Array, components: int, grid: tuple[int, ...], *arguments: Any, from_batch: bool = False
) -> None:
    constants = {"COMPONENTS": components, "FROM_BATCH": int(from_batch)}
    kernel("mixture_transform", name, rows.dtype.char, **constants)(grid, (THREADS,), arguments)


def _parts(rows: Array) -> int:
    return parts(rows.shape[0] * rows.shape[2])


def _sizes(rows: Array) -> tuple[int, int, int]:
    """Return what a kernel's ``Samples`` starts from: samples of a channel, channels, spatial elements."""
    return rows.shape[0] * rows.shape[2], rows.shape[1], rows.shape[2]


def _ready(a: Array | None, shape: tuple[int, ...], rows: Array) -> Any:
    """Return ``a`` as the kernels read it: of ``shape``, of x's dtype, C-contiguous; for None the null pointer."""
    if a is None:
        return 0
    xp = backend.namespace(a, rows)
    return xp.ascontiguousarray(a if a.shape == shape else xp.broadcast_to(a, shape), dtype=rows.dtype)


def _of_mixture(mixture: MixtureArrays, rows: Array) -> MixtureArrays:
    log_prior, mean, variance = (_ready(a, mixture[1].shape, rows) for a in mixture)
    return log_prior, mean, variance


# --- the same in plain array code -------------------------------------------------------------------------------------


def reference_weights(rows: Array, mixture: MixtureArrays) -> Array:
    r"""Return :math:`w_k = \tau_k / \sqrt{\lambda_k}`, ``(K, N, C, S)``."""
    xp = backend.namespace(rows)
    log_prior, mean, variance = (a[:, None, :, None] for a in mixture)  # (K, 1, C, 1)
    e = 0.5 * log_prior - 0.5 * xp.log(variance) - (_bounded(rows) - mean) ** 2 / (2.0 * variance)
    e = xp.exp(e - e.max(axis=0))
    w: Array = e / xp.maximum((xp.exp(0.5 * log_prior) * e).sum(axis=0), backend.tiny(rows.dtype) ** 0.75)
    return w


def reference_batch_moments(
    rows: Array, mixture: MixtureArrays, eps: float
) -> tuple[Array, Array, Array, Array, Array]:
    """Return what :func:`batch_moments` returns."""
    xp, w = backend.namespace(rows), reference_weights(rows, mixture)
    total = w.sum(axis=(1, 3))  # (K, C)
    share = w / (total + (total == 0))[:, None, :, None]
    mean = (share * rows).sum(axis=(1, 3))
    variance = (share * (rows - mean[:, None, :, None]) ** 2).sum(axis=(1, 3))
    variance = xp.minimum(variance, backend.largest(rows.dtype))
    alive = (xp.exp(0.5 * mixture[0]) * total >= backend.tiny(rows.dtype)).astype(rows.dtype)
    return mean, variance, alive / xp.sqrt(variance + eps), total, alive


def reference_transform(
    rows: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    """Return what :func:`transform` returns."""
    mean, _, inverse_std, _, _ = moments
    xhat = (rows - mean[:, None, :, None]) * inverse_std[:, None, :, None]
    y: Array = rho * (reference_weights(rows, mixture) * xhat).sum(axis=0)
    y = y if gamma is None else y * gamma[:, None]
    return y if beta is None else y + beta[:, None]


def reference_transform_backward(
    dy: Array, rows: Array, mixture: MixtureArrays, moments: MomentArrays, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    """Return what :func:`transform_backward` returns."""
    xp, w, near = backend.namespace(rows), reference_weights(rows, mixture), _bounded(rows)
    root_prior = xp.exp(0.5 * mixture[0])[:, None, :, None]
    mu, s = (a[:, None, :, None] for a in mixture[1:])
    m, v, i = (a[:, None, :, None] for a in moments[:3])
    xhat = (rows - m) * i  # (K, N, C, S)
    g = rho * dy if gamma is None else rho * gamma[:, None] * dy
    # 1. Sums per component.
    dgamma, dbeta = rho * (dy * w * xhat).sum(axis=(0, 1, 3)), dy.sum(axis=(0, 2))  # (C,)
    dm = -(g * w * i).sum(axis=(1, 3))  # (K, C)
    dv = -0.5 * (g * w * xhat * i * i).sum(axis=(1, 3))
    # 2. Directly.
    dx, dlog_w = (g * w * i).sum(axis=0), g * w * xhat
    # 3. Through the batch's moments.
    if moments[3] is not None and moments[4] is not None:
        share = (moments[4] / (moments[3] + (1.0 - moments[4])))[:, None, :, None] * w
        dm_, dv_, centred = dm[:, None, :, None], dv[:, None, :, None], near - m
        dx = dx + (share * (dm_ + 2.0 * dv_ * centred)).sum(axis=0)
        dlog_w = dlog_w + share * (dm_ * centred + dv_ * (centred**2 - v))
    # 4. Through the weights.
    dl = dlog_w - root_prior * w * dlog_w.sum(axis=0)
    u = (near - mu) / s
    dx = dx - (dl * u).sum(axis=0)
    dlog_prior = (dl - 0.5 * dlog_w).sum(axis=(1, 3))
    return dx, dgamma, dbeta, dm, dv, dlog_prior, (dl * u).sum(axis=(1, 3)), 0.5 * (dl * (u * u - 1.0 / s)).sum((1, 3))


def _bounded(x: Array) -> Array:
    xp, bound = backend.namespace(x), backend.largest(x.dtype) ** 0.4
    bounded: Array = xp.minimum(xp.maximum(x, -bound), bound)
    return bounded
