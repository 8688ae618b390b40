r"""How UAN's and Mixture Normalization's kernels are launched, for a posterior of each activation by itself.

Counted in array sizes (the bytes of x), for any number of components K:

==================  =================================  ==========================
pass                batch moments                      fixed moments
==================  =================================  ==========================
forward             3: x | x, y                        2: x, y
backward            5: x, dy | x, dy, dx               3: x, dy, dx
kernels, forward    3 (moments, merge, transform)      1
kernels, backward   4 (sums, merge, propagate, merge)  3 (propagate, two merges)
the same, one part  2 (moments, transform) and 1       1 and 1
==================  =================================  ==========================

A channel of at most CHUNK = 4096 samples is one part: its block has all that a merge would wait for. Small networks,
whose layers are no larger, spend their time on launches.

The weights are computed again in each pass, so besides y and dx only the parts' sums take memory: 5 K + 1 numbers for
4096 samples. The equations are those of :mod:`uanref.norms.mixture_weights` and
:mod:`uanref.norms.mixture_transform`; the batch's moments are merged as in Chan, Golub & LeVeque (1983).

Shapes: x and dy are ``(N, C, S)``, float32 or float64; another layout than C-contiguous is copied first, by each
function. A channel's parameter is ``(C,)``, the mixture's and the moments' arrays are ``(K, C)``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel, parts, serves

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


def serves_mixture(rows: Array, mixture: MixtureArrays) -> bool:
    """Tell whether the kernels can do this: for a posterior of each activation by itself, of few components."""
    (components, channels), priors = mixture[1].shape, mixture[0].shape[1]
    return serves(rows) and priors == channels and components <= MAX_COMPONENTS and channels <= MAX_CHANNELS


def launch_mixture(
    name: str, rows: Array, components: int, grid: tuple[int, ...], *arguments: Any, from_batch: bool = False
) -> None:
    """Launch a kernel of ``mixture_transform.cu``."""
    constants = {"COMPONENTS": components, "FROM_BATCH": int(from_batch)}
    kernel("mixture_transform", name, rows.dtype.char, **constants)(grid, (THREADS,), arguments)


def parts_of(rows: Array) -> int:
    """Return how many blocks share a channel."""
    return parts(rows.shape[0] * rows.shape[2])


def sizes(rows: Array) -> tuple[int, int, int]:
    """Return what a kernel's ``Samples`` starts from: samples of a channel, channels, spatial elements."""
    return rows.shape[0] * rows.shape[2], rows.shape[1], rows.shape[2]


def ready(a: Array | None, shape: tuple[int, ...], rows: Array) -> Any:
    """Return ``a`` as the kernels read it: of ``shape``, of x's dtype, C-contiguous; for None the null pointer."""
    if a is None:
        return 0
    xp = backend.namespace(a, rows)
    return xp.ascontiguousarray(a if a.shape == shape else xp.broadcast_to(a, shape), dtype=rows.dtype)


def of_mixture(mixture: MixtureArrays, rows: Array) -> MixtureArrays:
    """Return the mixture as the kernels read it."""
    log_prior, mean, variance = (ready(a, mixture[1].shape, rows) for a in mixture)
    return log_prior, mean, variance
