"""Run one of our layers, losses or optimizers on a case's arrays and return all that it computed, by name.

:mod:`support.oracle_torch` has the same function for PyTorch; the two never see each other's code.
A case is a ``kind``, ``options`` (keyword arguments of our class, and those below that say how to
run it) and input arrays:

========== ============================================ ===============================================
kind       inputs                                       outputs
========== ============================================ ===============================================
a layer    ``x``, ``dy``, parameters, buffers           ``y``, ``dx``, ``<parameter>.grad``, ``<buffer>.after``
a loss     ``logits``, ``targets``                      ``loss``, ``dlogits``
optimizer  ``<parameter>`` and ``<parameter>.grad``,    ``<parameter>.path``, the values after each step
           one gradient per step on axis 0
========== ============================================ ===============================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from uanref.layers.activation import GELU
from uanref.layers.base import Layer, Parameter
from uanref.layers.conv import Conv2d
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.optimizers import SGD, Adam, AdamW

Arrays = dict[str, np.ndarray]

NORMS: dict[str, type[Layer]] = {c.__name__: c for c in (BatchNorm, LayerNorm, GroupNorm, InstanceNorm)}
PLAIN: dict[str, type[Layer]] = {c.__name__: c for c in (MaxPool2d, AvgPool2d, GlobalAvgPool2d, GELU)}
OPTIMIZERS: dict[str, Any] = {c.__name__: c for c in (SGD, Adam, AdamW)}


def run(kind: str, options: dict[str, Any], inputs: Arrays, dtype: str = "float64") -> Arrays:
    """Return what our ``kind`` computes from ``inputs``, converted to ``dtype`` (labels stay integers)."""
    inputs = {name: a.astype(dtype) if a.dtype.kind == "f" else a for name, a in inputs.items()}
    if kind == "SoftmaxCrossEntropy":
        criterion = SoftmaxCrossEntropy(**options)
        loss = criterion.forward(inputs["logits"], inputs["targets"])
        return {"loss": np.asarray(loss), "dlogits": criterion.backward()}
    if kind in OPTIMIZERS:
        return optimize(OPTIMIZERS[kind], options, inputs)
    return both_ways(build(kind, options, inputs, dtype), inputs)


def build(kind: str, options: dict[str, Any], inputs: Arrays, dtype: str) -> Layer:
    """Make the layer, in the case's mode."""
    # How the oracle is to be run ("form") and the mode are no arguments of ours.
    arguments = {name: value for name, value in options.items() if name not in ("form", "training")}
    if kind in PLAIN:
        return PLAIN[kind](**arguments)
    if kind == "Conv2d":
        outputs, channels, *kernel = inputs["weight"].shape
        return Conv2d(channels, outputs, tuple(kernel), **arguments, bias="bias" in inputs, dtype=dtype)
    channels = inputs["x"].shape[1]
    name = "num_channels" if kind == "GroupNorm" else "num_features"
    layer = NORMS[kind](**{name: channels}, **arguments, affine="gamma" in inputs, dtype=dtype)
    return layer.train(options.get("training", True))


def both_ways(layer: Layer, inputs: Arrays) -> Arrays:
    """Set parameters and buffers, run forward and backward once, collect everything."""
    for name, parameter in layer.parameters().items():
        parameter.value = inputs[name]
    for name in layer.buffers():
        setattr(layer, name, inputs[name])
    outputs = {"y": layer.forward(inputs["x"])}
    outputs["dx"] = layer.backward(inputs["dy"])
    for name, parameter in layer.parameters().items():
        assert parameter.grad is not None
        outputs[f"{name}.grad"] = parameter.grad
    return outputs | {f"{name}.after": value for name, value in layer.buffers().items()}


def optimize(make: Any, options: dict[str, Any], inputs: Arrays) -> Arrays:
    """Step through the gradients on axis 0 and record every parameter's path."""
    names = [name for name in inputs if not name.endswith(".grad")]
    parameters = {name: Parameter(inputs[name]) for name in names}
    optimizer = make(parameters, **options)
    path: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for step in range(len(inputs[f"{names[0]}.grad"])):
        for name, parameter in parameters.items():
            parameter.grad = inputs[f"{name}.grad"][step]
        optimizer.step()
        for name, parameter in parameters.items():
            path[name].append(parameter.value.copy())
    return {f"{name}.path": np.stack(values) for name, values in path.items()}


def assert_agree(ours: Arrays, theirs: Arrays, tolerance: float, *, floor: float = 0.0) -> None:
    """Assert the same names, shapes and values, to ``tolerance`` times each array's largest magnitude.

    ``floor`` is the smallest magnitude taken as scale: where terms of order 1 cancel (a gradient
    through batch normalization of two samples), the result's own size is no measure of its rounding.
    """
    assert sorted(ours) == sorted(theirs)
    for name, expected in theirs.items():
        actual = np.asarray(ours[name])
        assert actual.shape == expected.shape, f"{name}: {actual.shape} instead of {expected.shape}"
        assert np.isfinite(expected).all(), f"{name}: the oracle's own result is not finite"
        scale = max(float(np.abs(expected).max()), floor)
        error = float(np.abs(actual - expected).max())  # NaN fails below
        assert error <= tolerance * scale, f"{name}: off by {error:.3g}, allowed {tolerance:g} of {scale:.3g}"
