"""Inputs and layers that the property tests draw."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from uanref.layers.base import Layer


def channel_shapes(min_samples: int = 2, max_channels: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes (N, C, ...) of rank 2 to 4 with at least ``min_samples`` samples per channel."""
    shape = st.tuples(
        st.integers(1, 5),
        st.integers(1, max_channels),
        st.lists(st.integers(1, 4), min_size=0, max_size=2),
    ).map(lambda t: (t[0], t[1], *t[2]))
    return shape.filter(lambda s: s[0] * int(np.prod(s[2:], dtype=int)) >= min_samples)


LAYOUTS = ("C", "F", "strided", "reversed")


def draw_array(shape: tuple[int, ...], seed: int, *, dtype: str = "float64", layout: str = "C") -> np.ndarray:
    """Draw standard normal numbers of ``shape`` in one of :data:`LAYOUTS`."""
    rng = np.random.default_rng(seed)
    if layout == "strided":
        wide = rng.standard_normal((*shape[:-1], 2 * shape[-1])).astype(dtype)
        return wide[..., ::2]
    x = rng.standard_normal(shape).astype(dtype)
    if layout == "reversed":
        return x[::-1]
    return np.asfortranarray(x) if layout == "F" else x


def shake(layer: Layer, seed: int, scale: float = 0.5) -> Layer:
    """Move every parameter off its start, where many gradients are 0 or equal by symmetry."""
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + (scale * rng.standard_normal(parameter.shape)).astype(parameter.value.dtype)
    return layer


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Tell whether two arrays agree to ``tolerance`` times the largest magnitude (at least 1)."""
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return bool(np.abs(actual - expected).max(initial=0.0) <= tolerance * scale)
