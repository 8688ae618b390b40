"""This project's side of a contest."""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.bench.timing import Task
from uanref.bench.work import PARAMETERS, RATE, Material, Stage, Weights, Work
from uanref.layers.base import Layer, Sequential


def layer(stage: Stage) -> Layer:
    """Return the layer of a stage, in float32 and train mode."""
    from uanref.layers.activation import GELU, ReLU
    from uanref.layers.conv import Conv2d
    from uanref.layers.flatten import Flatten
    from uanref.layers.linear import Linear
    from uanref.layers.pooling import GlobalAvgPool2d, MaxPool2d
    from uanref.norms.batch import BatchNorm
    from uanref.norms.uan import UAN

    match stage.kind:
        case "conv":
            return Conv2d(stage.inputs, stage.outputs, stage.kernel, padding=stage.kernel // 2, bias=stage.bias)
        case "linear":
            return Linear(stage.inputs, stage.outputs, bias=stage.bias)
        case "bn":
            return BatchNorm(stage.inputs)
        case "uan":
            return UAN(stage.inputs, stage.components, posterior="channel", statistics="batch")
        case "relu":
            return ReLU()
        case "gelu":
            return GELU()
        case "pool":
            return MaxPool2d(2)
        case "global_pool":
            return GlobalAvgPool2d()
    return Flatten()


def layers(work: Work) -> list[Layer]:
    """Return the layers of ``work``, on NumPy."""
    with backend.using("numpy"):
        return [layer(stage) for stage in work.stages]


def weights(made: list[Layer], work: Work) -> Weights:
    """Return copies of the parameters, stage by stage, in the order in which gradients are returned."""
    return tuple(
        {name: one.parameters()[name].value.copy() for name in _names(one, stage)}
        for one, stage in zip(made, work.stages, strict=True)
    )


def task(made: list[Layer], work: Work, given: Material) -> Task:
    """Return a pass of ``work``: (y, dx, every gradient), (loss, dx), or after a step (loss,)."""
    from uanref.losses import SoftmaxCrossEntropy
    from uanref.optimizers import Adam

    model = made[0] if len(made) == 1 else Sequential(*made)
    if work.end == "dy":
        # Looked up once, as a peer's: going through a layer's attributes is no part of a pass.
        trained = [
            one.parameters()[name] for one, at in zip(made, work.stages, strict=True) for name in _names(one, at)
        ]

        def there_and_back() -> tuple[Any, ...]:
            y = model.forward(given.x)
            dx = model.backward(given.dy)
            return (y, dx, *(parameter.grad for parameter in trained))

        return there_and_back
    loss = SoftmaxCrossEntropy()
    if work.end == "loss":
        return lambda: (loss.forward(given.x, given.labels), loss.backward())
    optimizer = Adam(model.parameters(), lr=RATE)

    def step() -> tuple[Any, ...]:
        value = loss.forward(model.forward(given.x), given.labels)
        model.backward(loss.backward())
        optimizer.step()
        return (value,)

    return step


def _names(one: Layer, stage: Stage) -> list[str]:
    return [name for name in PARAMETERS.get(stage.kind, ()) if name in one.parameters()]
