"""Moments of channels in one pass over memory."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.lines import empty, rows_of, spread
from uanref.kernels.cpu.merging import merge_moments, near_moments
from uanref.kernels.cpu.products import sum_products
from uanref.kernels.cpu.sums import sum_samples


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.norms.standardize.channel_moments`.

    The host first tries the sums of x and of its square, which tell near 0 all that there is to know, and centres
    nothing. Where some channel is far from 0, it takes the way of a device.
    """
    xp, rows = backend.namespace(x), x
    blocks = sample_blocks(rows, 2 * rows[0].size)

    def raw(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        x = rows[block]  # (b, C, S)
        return sum_samples(x), sum_products(x, x, out=empty(x.shape, x, scratch, "centred"))

    def moments(block: slice, scratch: Scratch) -> tuple[int, Array, Array]:
        x = rows[block]  # (b, C, S)
        weight = x.shape[0] * x.shape[2]
        mean = sum_samples(x) / weight  # (C,)
        centred = empty(x.shape, x, scratch, "centred")
        xp.subtract(x, spread(mean, x.shape[2]), out=centred)
        # Far from 0 the mean is rounded coarsely. What the centred samples still sum to tells by how
        # much, and is taken out of both moments (the corrected two-pass algorithm).
        left = sum_samples(centred).astype(double)
        square = sum_products(centred, centred, out=centred)
        return weight, mean + left / weight, square - left * left / weight

    double = backend.wide(rows)
    with rows_of(rows):
        if backend.name_of(rows) == "numpy":
            with backend.quiet():  # a square that overflows is not needed in the end, or saturates
                found = near_moments(walk(raw, blocks, rows.size), rows.shape[0] * rows.shape[2], rows.dtype)
            if found is not None:
                return found
        parts = walk(moments, blocks, rows.size)
    _, mean, variance = merge_moments(parts, rows.dtype)
    return mean, variance
