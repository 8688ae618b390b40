"""Sums and moments of blocks, merged into the batch's in double precision."""

from __future__ import annotations

import math
from typing import Any

from uanref import backend
from uanref.backend import Array, DType

# A mean within so many deviations of 0 is near: the mean square is at most 3.25 times the variance then, and their
# difference loses less than two bits. Positive parts of normal numbers, as after a ReLU, have 1.32.
NEAR = 1.5


def merge_sums(parts: list[Array], dtype: DType) -> Array:
    """Add the blocks' partial sums in double precision and return them in ``dtype``."""
    if len(parts) == 1:
        return parts[0].astype(dtype, copy=False)
    xp = backend.namespace(parts[0])
    total: Array = xp.stack(parts).astype(xp.result_type(dtype, "float64")).sum(axis=0).astype(dtype)
    return total


def near_moments(parts: list[tuple[Array, Array]], samples: int, dtype: DType) -> tuple[Array, Array] | None:
    """Return mean and variance ``(C,)`` by the blocks' sums of x and of its square, both ``(C,)``, on the host.

    This variance is a difference of squares. Where a mean is not near 0 it would cancel, and where squares overflow it
    may be anything: None is returned.
    """
    double = backend.wide(parts[0][0])
    mean, variance = (merge_sums([part[i] for part in parts], double) / samples for i in range(2))
    square = mean * mean
    variance -= square
    margin = NEAR**2 * variance - square
    if not (margin.min() >= 0.0 and margin.max() < math.inf):  # far, or beyond the range; NaN is neither
        return None
    return mean.astype(dtype), variance.astype(dtype)


def merge_moments(parts: list[tuple[Any, Array, Array]], dtype: DType) -> tuple[Any, Array, Array]:
    """Merge the blocks' weighted moments into the batch's, in double precision.

    Args:
        parts: per block its total weight W_b (a number or an array), mean and scatter
            ``sum_m w_m (x_m - mean_b)^2``.
        dtype: dtype of the results.

    Returns:
        Total weight ``W = sum_b W_b``, mean ``sum_b W_b mean_b / W`` and variance
        ``sum_b (scatter_b + W_b (mean_b - mean)^2) / W``; mean and variance are 0 where W is below the
        dtype's smallest normal number, whose reciprocal need not be finite. Never a
        difference of squares, which cancels (Chan, Golub & LeVeque 1983). A variance beyond the
        dtype's range saturates at its largest number: what is divided by its root stays finite.
    """
    xp = backend.namespace(parts[0][1])
    if len(parts) == 1 and isinstance(parts[0][0], int):
        weight, mean, scatter = parts[0]
        return weight, mean.astype(dtype), _representable(scatter / weight, dtype)
    weight, mean_b, scatter = (xp.stack([xp.asarray(part[i]) for part in parts]) for i in range(3))
    double = xp.result_type(dtype, "float64")
    weight, mean_b, scatter = weight.astype(double), mean_b.astype(double), scatter.astype(double)
    weight = weight.reshape(weight.shape + (1,) * (mean_b.ndim - weight.ndim))
    total = weight.sum(axis=0)
    tiny = backend.tiny(dtype)
    inverse = (total >= tiny) / xp.maximum(total, tiny)  # 0 where nothing weighs
    mean = (weight * mean_b).sum(axis=0) * inverse
    variance = (scatter + weight * (mean_b - mean) ** 2).sum(axis=0) * inverse
    return total.astype(dtype), mean.astype(dtype), _representable(variance, dtype)


def _representable(variance: Array, dtype: DType) -> Array:
    """Return a double-precision variance in ``dtype``: not below 0 by rounding, not beyond the largest number."""
    bounded: Array = backend.namespace(variance).clip(variance, 0.0, backend.largest(dtype)).astype(dtype)
    return bounded
