r"""A derivation: a layer's mathematics told node by node, forward and backward.

A :class:`~uanref.derivations.steps.Step` computes one value from earlier ones and knows, for each of its inputs, the
chain rule's local factor. A :class:`Derivation` is an ordered list of steps. Its :meth:`~Derivation.trace` runs the
list forward, then backward from an upstream gradient (:mod:`uanref.derivations.run`), and proves every gradient
numerically (:mod:`uanref.derivations.proofs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array
from uanref.derivations.primitives import Named, evaluate
from uanref.derivations.run import run
from uanref.derivations.steps import Collapse, Input, Step
from uanref.derivations.traces import Trace


@dataclass(frozen=True)
class Derivation:
    """An ordered list of steps from named inputs to one output.

    Attributes:
        name: as the command line knows it.
        title: for a reader.
        summary: two or three sentences.
        axes: what each axis is, by name: ``{"m": "sample"}``.
        sizes: length of each axis in the examples.
        inputs: what comes from outside.
        steps: in order; the last one's value is the output.
        layer: which layer computes the same, ``"uanref.norms.batch.BatchNorm"``; empty if none.
        collapse: from staged gradients to compact formulas; may be empty.
    """

    name: str
    title: str
    summary: str
    axes: Mapping[str, str]
    sizes: Mapping[str, int]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    layer: str = ""
    collapse: tuple[Collapse, ...] = ()

    def __post_init__(self) -> None:
        known = {node.name for node in self.inputs}
        for step in self.steps:
            if step.name in known:
                raise ValueError(f"{self.name}: the name {step.name!r} is used twice")
            missing = set(step.inputs) - known
            if missing:
                raise ValueError(f"{self.name}: step {step.name!r} uses {sorted(missing)} before they are computed")
            if not set(step.backward) <= set(step.inputs):
                raise ValueError(f"{self.name}: step {step.name!r} sends gradients to what it does not use")
            if not set(step.axes) <= set(self.axes):
                raise ValueError(f"{self.name}: step {step.name!r} has an axis that the derivation does not name")
            known.add(step.name)

    @property
    def output(self) -> Step:
        """The last step."""
        return self.steps[-1]

    def node(self, name: str) -> Input | Step:
        """Return the input or step called ``name``.

        Raises:
            KeyError: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"{self.name} has no value {name!r}: it has {', '.join(n.name for n in self.nodes)}")

    @property
    def nodes(self) -> tuple[Input | Step, ...]:
        """Inputs and steps, in order."""
        return (*self.inputs, *self.steps)

    @property
    def forward_only(self) -> bool:
        """Whether no step has a way back: an optimizer's step, say. Its trace has values alone."""
        return not any(step.backward for step in self.steps)

    def users(self, name: str) -> list[Step]:
        """Return the steps that send a gradient back to ``name``, in order."""
        return [step for step in self.steps if name in step.backward]

    def example(self, seed: int = 0, **sizes: int) -> dict[str, Array]:
        """Draw inputs, each standard normal unless it says otherwise.

        Args:
            seed: of the generator.
            **sizes: lengths of axes that differ from :attr:`sizes`.

        Raises:
            ValueError: an unknown axis, or a length below 1.
        """
        unknown = sorted(set(sizes) - set(self.sizes))
        if unknown:
            raise ValueError(f"{self.name} has no axis {unknown[0]!r}: its axes are {', '.join(self.sizes)}")
        if any(size < 1 for size in sizes.values()):
            raise ValueError(f"an axis must have a length of at least 1, got {sizes}")
        lengths = {**self.sizes, **sizes}
        rng = np.random.default_rng(seed)
        return {
            node.name: np.asarray(node.draw(rng, tuple(lengths[axis] for axis in node.axes)), dtype=np.float64)
            for node in self.inputs
        }

    def forward(self, values: Mapping[str, Named], sizes: Mapping[str, int], after: str = "") -> dict[str, Named]:
        """Return all values, computing those of the steps that come after the one called ``after``."""
        found = dict(values)
        steps = self.steps
        if after and after in {step.name for step in steps}:
            steps = steps[[step.name for step in steps].index(after) + 1 :]
        for step in steps:
            made = evaluate(step.forward, found, sizes)
            extra = tuple(axis for axis in made.axes if axis not in step.axes)  # a numerical derivative's probes
            found[step.name] = Named((*extra, *step.axes), made.along((*extra, *step.axes)))
        return found

    def trace(
        self,
        inputs: Mapping[str, Array] | None = None,
        upstream: Array | None = None,
        *,
        seed: int = 0,
        steps: Mapping[str, Step] | None = None,
        numerical: bool = True,
    ) -> Trace:
        """Run forward and backward and prove every gradient.

        Args:
            inputs: by name, each of its axes' sizes; :meth:`example` if None.
            upstream: dL/d(output), of the output's shape. If None, 1 for an output that is a single number, a loss,
                else standard normal from ``seed``. (With ones, many mistakes cannot be seen: batch normalization's
                dx is then 0.)
            seed: of the upstream gradient, and of the example.
            steps: replacements by name, for planted mistakes (:mod:`uanref.derivations.mistakes`).
            numerical: whether to compute the numerical gradients.

        Raises:
            ValueError: a missing or unknown input, or shapes that do not fit.
        """
        return run(self, inputs, upstream, seed=seed, steps=steps or {}, numerical=numerical)

    def with_derived_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the inputs' axes' sizes and those that no input has: positions of a kernel (u, v) on an image (h, k).

        Raises:
            ValueError: the kernel does not fit into the image.
        """
        sizes = dict(sizes)
        for positions, image, kernel in (("p", "h", "u"), ("q", "k", "v")):
            if image in sizes and kernel in sizes:
                sizes[positions] = sizes[image] - sizes[kernel] + 1
                if sizes[positions] < 1:
                    raise ValueError(
                        f"{self.name}: a kernel of {sizes[kernel]} along {kernel!r} does not fit into an image of "
                        f"{sizes[image]} along {image!r}"
                    )
        return sizes
