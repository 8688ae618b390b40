"""What ``uanref check --backend cupy`` computes twice: all of the catalogue, large arrays, what has no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from uanref import backend, models
from uanref.backend import Array
from uanref.gradcheck import LossLayer
from uanref.layers.activation import GELU, ReLU
from uanref.layers.base import Layer, Parameter
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, MaxPool2d
from uanref.losses import SoftmaxCrossEntropy
from uanref.neighbours.inverse_probability import weighted_mean
from uanref.neighbours.streaming import StreamingNorm
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.optimizers import SGD, Adam, AdamW, Optimizer
from uanref.verify.catalogue import Case, cases, spread
from uanref.verify.outputs import outputs


class Computation(NamedTuple):
    """Something to be computed on any backend.

    Attributes:
        name: what it is.
        compute: takes the backend's name, the dtype and the seed; returns results as host arrays by name.
    """

    name: str
    compute: Callable[[str, str, int], dict[str, Array]]


def computations() -> list[Computation]:
    """Return the catalogue of ``uanref check``, arrays that keep many blocks busy, and what has no gradient."""
    return [
        *of_layers([*cases(), *_large()]),
        Computation("StreamingNorm", _streaming),
        Computation("weighted_mean", _weighted_mean),
        Computation("SGD, three steps", partial(_steps, lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True))),
        Computation("Adam, three steps", partial(_steps, lambda p: Adam(p, 0.01))),
        Computation("AdamW, three steps", partial(_steps, lambda p: AdamW(p, 0.01, weight_decay=0.1))),
        Computation("training step, mlp with bn", partial(_training_step, "mlp", "bn")),
        Computation("training step, cnn with uan", partial(_training_step, "cnn", "uan")),
    ]


def of_layers(found: Sequence[Case]) -> list[Computation]:
    """Return what each layer computes, see :func:`uanref.verify.outputs.outputs`."""
    return [Computation(case.name, partial(_layer, case)) for case in found]


def _large() -> list[Case]:
    """Layers on arrays of many blocks and of odd sizes: (8, 5, 41, 43) has 14,104 samples a channel."""
    image = (8, 5, 41, 43)

    def uan(**options: Any) -> Layer:
        return UAN(5, 3, dtype="float64", **options)

    made: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
        "Linear": (lambda: Linear(300, 70), (130, 300)),
        "Conv2d 3x3": (lambda: Conv2d(5, 6, 3, padding=1), image),
        "Conv2d stride 2": (lambda: Conv2d(5, 6, 3, stride=2, padding=1), image),
        "MaxPool2d": (lambda: MaxPool2d(2), image),
        "AvgPool2d": (lambda: AvgPool2d(3, stride=2, padding=1), image),
        "ReLU": (ReLU, image),
        "GELU": (GELU, image),
        "BatchNorm": (lambda: BatchNorm(5, dtype="float64"), image),
        "BatchNorm rank 2": (lambda: BatchNorm(3, dtype="float64"), (5000, 3)),
        "GroupNorm": (lambda: GroupNorm(5, 5, dtype="float64"), image),
        "MixtureNorm": (lambda: MixtureNorm(5, 2, dtype="float64"), image),
        "ModeNorm": (lambda: ModeNorm(5, 2, dtype="float64"), (128, 5, 11, 7)),
        "UANPublic": (lambda: UANPublic(5, 3, dtype="float64"), image),
        "UAN channel batch": (lambda: uan(posterior="channel", statistics="batch"), image),
        "UAN channel learned": (lambda: uan(posterior="channel", statistics="learned"), image),
        "UAN shared batch": (lambda: uan(posterior="channel", prior="shared"), image),
        "UAN joint batch": (lambda: uan(posterior="joint", statistics="batch"), image),
        "SoftmaxCrossEntropy": (lambda: LossLayer(SoftmaxCrossEntropy(0.1), np.arange(600) % 1001), (600, 1001)),
    }
    return [
        Case(f"{name}, large", lambda make=make: spread(make()), shape, False)  # type: ignore[misc]
        for name, (make, shape) in made.items()
    ]


def _layer(case: Case, where: str, dtype: str, seed: int) -> dict[str, Array]:
    layer = case.make().to("float32").to(dtype).to(where)
    return outputs(layer, _drawn(case.shape, where, dtype, seed), seed)


def _streaming(where: str, dtype: str, seed: int) -> dict[str, Array]:
    stream = _drawn((40, 3), where, dtype, seed)
    with backend.using(where):
        norm = StreamingNorm(3, 7, dtype=dtype)
    return {"y": backend.to_host(norm.run(stream))}


def _weighted_mean(where: str, dtype: str, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed + 1)
    observed, probability = rng.random(50) < 0.7, rng.uniform(0.2, 1.0, 50)
    y = 3.0 + _drawn((50,), where, dtype, seed)
    found = weighted_mean(y, backend.to_device(observed, where), backend.to_device(probability, where))
    return {name: np.array([value]) for name, value in vars(found).items()}


def _steps(make: Callable[[dict[str, Parameter]], Optimizer], where: str, dtype: str, seed: int) -> dict[str, Array]:
    parameter = Parameter(_drawn((7, 300), where, dtype, seed))
    optimizer = make({"weight": parameter})
    for step in range(3):
        parameter.grad = _drawn((7, 300), where, dtype, seed + 1 + step)
        optimizer.step()
    return {"weight": backend.to_host(parameter.value)}


def _training_step(network: str, norm: str, where: str, dtype: str, seed: int) -> dict[str, Array]:
    model = models.build(network, norm, image_shape=(1, 8, 8), num_classes=10, seed=seed).to(dtype).to(where)
    loss, optimizer = SoftmaxCrossEntropy(), SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    x, labels = _drawn((16, 1, 8, 8), where, dtype, seed), backend.to_device(np.arange(16) % 10, where)
    value = loss.forward(model.forward(x), labels)
    model.backward(loss.backward())
    optimizer.step()
    return {"loss": backend.to_host(value).reshape(1)} | model.state_dict()


def _drawn(shape: tuple[int, ...], where: str, dtype: str, seed: int) -> Array:
    """Draw on the host numbers that float32 holds, so that every dtype starts from the same ones."""
    host = np.random.default_rng(seed).standard_normal(shape).astype("float32").astype(dtype)
    return backend.to_device(host, where)
