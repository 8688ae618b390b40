"""Long sums, added up in ``backend.wide``: float32 keeps its digits over a million numbers."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated


@accelerated
def sum_samples(z: Array) -> Array:
    """Sum over samples and space, ``(..., N, C, S) -> (..., C)``."""
    total: Array = z.sum(axis=(-3, -1), dtype=backend.wide(z)).astype(z.dtype)
    return total


@accelerated
def sum_rows(z: Array) -> Array:
    """Sum the last axis, ``(..., S) -> (...)``."""
    total: Array = z.sum(axis=-1, dtype=backend.wide(z)).astype(z.dtype)
    return total


@accelerated
def sum_all(z: Array) -> Array:
    """Sum all entries, any shape ``-> ()``; waits for nothing."""
    total: Array = z.sum(dtype=backend.wide(z)).astype(z.dtype)
    return total


@accelerated
def sum_squares(z: Array) -> Array:
    """Sum the squares of all entries, any shape ``-> ()``, in float64, where those of float32 cannot overflow."""
    total: Array = backend.namespace(z).square(z, dtype="float64").sum()
    return total
