"""Where a layer is looked at: at points drawn around its values, since where it starts too much is 1, 0 or uniform."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np

from uanref import backend
from uanref.backend import Array, Generator
from uanref.layers.base import Layer, Parameter

POINTS = 2
SPREAD = 0.5

_POSITIVE = re.compile(r"(^|_)(var|variances?|std|sigma\d*|deviations?|precisions?)$")


def settled(layer: Layer, x: Array) -> Layer:
    """Return a deep copy; in train mode after one forward pass, which settles data-dependent starts."""
    layer = copy.deepcopy(layer)
    if any(module.training for _, module in layer.modules()):
        layer.forward(x.copy())
        layer.clear()
    return layer


def drawn(layer: Layer, seed: int, point: int) -> Layer:
    """Return a deep copy of a layer at a point drawn around its values; the same for the same seed and number.

    - Parameters, and buffers of floats, get noise: normal, with half the root mean square of the tensor as standard
      deviation, at least 0.5.
    - Buffers that cannot be negative (all entries are > 0, or the name ends in var, variance, std, sigma, deviation or
      precision) get a log-normal factor per entry. Where they sum to 1 over the first axis, they still do.
    - Buffers of integers and booleans, and generators, are kept.

    A layer for which this leaves the domain defines ``draw(rng)``: called instead, it assigns new values to the layer's
    own parameters and buffers. Layers below come first, by the same rules.

    Args:
        layer: left as it is.
        seed: as in :func:`~uanref.gradcheck.check`.
        point: 0, 1, ...
    """
    layer = copy.deepcopy(layer)
    rng = np.random.default_rng([seed, 0xD8, point])
    seen: set[int] = set()
    for _, module in reversed(list(layer.modules())):
        if id(module) in seen:  # one without parameters may stand in two places
            continue
        seen.add(id(module))
        hook = getattr(module, "draw", None)
        if callable(hook):
            hook(rng)
        else:
            _draw(module, rng)
    return layer


def same_values(one: Layer, other: Layer) -> bool:
    """Tell whether two copies of a layer hold the same parameters and buffers."""
    first, second = one.state_dict(), other.state_dict()
    return all(np.array_equal(first[name], second[name]) for name in first)


def _draw(module: Layer, rng: Generator) -> None:
    """Move the layer's own parameters and buffers, not those of the layers below."""
    for name, value in vars(module).items():
        if isinstance(value, Parameter):
            value.value = _noisy(value.value, rng) if value.trainable else _buffer(name, value.value, rng)
    for name in module.buffer_names:
        setattr(module, name, _buffer(name, getattr(module, name), rng))


def _buffer(name: str, value: Any, rng: Generator) -> Any:
    if not hasattr(value, "dtype") or not backend.is_float(value) or value.size == 0:
        return value
    host = backend.to_host(value)
    if not (host > 0).all() and not (_POSITIVE.search(name) and (host >= 0).all()):
        return _noisy(value, rng)
    found = host * np.exp(SPREAD * rng.standard_normal(host.shape))
    if host.ndim > 0 and np.allclose(host.sum(axis=0), 1.0, rtol=1e-6) and not _POSITIVE.search(name):
        found /= found.sum(axis=0)
    return backend.to_device(found.astype(host.dtype), backend.name_of(value))


def _noisy(value: Array, rng: Generator) -> Array:
    host = backend.to_host(value)
    scale = float(np.sqrt(np.mean(host * host))) if host.size else 0.0
    found = host + max(SPREAD, SPREAD * scale) * rng.standard_normal(host.shape)
    return backend.to_device(found.astype(host.dtype), backend.name_of(value))
