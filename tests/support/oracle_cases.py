"""Draw the input arrays of an oracle case: what ``oracle_ours.run`` and ``oracle_torch.run`` take."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def norm_inputs(kind: str, shape: tuple[int, ...], seed: int, *, affine: bool = True) -> Arrays:
    """Inputs of a normalization layer; every parameter and buffer off its start."""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    inputs = {"x": 0.5 + 2.0 * rng.standard_normal(shape), "dy": rng.standard_normal(shape)}
    if affine:
        inputs |= {"gamma": rng.uniform(0.5, 2.0, channels), "beta": rng.standard_normal(channels)}
    if kind == "BatchNorm":
        inputs |= {"running_mean": rng.standard_normal(channels), "running_var": rng.uniform(0.3, 3.0, channels)}
    return inputs


def conv_inputs(
    image: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], seed: int, *, bias: bool = True
) -> Arrays:
    """Inputs of a convolution: image (N, I, H, W), weight (O, I, kh, kw)."""
    rng = np.random.default_rng(seed)
    stride, dilation = two(options.get("stride", 1)), two(options.get("dilation", 1))
    padding = options.get("padding", 0)
    size = []
    for axis, (length, kernel) in enumerate(zip(image[2:], weight[2:], strict=True)):
        reach = dilation[axis] * (kernel - 1)
        margin = {"same": reach, "valid": 0}[padding] if isinstance(padding, str) else 2 * two(padding)[axis]
        size.append((length + margin - reach - 1) // stride[axis] + 1)
    inputs = {
        "x": rng.standard_normal(image),
        "dy": rng.standard_normal((image[0], weight[0], *size)),
        "weight": rng.standard_normal(weight),
    }
    return inputs | ({"bias": rng.standard_normal(weight[0])} if bias else {})


def pool_inputs(shape: tuple[int, ...], options: dict[str, Any], seed: int, *, ties: bool = False) -> Arrays:
    """Inputs of a pooling; with ``ties`` small whole numbers, so that most windows hold their maximum twice."""
    rng = np.random.default_rng(seed)
    kernel = two(options["kernel_size"])
    stride, padding = two(options.get("stride", kernel)), two(options.get("padding", 0))
    size = [(shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
    x = rng.integers(0, 3, shape).astype("float64") if ties else rng.standard_normal(shape)
    return {"x": x, "dy": rng.standard_normal((*shape[:2], *size))}


def plain_inputs(shape: tuple[int, ...], out: tuple[int, ...], seed: int, scale: float = 1.0) -> Arrays:
    """Inputs of a layer without parameters."""
    rng = np.random.default_rng(seed)
    return {"x": scale * rng.standard_normal(shape), "dy": rng.standard_normal(out)}


def loss_inputs(samples: int, classes: int, seed: int, *, soft: bool, scale: float = 2.0) -> Arrays:
    """Logits and either labels or distributions."""
    rng = np.random.default_rng(seed)
    targets = rng.dirichlet(np.ones(classes), samples) if soft else rng.integers(0, classes, samples)
    return {"logits": scale * rng.standard_normal((samples, classes)), "targets": targets}


def optimizer_inputs(shapes: dict[str, tuple[int, ...]], steps: int, seed: int, scale: float = 1.0) -> Arrays:
    """Parameters, and as many gradients as steps for each."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, shape in shapes.items():
        inputs[name] = rng.standard_normal(shape)
        inputs[f"{name}.grad"] = scale * rng.standard_normal((steps, *shape))
    return inputs


def two(value: Any) -> tuple[int, int]:
    """Return a pair for a number or a pair (or JSON's list)."""
    return tuple(value) if isinstance(value, tuple | list) else (value, value)
