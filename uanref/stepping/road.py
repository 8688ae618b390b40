"""The road through a derivation: forward step by step, the loss, and back through the same steps.

Inputs are no stops: they stand beside the road, given on the way out, complete with their gradients on the way back.
Terminal and page count the same stops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uanref.derivations import Derivation, Input, Step
from uanref.derivations.expressions import d, ref, sum_
from uanref.derivations.steps import Local

FORWARD, TURN, BACKWARD = "forward", "loss", "backward"

PHASES = {FORWARD: "forward", TURN: "the loss: the road turns", BACKWARD: "backward"}
"""The phases in words."""

LOSS = "loss"
"""The name of the loss: of the last step where that is a loss, else of the stand-in."""

WEIGHTS = "g"
"""What a stand-in's weights are called: the upstream gradient."""


@dataclass(frozen=True)
class Stop:
    """One stop of the road.

    Attributes:
        node: name of the step, or :data:`LOSS`.
        phase: :data:`FORWARD`, :data:`TURN` or :data:`BACKWARD`.
    """

    node: str
    phase: str


def road(derivation: Derivation) -> tuple[Stop, ...]:
    """Return the stops in order: S steps forward, the loss, S steps back.

    Where the last step is the loss itself it is the turning point; where nothing goes back, the road ends there.
    """
    steps = [step.name for step in derivation.steps]
    out = [Stop(name, FORWARD) for name in steps]
    if derivation.forward_only:
        return tuple(out)
    if ends_in_loss(derivation):
        out, steps = out[:-1], steps[:-1]
    return (*out, Stop(LOSS, TURN), *(Stop(name, BACKWARD) for name in reversed(steps)))


def ends_in_loss(derivation: Derivation) -> bool:
    """Tell whether the derivation's output is a loss: a single number, called :data:`LOSS`."""
    return derivation.output.name == LOSS


def stand_in(derivation: Derivation) -> Step | None:
    r"""Return the loss that stands in for the rest of a network: :math:`L = \sum g\, y`, whose gradient dL/dy is g.

    g is the upstream gradient. None where the derivation ends in a loss of its own, or where nothing goes back.
    """
    if derivation.forward_only or ends_in_loss(derivation):
        return None
    y = derivation.output
    index = "".join(y.axes)
    return Step(
        name=LOSS,
        symbol="L",
        axes=(),
        equation=rf"L = \sum_{{{index}}} g_{{{index}}}\, {_indexed(y.symbol, index)}",
        forward=sum_(ref(WEIGHTS) * ref(y.name), *y.axes),
        backward={
            y.name: Local(rf"d{_indexed(y.symbol, index)} \mathrel{{+}}= g_{{{index}}}\, dL", ref(WEIGHTS) * d(LOSS))
        },
        meaning=(
            f"Stands in for the rest of the network: whatever loss follows, all that {y.name} gets to know of it is "
            "one number g for each of its entries, the upstream gradient. Here the g are given."
        ),
        source="this project's choice",
    )


def with_loss(derivation: Derivation, loss: Step) -> Derivation:
    """Return the derivation with its stand-in behind it, and the stand-in's weights as an input."""
    y = derivation.output
    weights = Input(WEIGHTS, "g", y.axes, f"the upstream gradient, given: what dL/d{y.name} is", constant=True)
    return replace(derivation, inputs=(*derivation.inputs, weights), steps=(*derivation.steps, loss), collapse=())


def _indexed(symbol: str, index: str) -> str:
    return f"{symbol}_{{{index}}}" if index else symbol
