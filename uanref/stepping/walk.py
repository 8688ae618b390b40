"""Where a reader stands in a derivation, and what the reader may change: the terminal's state, without a terminal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uanref.backend import Array
from uanref.derivations import Derivation, Node, Step, Trace
from uanref.derivations.mistakes import Mistake, mistakes

TOLERANCE = 1e-6
"""Relative error above which a gradient counts as wrong."""


class Walk:
    """A reader's walk through a traced derivation.

    Args:
        derivation: what to walk through.
        inputs: by name, or None for an example from ``seed``.
        upstream: dL/d(output), or None for one from ``seed``.
        seed: of what is drawn.

    Attributes:
        trace: the run with the present numbers and the planted mistake.
        position: index of the node that the reader stands on.
        backwards: whether the walk goes backward.
        mistake: the planted one, or None.

    Raises:
        ValueError: inputs that do not fit the derivation, or that give values that are not finite.
    """

    def __init__(
        self,
        derivation: Derivation,
        inputs: Mapping[str, Array] | None = None,
        upstream: Array | None = None,
        seed: int = 0,
    ) -> None:
        self.derivation = derivation
        self.trace: Trace = _finite(derivation.trace(inputs, upstream, seed=seed))
        self._inputs = {node.name: np.array(self.trace[node.name].value) for node in derivation.inputs}
        self._upstream = np.array(self.trace.upstream)
        self.position = len(derivation.inputs)  # the first step
        self.backwards = False
        self.mistake: Mistake | None = None

    @property
    def node(self) -> Node:
        """The node that the reader stands on."""
        return self.trace[self.derivation.nodes[self.position].name]

    def next(self) -> None:
        """Go one node on in the direction of the walk; at its end, stay."""
        self._move(-1 if self.backwards else 1)

    def previous(self) -> None:
        """Go one node back."""
        self._move(1 if self.backwards else -1)

    def forward(self) -> None:
        """Walk forward from here."""
        self.backwards = False

    def backward(self) -> None:
        """Walk backward from here; nothing happens in a derivation that has no way back."""
        self.backwards = not self.derivation.forward_only

    def go(self, name: str) -> None:
        """Go to the node called ``name``.

        Raises:
            KeyError: there is none.
        """
        self.position = self.derivation.nodes.index(self.derivation.node(name))

    def edit(self, text: str) -> None:
        """Change one entry of an input, or of the upstream gradient, and run again.

        Args:
            text: ``"x 0 1 = 2.5"``: a name (``upstream`` for the upstream gradient), the entry's index along each
                axis, and the new number.

        Raises:
            ValueError: the text is none such, the entry does not exist, or the number gives values that are not finite;
                nothing is changed.
        """
        inputs, upstream = {name: array.copy() for name, array in self._inputs.items()}, self._upstream.copy()
        array, index, number = _parsed(text, inputs | {"upstream": upstream})
        array[index] = number
        self._run(inputs, upstream, self.mistake)

    def mistakes(self) -> list[Mistake]:
        """Return the mistakes that can be made in the way back of the node that the reader stands on."""
        return [mistake for mistake in mistakes(self.derivation) if mistake.step == self.node.name]

    def plant(self, mistake: Mistake | None) -> None:
        """Make a mistake, or none."""
        self._run(self._inputs, self._upstream, mistake)

    def replacement(self, name: str) -> Step | None:
        """Return the step called ``name`` with the planted mistake in it; None if it has none."""
        return self.mistake.replacement if self.mistake is not None and self.mistake.step == name else None

    def wrong(self) -> list[str]:
        """Return the names of the nodes whose gradient is not the numerical one, in the derivation's order."""
        return [name for name, node in self.trace.nodes.items() if is_wrong(node)]

    def _move(self, by: int) -> None:
        self.position = min(max(self.position + by, 0), len(self.derivation.nodes) - 1)

    def _run(self, inputs: dict[str, Array], upstream: Array, mistake: Mistake | None) -> None:
        replaced = {} if mistake is None else {mistake.step: mistake.replacement}
        trace = self.derivation.trace(inputs, upstream, steps=replaced)
        self.trace = trace if replaced else _finite(trace)  # what a mistake makes is shown, whatever it is
        self._inputs, self._upstream, self.mistake = inputs, upstream, mistake


def is_wrong(node: Node) -> bool:
    """Tell whether a node's gradient is not the numerical one; nan is not."""
    return node.error is not None and not node.error <= TOLERANCE


def _finite(trace: Trace) -> Trace:
    if trace.not_finite is not None:
        raise ValueError(f"{trace.derivation.name}: {trace.not_finite} is not finite for these inputs")
    return trace


def _parsed(text: str, arrays: Mapping[str, Array]) -> tuple[Array, tuple[int, ...], float]:
    """Return the array, the index and the number that ``"x 0 1 = 2.5"`` names."""
    place, equals, number = text.partition("=")
    name, *index = place.split() or [""]
    if not equals or name not in arrays:
        raise ValueError(f"expected a name, an index and a number, such as 'x 0 1 = 2.5'; names: {', '.join(arrays)}")
    array = arrays[name]
    try:
        entry, value = tuple(int(part) for part in index), float(number)
    except ValueError:
        raise ValueError(f"{text.strip()!r} has an index or a value that is no number, try '{name} 0 = 2.5'") from None
    if len(entry) != array.ndim or not all(0 <= i < size for i, size in zip(entry, array.shape, strict=True)):
        ranges = " ".join(f"0-{size - 1}" for size in array.shape) or "no index"
        raise ValueError(f"{name} has the indices {ranges}, got {' '.join(index) or 'none'}")
    if not np.isfinite(value):
        raise ValueError(f"the new value must be a finite number, got {number.strip()}")
    return array, entry, value
