"""Batch normalization in blocks: one pass for y, two for the gradients.

Where a channel's mean lies near 0, x is not centred first: ``y = s x + (beta - s mean)`` takes one operation less than
``s (x - mean) + beta``, and the sums of the gradients take x as it is. Far from 0 both would cancel.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, as_rows, sample_blocks, walk
from uanref.kernels.cpu.lines import empty, rows_of, spread
from uanref.kernels.cpu.merging import NEAR, merge_sums
from uanref.kernels.cpu.products import sum_products
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
    xp, rows, spatial = backend.namespace(x, mean, var, gamma, beta), x, x.shape[2]
    std = xp.sqrt(var + eps)  # (C,)
    scale = 1.0 / std if gamma is None else gamma * (1.0 / std)  # (C,)
    mean_ = None if _are_near(mean, std) else spread(mean, spatial)
    shift = beta if mean_ is not None else (0.0 if beta is None else beta) - mean * scale

    y = empty(rows.shape, rows)
    scale_, shift_ = spread(scale, spatial), None if shift is None else spread(shift, spatial)

    def normalize(block: slice, scratch: Scratch) -> None:
        out = y[block]  # (b, C, S)
        xp.multiply(_centred(rows[block], mean_, out), scale_, out=out)
        if shift_ is not None:
            out += shift_

    with rows_of(rows):
        walk(normalize, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return y


def _backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    """Return dx ``(N, C, S)``, dgamma and dbeta ``(C,)``; ``from_batch`` tells whether the moments depend on x."""
    xp = backend.namespace(dy, rows, mean, var, gamma)
    dy_rows, dx = as_rows(dy), empty(rows.shape, dy)  # (N, C, S)
    std = xp.sqrt(var + eps)  # (C,)
    inverse_std = 1.0 / std
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)
    samples, spatial = rows.shape[0] * rows.shape[2], rows.shape[2]
    mean_ = None if _are_near(mean, std) else spread(mean, spatial)
    blocks = sample_blocks(rows, 3 * rows[0].size)

    def sums(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        dy_b = dy_rows[block]  # (b, C, S)
        product = dx if len(blocks) == 1 else empty(dy_b.shape, dy, scratch, "product")
        return sum_samples(dy_b), sum_products(_centred(rows[block], mean_, product), dy_b, out=product)

    def propagate(block: slice, scratch: Scratch) -> None:
        out = dx[block]
        if from_batch:
            xp.multiply(_centred(rows[block], mean_, out), through_var_, out=out)  # -x_hat dgamma / M
            out += dy_rows[block]
            out -= through_mean_
            out *= scale_
        else:
            xp.multiply(dy_rows[block], scale_, out=out)

    with rows_of(rows):
        # 1. Each channel's sums: beta is added to every sample, gamma multiplies every x_hat.
        parts = walk(sums, blocks, rows.size)
        dbeta = merge_sums([part[0] for part in parts], dy.dtype)  # (C,)
        dgamma = merge_sums([part[1] for part in parts], dy.dtype)
        dgamma = (dgamma if mean_ is not None else dgamma - mean * dbeta) * inverse_std  # (C,)

        # 2. Directly, minus what goes through the mean and through the variance (train mode).
        through_var = dgamma * inverse_std / -samples
        through_mean = dbeta / samples
        if mean_ is None:
            through_mean = through_mean + through_var * mean
        scale_, through_mean_, through_var_ = (spread(a, spatial) for a in (scale, through_mean, through_var))
        walk(propagate, blocks, rows.size)
    return dx, dgamma, dbeta


def _are_near(mean: Array, std: Array) -> bool:
    """Tell whether every mean is near 0; on a device, which would have to be waited for, none is."""
    return backend.name_of(mean) == "numpy" and bool((abs(mean) <= NEAR * std).all())


def _centred(x: Array, mean_: Array | None, out: Array) -> Array:
    """Return ``x - mean`` in ``out``, or x itself without a mean."""
    if mean_ is None:
        return x
    centred: Array = backend.namespace(x).subtract(x, mean_, out=out)
    return centred
