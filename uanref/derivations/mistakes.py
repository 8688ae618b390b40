"""Slips of the pen: what can go wrong in one line of a backward pass, and what it does to the gradients.

:func:`mistakes` lists every single slip of every local backward expression of a derivation, read off the expression
itself (:mod:`uanref.derivations.slips`), that changes a gradient. :func:`plant` runs the derivation with one of them in
place. The numerical gradients know nothing of it, so the input of the slip turns red, and so does
everything before it that depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from uanref.backend import Array
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import Expression
from uanref.derivations.slips import Slip, slips
from uanref.derivations.steps import Local, Step
from uanref.derivations.traces import Trace

ROUNDING = 1e-9
"""A slip that moves a gradient by less than this, relative to its largest entry, changes nothing."""


@dataclass(frozen=True)
class Mistake:
    """One slip in one local backward expression.

    Attributes:
        step: name of the step whose way back is wrong.
        input: name of the step's input whose gradient becomes wrong.
        description: what was done, in plain words.
        replacement: the step with the slip in it; its equations stay the right ones.
    """

    step: str
    input: str
    description: str
    replacement: Step

    @property
    def id(self) -> str:
        """The same at every call: ``"mu <- centred: sign flipped"``."""
        return f"{self.input} <- {self.step}: {self.description}"


def mistakes(derivation: Derivation) -> list[Mistake]:
    """Return all single slips that change a gradient, in the order of the steps and of their expressions.

    Slips that do not fit (a sum without which an axis has no place), that change nothing (on the example) or that give
    no finite number are left out.
    """
    trace = derivation.trace(numerical=False)
    found = []
    for step in derivation.steps:
        for name, local in step.backward.items():
            if trace[name].gradient is None:  # a constant: nothing is sent back to it
                continue
            for description, wrong in _named(slips(local.expression, _same_axes(derivation, step))):
                if _changes(trace, name, step.name, wrong):
                    backward = {**step.backward, name: Local(local.equation, wrong)}
                    found.append(Mistake(step.name, name, description, replace(step, backward=backward)))
    return found


def plant(
    derivation: Derivation,
    mistake: Mistake,
    inputs: Mapping[str, Array] | None = None,
    upstream: Array | None = None,
    *,
    seed: int = 0,
    numerical: bool = True,
) -> Trace:
    """Return the trace of a derivation with a mistake in it; see :meth:`Derivation.trace` for the arguments.

    Raises:
        ValueError: the derivation has no such step, or :meth:`Derivation.trace` refuses the inputs.
    """
    if mistake.step not in {step.name for step in derivation.steps}:
        raise ValueError(f"{derivation.name} has no step {mistake.step!r}: the mistake is another derivation's")
    return derivation.trace(inputs, upstream, seed=seed, steps={mistake.step: mistake.replacement}, numerical=numerical)


def _same_axes(derivation: Derivation, step: Step) -> dict[str, list[str]]:
    """For each name that a step's local rules may refer to: which other values of the step have the same axes."""
    values = list(dict.fromkeys((*step.inputs, step.name)))
    axes = {name: derivation.node(name).axes for name in values}
    referred = {name for local in step.backward.values() for name in local.expression.names()}
    return {
        name: [other for other in values if name in axes and other != name and axes[other] == axes[name]]
        for name in referred
    }


def _named(slips: Iterator[Slip]) -> Iterator[Slip]:
    """Yield each different expression once; give a description that repeats a number."""
    seen: set[Expression] = set()
    times: dict[str, int] = {}
    for description, wrong in slips:
        if wrong not in seen:
            seen.add(wrong)
            times[description] = times.get(description, 0) + 1
            yield description if times[description] == 1 else f"{description} ({times[description]})", wrong


def _changes(trace: Trace, name: str, user: str, wrong: Expression) -> bool:
    """Tell whether a value's gradient is another one if one of its users sends ``wrong`` back."""
    node = trace[name]
    gradient, part = node.gradient, node.contributions[user]
    if gradient is None:
        return False
    try:
        with np.errstate(all="ignore"):
            made = trace.evaluate(wrong, node.definition.axes)
    except (ValueError, IndexError):  # its axes do not fit
        return False
    if not np.isfinite(made).all():
        return False
    scale = max(float(np.abs(gradient).max()), float(np.abs(gradient - part + made).max()), 1e-3)
    return float(np.abs(made - part).max()) > ROUNDING * scale
