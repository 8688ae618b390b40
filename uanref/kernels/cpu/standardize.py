"""Moments of channels in one pass over memory."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, per_channel, sample_blocks, walk
from uanref.kernels.cpu.merging import merge_moments
from uanref.kernels.cpu.sums import sum_samples


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.norms.standardize.channel_moments`."""
    xp, rows = backend.namespace(x), x

    def moments(block: slice, scratch: Scratch) -> tuple[int, Array, Array]:
        x = rows[block]  # (b, C, S)
        weight = x.shape[0] * x.shape[2]
        mean = sum_samples(x) / weight  # (C,)
        centred = scratch("centred", x.shape, x)
        xp.subtract(x, per_channel(mean, x.shape[2]), out=centred)
        # Far from 0 the mean is rounded coarsely. What the centred samples still sum to tells by how
        # much, and is taken out of both moments (the corrected two-pass algorithm).
        left = sum_samples(centred).astype(double)
        centred *= centred
        return weight, mean + left / weight, sum_samples(centred) - left * left / weight

    double = xp.result_type(rows.dtype, "float64")

    parts = walk(moments, sample_blocks(rows, 2 * rows[0].size), rows.size)
    _, mean, variance = merge_moments(parts, rows.dtype)
    return mean, variance
