"""The guard against numbers that are not finite: it names the first one, in the order in which it spreads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from uanref.layers.base import Layer, Sequential


class NonFiniteError(ArithmeticError):
    """A loss, a layer's output or a gradient became NaN or infinite; the message names the first one."""


def check_finite(first_bad: list[float], model: Layer, parameters: Sequence[str]) -> None:
    """Raise where one of the numbers of a trainer's steps was not finite.

    Args:
        first_bad: for every number that a step returns, the first step where it was not finite, else infinity.
        model: whose stages come first among the numbers.
        parameters: the names of the trained ones, whose gradients come after the loss.

    Raises:
        NonFiniteError: it names the earliest, and of those the first on the way.
    """
    step = min(first_bad)
    if step < math.inf:
        name = _watched(model, parameters)[first_bad.index(step)]
        raise NonFiniteError(
            f"training became non-finite at step {step:.0f}: {name}: lower the learning rate or clip the gradient norm"
        )


def _watched(model: Layer, parameters: Sequence[str]) -> list[str]:
    """Name the numbers of a step, in the order in which a bad one spreads."""
    kinds = {name: type(layer).__name__ for name, layer in model.modules()}
    outputs = [f"output of {name or 'the model'} ({kinds[name]})" for name, _ in stages_of(model)]
    owners = {name: kinds.get(name.rpartition(".")[0], "") for name in parameters}
    gradients = [f"gradient of {name} ({kind})" for name, kind in owners.items()]
    return [*outputs, "the loss", *gradients, "the number of correct answers"]


def stages_of(model: Layer) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that a forward pass goes through one after the other, with their names."""
    if isinstance(model, Sequential):
        yield from model.children()
    else:
        yield "", model
