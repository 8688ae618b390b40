"""What a slip in a kernel is judged by: the device against the host, in double precision.

The catalogue of ``uanref check``, and what its small shapes and its layers leave out: channels of several parts, rows
longer than a block, a component without samples, the optimizers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.experiments import check
from uanref.gradcheck import LossLayer
from uanref.layers.base import Layer
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.optimizers import SGD, Adam, AdamW, Optimizer

SEED = 0
# A device adds in another order than the host; nothing else may differ.
TOLERANCE = 1e-11
# Samples of a channel: more than one part of 4096; images of 7 elements, so that a step of THREADS goes from image to
# image and from element to element.
SEVERAL_PARTS = (700, 2, 7)


class DeviceCase(NamedTuple):
    """Something that both backends compute.

    Attributes:
        name: what it is.
        size: of its input, for its cost.
        compute: what comes out on the backend of this name, as host arrays.
    """

    name: str
    size: int
    compute: Callable[[str], dict[str, Array]]


def cases() -> list[DeviceCase]:
    """Return every case."""
    catalogue = [_layer(case.name, case.make, case.shape) for case in check.cases()]
    return [*catalogue, *_batch_norms(), *_uans(), *_losses(), *_optimizers()]


def _layer(
    name: str,
    make: Callable[[], Layer],
    shape: tuple[int, ...],
    scale: float = 1.0,
    offset: float = 0.0,
    keep: tuple[str, ...] = (),
) -> DeviceCase:
    """A layer's outputs, gradients and state (or of these ``keep`` alone) for normally distributed numbers."""

    def compute(device: str) -> dict[str, Array]:
        x = offset + scale * np.random.default_rng(SEED).standard_normal(shape)
        found = check.outputs(make().to(device), backend.to_device(x, device), SEED)
        return {key: value for key, value in found.items() if not keep or key in keep}

    return DeviceCase(name, int(np.prod(shape)), compute)


def _batch_norms() -> list[DeviceCase]:
    def batch_norm(**options: object) -> Layer:
        return _spread(BatchNorm(2, dtype="float64", **options))  # type: ignore[arg-type]

    return [
        _layer("BatchNorm, several parts", batch_norm, SEVERAL_PARTS, offset=3.0),
        # The mean of equal numbers is that number, and y is 0 to the bit.
        _layer(
            "BatchNorm, constant", lambda: BatchNorm(2, affine=False, dtype="float64"), SEVERAL_PARTS, 0.0, 0.1, ("y",)
        ),
        # Far from 0 a part's mean is rounded, its scatter must not be.
        _layer("BatchNorm, far from 0", batch_norm, (400, 2, 7), 1.0, 1e12, ("running_var",)),
    ]


def _uans() -> list[DeviceCase]:
    def uan(channels: int = 2, **options: object) -> Layer:
        return _spread(UAN(channels, **options, dtype="float64"))  # type: ignore[arg-type]

    return [
        _layer("UAN, several parts", uan, SEVERAL_PARTS),
        _layer("UAN learned, several parts", lambda: uan(statistics="learned"), SEVERAL_PARTS),
        _layer("UAN, a component without samples", _without_samples, (5, 2)),
        _layer("UAN, many channels", lambda: uan(300), (3, 300)),
    ]


def _losses() -> list[DeviceCase]:
    draw = np.random.default_rng(SEED)
    labels, soft = draw.integers(0, 600, size=3), draw.uniform(0.0, 1.0, (3, 600))  # rows that do not sum to 1
    many = draw.integers(0, 2, size=5000)
    return [
        _layer("SoftmaxCrossEntropy, long rows", lambda: LossLayer(SoftmaxCrossEntropy(0.1), labels), (3, 600)),
        # Without the row's maximum the exponentials would overflow.
        _layer("SoftmaxCrossEntropy soft, large", lambda: LossLayer(SoftmaxCrossEntropy(), soft), (3, 600), 1e3),
        _layer("SoftmaxCrossEntropy soft, 40", lambda: LossLayer(SoftmaxCrossEntropy(), soft[:, :40]), (3, 40), 1e3),
        _layer("SoftmaxCrossEntropy, many rows", lambda: LossLayer(SoftmaxCrossEntropy(), many), (5000, 2)),
    ]


def _spread(layer: Layer) -> Layer:
    """Move every parameter and running average off its start: a scale of 1 or a mean of 0 would hide much."""
    draw = np.random.default_rng(SEED)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    layer.load_state_dict(
        {
            name: array + draw.uniform(0.1, 0.4, array.shape) if name.startswith("running") else array
            for name, array in layer.state_dict().items()
        }
    )
    return layer


def _without_samples() -> Layer:
    layer = UAN(2, dtype="float64")
    layer.mean.value[0] = 1e3
    return layer


def _optimizers() -> list[DeviceCase]:
    makers: dict[str, Callable[..., Optimizer]] = {
        "SGD": SGD,
        "SGD momentum": functools.partial(SGD, momentum=0.9),
        "SGD Nesterov, decay": functools.partial(SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
        "Adam": Adam,
        "Adam, decay": functools.partial(Adam, betas=(0.8, 0.9), eps=0.1, weight_decay=0.1),
        "AdamW": functools.partial(AdamW, weight_decay=0.1),
    }
    return [DeviceCase(name, 300, functools.partial(_three_steps, make)) for name, make in makers.items()]


def _three_steps(make: Callable[..., Optimizer], device: str) -> dict[str, Array]:
    """Move a weight of more elements than a block has threads."""
    draw = np.random.default_rng(SEED)
    layer = Linear(20, 15, dtype="float64").to(device)
    optimizer = make(layer.parameters(), lr=0.1)
    for _ in range(3):
        for parameter in layer.parameters().values():
            parameter.grad = backend.to_device(draw.standard_normal(parameter.shape), device)
        optimizer.step()
    values = {name: backend.to_host(parameter.value) for name, parameter in layer.parameters().items()}
    return values | {name: np.asarray(value) for name, value in optimizer.state_dict().items()}


def worst(found: dict[str, Array], expected: dict[str, Array]) -> float:
    """Return the largest difference, each tensor's in units of its largest entry; infinite for a missing tensor."""
    if found.keys() != expected.keys():
        return float("inf")
    errors = [check.difference(found[name], expected[name]) for name in expected]
    return float("nan") if any(np.isnan(errors)) else max(errors)
