"""Batch normalization in blocks: one pass for y, two for the gradients."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, as_rows, per_channel, sample_blocks, walk
from uanref.kernels.cpu.merging import merge_sums
from uanref.kernels.cpu.sums import sum_samples


def backward(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.batch.backward`."""
    return _backward(dy, x, mean, var, gamma, eps, from_batch=True)


def backward_fixed(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.batch.backward_fixed`."""
    return _backward(dy, x, mean, var, gamma, eps, from_batch=False)


def normalize(x: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> Array:
    """Serve :func:`uanref.norms.batch.normalize`."""
    xp, rows = backend.namespace(x, mean, var, gamma, beta), x
    inverse_std = 1.0 / xp.sqrt(var + eps)  # (C,)
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)

    y: Array = xp.empty(rows.shape, dtype=rows.dtype)
    mean_, scale_ = per_channel(mean, rows.shape[2]), per_channel(scale, rows.shape[2])
    beta_ = None if beta is None else per_channel(beta, rows.shape[2])

    def normalize(block: slice, scratch: Scratch) -> None:
        out = y[block]  # (b, C, S)
        xp.subtract(rows[block], mean_, out=out)
        out *= scale_
        if beta_ is not None:
            out += beta_

    walk(normalize, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return y


def _backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    """Return dx ``(N, C, S)``, dgamma and dbeta ``(C,)``; ``from_batch`` tells whether the moments depend on x."""
    xp = backend.namespace(dy, rows, mean, var, gamma)
    dy_rows = as_rows(dy)  # (N, C, S)
    inverse_std = 1.0 / xp.sqrt(var + eps)  # (C,)
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)
    samples, spatial = rows.shape[0] * rows.shape[2], rows.shape[2]
    mean_ = per_channel(mean, spatial)
    blocks = sample_blocks(rows, 3 * rows[0].size)

    def sums(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        dy_b = dy_rows[block]  # (b, C, S)
        product = scratch("product", dy_b.shape, dy)
        xp.subtract(rows[block], mean_, out=product)
        product *= dy_b
        return sum_samples(dy_b), sum_samples(product)

    # 1. Each channel's sums: beta is added to every sample, gamma multiplies every x_hat.
    parts = walk(sums, blocks, rows.size)
    dbeta = merge_sums([part[0] for part in parts], dy.dtype)  # (C,)
    dgamma = merge_sums([part[1] for part in parts], dy.dtype) * inverse_std  # (C,)

    # 2. Directly, minus what goes through the mean and through the variance (train mode).
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)
    scale_ = per_channel(scale, spatial)
    through_mean_ = per_channel(dbeta / samples, spatial)
    through_var_ = per_channel(dgamma * inverse_std / samples, spatial)

    def propagate(block: slice, scratch: Scratch) -> None:
        out = dx[block]
        if from_batch:
            xp.subtract(mean_, rows[block], out=out)
            out *= through_var_  # -x_hat dgamma / M
            out += dy_rows[block]
            out -= through_mean_
            out *= scale_
        else:
            xp.multiply(dy_rows[block], scale_, out=out)

    walk(propagate, blocks, rows.size)
    return dx, dgamma, dbeta
