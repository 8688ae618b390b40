"""The transform of UAN and Mixture Normalization in blocks of samples: nothing of K times x's size outlives one."""

from __future__ import annotations

from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, per_channel, walk
from uanref.kernels.cpu.merging import merge_sums
from uanref.kernels.cpu.mixture_blocks import (
    Constants,
    MixtureArrays,
    blocks_of,
    weighted_moments_backward,
    weights,
    weights_backward,
)
from uanref.kernels.cpu.sums import sum_samples

Moments: TypeAlias = Any
"""A :class:`uanref.norms.mixture_moments.Moments`."""


def transform(
    x: Array, mixture: MixtureArrays, moments: Moments, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    """Serve :func:`uanref.norms.mixture_transform.transform`."""
    rows, constants = x, Constants(mixture, x.shape[2])
    xp, spatial = backend.namespace(rows, constants.mean), rows.shape[2]
    scale = moments.inverse_std * (rho if gamma is None else rho * gamma)  # (K, C)
    mean_, scale_ = per_channel(moments.mean, spatial), per_channel(scale, spatial)
    beta_ = None if beta is None else per_channel(beta, spatial)
    y: Array = xp.empty(rows.shape, dtype=rows.dtype)

    def task(block: slice, scratch: Scratch) -> None:
        x, out = rows[block], y[block]  # (b, C, S)
        w = weights(x, constants, scratch)  # (K, b, P, S)
        term = scratch("product", (w.shape[0], *x.shape), x)
        xp.subtract(x, mean_, out=term)
        term *= scale_
        term *= w
        term.sum(axis=0, out=out)
        if beta_ is not None:
            out += beta_

    walk(task, blocks_of(rows, mixture), rows.size)
    return y


def transform_backward(
    dy: Array, x: Array, mixture: MixtureArrays, moments: Moments, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    """Serve :func:`uanref.norms.mixture_transform.transform_backward`, whose numbered steps these are."""
    rows, constants = x, Constants(mixture, x.shape[2])
    xp, spatial = backend.namespace(dy, rows), rows.shape[2]
    mean_, inverse_std_ = per_channel(moments.mean, spatial), per_channel(moments.inverse_std, spatial)
    blocks = blocks_of(rows, mixture)

    def sums(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        x, dy_b = rows[block], dy[block]  # (b, C, S)
        w = weights(x, constants, scratch)  # (K, b, P, S)
        shape = (w.shape[0], *x.shape)
        dy_w, centred = scratch("product", shape, x), scratch("quadratic", shape, x)
        xp.multiply(w, dy_b, out=dy_w)
        a = sum_samples(dy_w)
        xp.subtract(x, mean_, out=centred)
        dy_w *= centred
        return a, sum_samples(dy_w), sum_samples(dy_b)

    # 1. Sums per component.
    parts = walk(sums, blocks, rows.size)
    a = merge_sums([part[0] for part in parts], dy.dtype)  # (K, C)
    b = merge_sums([part[1] for part in parts], dy.dtype) * moments.inverse_std  # (K, C)
    dbeta = merge_sums([part[2] for part in parts], dy.dtype)  # (C,)
    dgamma = rho * b.sum(axis=0)  # (C,)
    scale = rho if gamma is None else rho * gamma
    dm = -scale * moments.inverse_std * a  # (K, C)
    dv = -0.5 * scale * moments.inverse_std * moments.inverse_std * b  # (K, C)

    from_batch = moments.total is not None and moments.alive is not None
    if moments.total is not None and moments.alive is not None:
        share = moments.alive / (moments.total + (1.0 - moments.alive))  # 1 / W_k, 0 for a dead component
        dm_, dv_ = per_channel(dm * share, spatial), per_channel(dv * share, spatial)
        variance_ = per_channel(moments.variance, spatial)
    scale_ = rho if gamma is None else per_channel(rho * gamma, spatial)
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)

    def propagate(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        x, out = rows[block], dx[block]  # (b, C, S)
        w = weights(x, constants, scratch)  # (K, b, P, S)
        shape = (w.shape[0], *x.shape)
        # 2. Directly.
        g = dy[block] * scale_  # (b, C, S)
        g_w_i, dlog_w = scratch("product", shape, x), scratch("dlog_w", shape, x)
        xp.multiply(w, g, out=g_w_i)
        g_w_i *= inverse_std_
        g_w_i.sum(axis=0, out=out)
        xp.subtract(x, mean_, out=dlog_w)
        dlog_w *= g_w_i
        # 3. Through the batch's moments.
        if from_batch:
            dx_moments, dlog_w_moments = weighted_moments_backward(dm_, dv_, x, w, mean_, variance_, scratch)
            out += dx_moments
            dlog_w += dlog_w_moments
        # 4. Through the weights.
        dx_weights, dlog_prior, dmean, dvariance = weights_backward(dlog_w, x, w, constants, scratch)
        out += dx_weights
        return dlog_prior, dmean, dvariance

    parts = walk(propagate, blocks, rows.size)
    through_weights = (merge_sums([part[i] for part in parts], dy.dtype) for i in range(3))
    return dx, dgamma, dbeta, dm, dv, *through_weights
