"""A batch's weighted moments, block by block, merged in double precision."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.merging import merge_moments
from uanref.kernels.cpu.mixture_blocks import Batch, MixtureArrays, posterior, weighted_moments
from uanref.kernels.cpu.mixture_lanes import Part, joined


def batch_moments(x: Array, mixture: MixtureArrays, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """Serve :func:`uanref.norms.mixture_moments.batch_moments`."""
    batch = Batch(x, mixture)

    def task(part: Part) -> tuple[Array, Array, Array]:
        return weighted_moments(part, batch, part.samples(x), posterior(part, batch))

    merged = [merge_moments(parts, x.dtype) for parts in batch.lanes.walk(task)]
    total, mean, variance = (joined([found[i] for found in merged]) for i in range(3))
    alive = (batch.root_prior * total >= backend.tiny(x.dtype)).astype(x.dtype)  # S_k = sum_m tau_k
    # A dead component's variance is 0, and eps may be 0: it is divided by 1.
    inverse_std = alive / backend.namespace(x).sqrt(variance + eps + (1.0 - alive))
    batch.keep(inverse_std)
    return mean, variance, inverse_std, total, alive
