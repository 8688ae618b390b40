"""What a layer computes, as host arrays, and how far two results are apart."""

from __future__ import annotations

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer


def outputs(layer: Layer, x: Array, seed: int) -> dict[str, Array]:
    """Return what a layer computes from ``x``, as host arrays: ``y``, ``dx``, each parameter's ``grad`` and the state.

    The upstream gradient is drawn on the host from ``seed``, so every backend gets the same one.

    Raises:
        RuntimeError: the backward pass left a parameter without a gradient.
    """
    y = layer.forward(x)
    dy = np.random.default_rng(seed + 1).standard_normal(size=tuple(y.shape)).astype(y.dtype)
    dx = layer.backward(backend.to_device(dy, backend.name_of(y)))
    found = {"y": backend.to_host(y), "dx": backend.to_host(dx)}
    for name, parameter in layer.parameters().items():
        if parameter.grad is None:
            raise RuntimeError(f"backward left no gradient for {name}")
        found[f"{name}.grad"] = backend.to_host(parameter.grad)
    return found | layer.state_dict()


def difference(found: Array, expected: Array) -> float:
    """Return the largest difference in units of the largest entry of ``expected`` (or 1e-8, if all are smaller)."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-8)
    return float(np.max(np.abs(found.astype("float64") - expected), initial=0.0)) / scale
