"""Group normalization in blocks of samples: all steps of a sample while it is in the cache."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.lines import LongRows, empty, spread
from uanref.kernels.cpu.merging import merge_sums
from uanref.kernels.cpu.sums import sum_rows, sum_samples


def forward(x: Array, groups: int, gamma: Array | None, beta: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.group.forward`."""
    xp, rows, (samples, _, spatial) = backend.namespace(x), x, x.shape
    y = empty(rows.shape, rows)
    mean, var = (xp.empty((samples, groups, 1), dtype=rows.dtype) for _ in range(2))
    gamma_, beta_ = (None if a is None else spread(a, spatial) for a in (gamma, beta))

    def task(block: slice, scratch: Scratch) -> None:
        x = rows[block].reshape(-1, groups, rows[0].size // groups)  # (b, G, L)
        x_hat = y[block].reshape(x.shape)
        length = x.shape[2]
        rounded = sum_rows(x)[..., None] / length  # (b, G, 1)
        xp.subtract(x, rounded, out=x_hat)
        # Far from 0 the mean is rounded coarsely. What the centred numbers still sum to tells by how much, and is
        # taken out (as in standardize.channel_moments): 1 / sqrt(eps) = 316 would multiply it in a constant group.
        left = sum_rows(x_hat)[..., None] / length
        x_hat -= left
        mean[block] = rounded + left
        square = empty(x.shape, x, scratch, "square")
        xp.multiply(x_hat, x_hat, out=square)
        var[block, :, 0] = xp.minimum(sum_rows(square) / length, backend.largest(x.dtype))  # saturates
        x_hat *= 1.0 / xp.sqrt(var[block] + eps)
        out = y[block]  # the same memory, (b, C, S)
        if gamma_ is not None:
            out *= gamma_
        if beta_ is not None:
            out += beta_

    with LongRows(rows[0].size // groups):
        walk(task, sample_blocks(rows, 3 * rows[0].size), rows.size)
    return y, mean, var


def backward(
    dy: Array, x: Array, groups: int, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.norms.group.backward`."""
    xp, rows, spatial = backend.namespace(dy, x), x, x.shape[2]
    inverse_std = 1.0 / xp.sqrt(var + eps)  # (N, G, 1)
    dx = empty(rows.shape, dy)
    gamma_ = None if gamma is None else spread(gamma, spatial)

    def task(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        dy_b, g = dy[block], dx[block]  # (b, C, S); g becomes dx where it stands
        x_hat, product = (empty(dy_b.shape, dy, scratch, name) for name in ("x_hat", "product"))
        grouped = (-1, groups, rows[0].size // groups)  # (b, G, L)
        x_hat_l, product_l, g_l = x_hat.reshape(grouped), product.reshape(grouped), g.reshape(grouped)
        xp.subtract(rows[block].reshape(grouped), mean[block], out=x_hat_l)
        x_hat_l *= inverse_std[block]
        # 1. Per channel, over samples and space.
        xp.multiply(dy_b, x_hat, out=product)
        dgamma, dbeta = sum_samples(product), sum_samples(dy_b)  # (C,)
        # 2. Directly, minus what goes through the mean and the variance of its group.
        if gamma_ is None:
            g[...] = dy_b
        else:
            xp.multiply(dy_b, gamma_, out=g)
        length = g_l.shape[2]
        through_mean = sum_rows(g_l)[..., None] / length  # (b, G, 1)
        xp.multiply(g_l, x_hat_l, out=product_l)
        x_hat_l *= sum_rows(product_l)[..., None] / length
        g_l -= through_mean
        g_l -= x_hat_l
        g_l *= inverse_std[block]
        return dgamma, dbeta

    with LongRows(rows[0].size // groups):
        parts = walk(task, sample_blocks(rows, 4 * rows[0].size), rows.size)
    return dx, merge_sums([part[0] for part in parts], dy.dtype), merge_sums([part[1] for part in parts], dy.dtype)
