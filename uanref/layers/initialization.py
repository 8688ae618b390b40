"""Where weights start."""

from __future__ import annotations

import math

from uanref.backend import Array, Generator


def he_normal(rng: Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw weights from N(0, 2 / fan_in), which keeps the variance through ReLU (He et al. 2015, eq. 10).

    Returns a float64 host array of ``shape``; the layer converts it.
    """
    drawn: Array = rng.standard_normal(shape) * math.sqrt(2.0 / fan_in)
    return drawn


def glorot_uniform(rng: Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Draw weights from U(-b, b), b = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Returns a float64 host array of ``shape``; the layer converts it.
    """
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    drawn: Array = rng.uniform(-bound, bound, shape)
    return drawn
