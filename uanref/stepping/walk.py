"""Where a reader stands on the road, and what the reader may change: the terminal's state, without a terminal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uanref.backend import Array
from uanref.derivations import Derivation, Node, Step, Trace
from uanref.derivations.mistakes import Mistake, mistakes
from uanref.stepping.edits import Edit, moved, parsed
from uanref.stepping.loss import with_its_loss
from uanref.stepping.markup import TOLERANCE
from uanref.stepping.road import BACKWARD, FORWARD, LOSS, TURN, WEIGHTS, Stop, road

UPSTREAM = "upstream"
"""What an edit may call the upstream gradient, besides :data:`~uanref.stepping.road.WEIGHTS`."""


class Walk:
    """A reader's walk through a traced derivation, along its road (:mod:`uanref.stepping.road`).

    Args:
        derivation: what to walk through.
        inputs: by name, or None for an example from ``seed``.
        upstream: dL/d(output), or None for one from ``seed``.
        seed: of what is drawn.

    Attributes:
        trace: the run with the present numbers and the planted mistake.
        told: the same with its loss behind it (:func:`~uanref.stepping.loss.with_its_loss`).
        stops: the road.
        at: index of the stop that the reader stands on.
        beside: name of the input that the reader looks at from there, or None.
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
        self._tell(_finite(derivation.trace(inputs, upstream, seed=seed)))
        self._inputs = {node.name: np.array(self.trace[node.name].value) for node in derivation.inputs}
        self._upstream = np.array(self.trace.upstream)
        self._first = (self._inputs, self._upstream)
        self.stops = road(derivation)
        self.at = 0
        self.beside: str | None = None
        self.mistake: Mistake | None = None

    # --- where the reader stands ---

    @property
    def stop(self) -> Stop:
        """The stop that the reader stands on."""
        return self.stops[self.at]

    @property
    def node(self) -> Node:
        """The node of that stop, or the input that the reader looks at."""
        return self.told[self.beside or self.stop.node]

    @property
    def where(self) -> str:
        """The stop's number, as the page counts it, too: ``"8 of 37"``."""
        return f"{self.at + 1} of {len(self.stops)}"

    @property
    def back(self) -> bool:
        """Whether gradients are told here: at the loss and on the way back."""
        return self.stop.phase in (TURN, BACKWARD)

    def move(self, by: int) -> bool:
        """Go ``by`` stops along the road, back if negative; tell whether there was room for all of them."""
        wanted = self.at + by
        self.at = min(max(wanted, 0), len(self.stops) - 1)
        self.beside = None
        return self.at == wanted

    def turn(self) -> bool:
        """Go to the loss, where the road turns; tell whether there is one."""
        turns = [i for i, stop in enumerate(self.stops) if stop.phase == TURN]
        if turns:
            self.move(turns[0] - self.at)
        return bool(turns)

    def go(self, name: str, phase: str = "") -> None:
        """Go to the stop of a step, or look at an input from where the reader stands.

        Args:
            name: of the step, the loss or the input.
            phase: which of a step's two stops; the one in the present direction if empty.

        Raises:
            KeyError: nothing is called so.
        """
        found = [i for i, stop in enumerate(self.stops) if stop.node == name]
        if not found:
            self.beside = self.told.derivation.node(name).name
            return
        wanted = phase or (BACKWARD if self.back else FORWARD)
        self.move(next((i for i in found if self.stops[i].phase == wanted), found[0]) - self.at)

    # --- what stands beside the road ---

    def used(self) -> list[str]:
        """Return the inputs that the step of this stop uses, the loss's weights included."""
        derivation = self.told.derivation
        step, inputs = derivation.node(self.stop.node), {node.name for node in derivation.inputs}
        return [name for name in step.inputs if name in inputs] if isinstance(step, Step) else []

    def arrived(self, name: str) -> list[str]:
        """Return the users of a value that have sent their part of its gradient by now, on the way back."""
        sent = {stop.node for stop in self.stops[: self.at + 1] if stop.phase != FORWARD}
        return [user for user in self.told[name].contributions if user in sent]

    # --- what the reader changes ---

    def names(self) -> list[str]:
        """Return the names of what can be edited."""
        return list(self._editable(self._inputs, self._upstream))

    def edit(self, text: str) -> Edit:
        """Change one entry of an input, or of the upstream gradient, and run again; return what it did.

        Args:
            text: ``"x 0 1 = 2.5"``: a name (``g`` or ``upstream`` for the upstream gradient), the entry's index along
                each axis, and the new number.

        Raises:
            ValueError: the text is none such, the entry does not exist, or the number gives values that are not finite;
                nothing is changed.
        """
        inputs, upstream = {name: array.copy() for name, array in self._inputs.items()}, self._upstream.copy()
        arrays = self._editable(inputs, upstream)
        name, index, number = parsed(text, arrays)
        old, before = float(arrays[name][index]), self.told
        arrays[name][index] = number
        self._run(inputs, upstream, self.mistake)
        after = self.told
        loss = None if LOSS not in after.nodes else (float(before[LOSS].value), float(after[LOSS].value))
        entry = " ".join([name, *(str(i) for i in index)])
        return Edit(entry, old, number, loss, moved(before, after))

    def edits(self) -> int:
        """Return how many entries differ from what the walk began with."""
        inputs, upstream = self._first
        now, then = [*self._inputs.values(), self._upstream], [*inputs.values(), upstream]
        return sum(int((a != b).sum()) for a, b in zip(now, then, strict=True))

    def mistakes(self) -> list[Mistake]:
        """Return the mistakes that can be made in the way back of the node that the reader stands on."""
        if self.derivation.forward_only:
            return []
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

    def _editable(self, inputs: Mapping[str, Array], upstream: Array) -> dict[str, Array]:
        if self.derivation.forward_only:
            return dict(inputs)  # nothing comes from above
        return {**inputs, WEIGHTS: upstream, UPSTREAM: upstream}

    def _tell(self, trace: Trace) -> None:
        self.trace, self.told = trace, with_its_loss(trace)

    def _run(self, inputs: dict[str, Array], upstream: Array, mistake: Mistake | None) -> None:
        replaced = {} if mistake is None else {mistake.step: mistake.replacement}
        trace = self.derivation.trace(inputs, upstream, steps=replaced)
        self._tell(trace if replaced else _finite(trace))  # what a mistake makes is shown, whatever it is
        self._inputs, self._upstream, self.mistake = inputs, upstream, mistake


def is_wrong(node: Node) -> bool:
    """Tell whether a node's gradient is not the numerical one; nan is not. Without a numerical one nobody can tell."""
    return node.error is not None and not node.unproven and not node.error <= TOLERANCE


def _finite(trace: Trace) -> Trace:
    if trace.not_finite is not None:
        raise ValueError(f"{trace.derivation.name}: {trace.not_finite} is not finite for these inputs")
    return trace
