"""A batch's weighted moments, block by block, merged in double precision."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, walk
from uanref.kernels.cpu.merging import merge_moments
from uanref.kernels.cpu.mixture_blocks import Constants, MixtureArrays, blocks_of, weighted_moments, weights


def batch_moments(x: Array, mixture: MixtureArrays, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_moments.batch_moments`."""
    constants = Constants(mixture, x.shape[2])

    def task(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
        part = x[block]
        return weighted_moments(part, weights(part, constants, scratch), scratch)

    parts = walk(task, blocks_of(x, mixture), x.size)
    total, mean, variance = merge_moments(parts, x.dtype)
    alive = (constants.root_prior * total >= backend.tiny(x.dtype)).astype(x.dtype)  # S_k = sum_m tau_k
    # A dead component's variance is 0, and eps may be 0: it is divided by 1.
    inverse_std = alive / backend.namespace(x).sqrt(variance + eps + (1.0 - alive))
    return mean, variance, inverse_std, total, alive
