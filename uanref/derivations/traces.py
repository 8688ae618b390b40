"""What a run of a derivation leaves behind: every value, its gradient, who sent it, and how far the proof is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uanref.backend import Array
from uanref.derivations.expressions import Expression, gradient_name
from uanref.derivations.primitives import Named, evaluate
from uanref.derivations.steps import Input, Step

if TYPE_CHECKING:
    from uanref.derivations.derivation import Derivation


@dataclass(frozen=True)
class Node:
    """One value of a trace.

    Attributes:
        definition: the input or step.
        value: its value, axes in the definition's order.
        gradient: dL/d(value); None for a constant, and where nothing goes back.
        contributions: what each user sent back, by the user's name; they add up to the gradient.
        numerical: the numerical gradient; None where there is no gradient or it was not asked for.
        doubt: how far each of its entries may be off by rounding: 0 where two step sizes agree; None without it.
    """

    definition: Input | Step
    value: Array
    gradient: Array | None
    contributions: Mapping[str, Array]
    numerical: Array | None
    doubt: Array | None = None

    @property
    def name(self) -> str:
        """The value's name."""
        return self.definition.name

    @property
    def unproven(self) -> bool:
        """Whether a finite gradient stands against a numerical one that is not: nobody can tell whether it is right.

        Moved a little, an entry of the value makes a later step overflow.
        """
        if self.gradient is None or self.numerical is None:
            return False
        return bool(np.isfinite(self.gradient).all() and not np.isfinite(self.numerical).all())

    @property
    def error(self) -> float | None:
        """``max |gradient - numerical|`` in units of their largest entry (at least 1e-3); None if not computed.

        An entry within its :attr:`doubt` counts as equal, and not for the largest entry: rounding hides whether it is
        right, and its size must not hide the others.
        """
        if self.gradient is None or self.numerical is None:
            return None
        apart = np.abs(self.gradient - self.numerical)
        told = np.ones(apart.shape, bool) if self.doubt is None else (self.doubt == 0) | ~(apart <= self.doubt)
        largest = np.maximum(np.abs(self.gradient), np.abs(self.numerical))
        scale = max(float(largest.max(initial=0.0, where=told)), 1e-3)
        return float(apart.max(initial=0.0, where=told)) / scale


@dataclass(frozen=True)
class Trace:
    """A derivation run on numbers.

    Attributes:
        derivation: what was run.
        sizes: each axis's length.
        nodes: by name, inputs first.
        upstream: dL/d(output).
    """

    derivation: Derivation
    sizes: Mapping[str, int]
    nodes: Mapping[str, Node]
    upstream: Array

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def output(self) -> Array:
        """The last step's value."""
        return self.nodes[self.derivation.output.name].value

    @property
    def not_finite(self) -> str | None:
        """The first node whose value, else the last whose gradient, has an entry that is no finite number, or None."""
        for node in self.nodes.values():
            if not np.isfinite(node.value).all():
                return node.name
        for node in reversed(list(self.nodes.values())):
            if node.gradient is not None and not np.isfinite(node.gradient).all():
                return node.name
        return None

    @property
    def worst(self) -> float:
        """The largest relative error of all nodes (0 if none was computed; nan if one is nan)."""
        errors = [node.error for node in self.nodes.values() if node.error is not None]
        return float(np.max(errors, initial=0.0))

    def evaluate(self, expression: Expression, axes: tuple[str, ...]) -> Array:
        """Return the value of an expression of this trace's values and gradients, laid out along ``axes``."""
        known: dict[str, Named] = {}
        for node in self.nodes.values():
            known[node.name] = Named(node.definition.axes, node.value)
            if node.gradient is not None:
                known[gradient_name(node.name)] = Named(node.definition.axes, node.gradient)
        made = evaluate(expression, known, self.sizes).along(axes)
        return np.broadcast_to(made, tuple(self.sizes[axis] for axis in axes))
