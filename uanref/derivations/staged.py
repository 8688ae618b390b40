r"""Steps, derivations and traces: a layer's mathematics told node by node, forward and backward.

A :class:`Step` computes one value from earlier ones and knows, for each of its inputs, the chain rule's local
factor. A :class:`Derivation` is an ordered list of steps. Its :meth:`~Derivation.trace` runs the list forward,
then backward from an upstream gradient: a value that several steps use adds up what each of them sends back,

.. math:: d_a = \sum_{b \text{ uses } a} \frac{\partial b}{\partial a}^{\!\top} d_b,

and proves every gradient numerically: the node is moved a little, the rest of the list is run again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from uanref.backend import Array, shape_text
from uanref.derivations.expressions import Expression, Named, evaluate, gradient_name

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array | float]

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Relative sizes of the numerical derivative's steps: central differences of fourth order. Large steps bend, small
ones round: each entry takes the smaller one of the two neighbouring steps that agree best (after Ridders 1982)."""

FINE = (1e-7, 1e-8, 1e-9)
"""More steps, for entries on which no two of :data:`STEPS` agree: a variance of 0 that only epsilon keeps inside the
root's domain, a component that has hardly any sample."""

AGREEMENT = 1e-7
"""Two steps agree if their slopes differ by at most this, relative to the slope (at least 1e-3)."""

PROBED = 1 << 21
"""How many numbers a value may have while it is probed: more entries are moved in turns, so that memory stays small."""


@dataclass(frozen=True)
class Local:
    """The chain rule through one step, to one of its inputs.

    Attributes:
        equation: LaTeX, such as ``r"d\\mu_c \\mathrel{+}= -\\sum_m d\\bar x_{mc}"``.
        expression: the same, of the step's inputs, its own value and its gradient ``d(name)``.
    """

    equation: str
    expression: Expression


@dataclass(frozen=True)
class Input:
    """A value that comes from outside.

    Attributes:
        name: how expressions refer to it.
        symbol: LaTeX.
        axes: names of its axes.
        meaning: one phrase.
        draw: a value of a given shape from a generator, for the examples; standard normal by default.
        constant: True for a setting (eps, momentum): it gets no gradient.
    """

    name: str
    symbol: str
    axes: tuple[str, ...]
    meaning: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], Array | float] = lambda rng, shape: rng.standard_normal(
        shape
    )
    constant: bool = False


@dataclass(frozen=True)
class Step:
    """One line of a derivation.

    Attributes:
        name: of the value that it computes.
        symbol: LaTeX.
        axes: names of the value's axes: its shape, as symbols.
        equation: LaTeX.
        forward: the same, of earlier values.
        backward: per input that gets a gradient, the way back.
        meaning: one or two sentences: what it is for.
        source: paper and equation, or "this project's choice".
        file, line: where it is written.
    """

    name: str
    symbol: str
    axes: tuple[str, ...]
    equation: str
    forward: Expression
    backward: Mapping[str, Local]
    meaning: str = ""
    source: str = ""
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if not self.file:  # the frame that called Step(...): __init__ is made by dataclass and has no file
            here, frame = Path(__file__), inspect.currentframe()
            while frame is not None and (frame.f_code.co_filename in (str(here), "<string>")):
                frame = frame.f_back
            if frame is not None:
                object.__setattr__(self, "file", _below_package(frame.f_code.co_filename))
                object.__setattr__(self, "line", frame.f_lineno)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names that ``forward`` refers to, in the order of their appearance."""
        return tuple(dict.fromkeys(node.options[0] for node in self.forward.walk() if node.op == "ref"))


@dataclass(frozen=True)
class Line:
    """One line of a collapse: the gradient of the same value, written more compactly than the line before.

    Attributes:
        equation: LaTeX.
        expression: the same, of values and gradients of the trace.
        why: what was done to the line before.
    """

    equation: str
    expression: Expression
    why: str


@dataclass(frozen=True)
class Collapse:
    """The algebra from a staged gradient to the compact formula that a layer uses.

    Attributes:
        name: of the value whose gradient is rewritten, an input.
        lines: the first is the staged gradient, the last the compact formula; all equal.
    """

    name: str
    lines: tuple[Line, ...]


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
            upstream: dL/d(output), of the output's shape; standard normal from ``seed`` if None. (With ones, many
                mistakes cannot be seen: batch normalization's dx is then 0.)
            seed: of the upstream gradient, and of the example.
            steps: replacements by name, for planted mistakes (:mod:`uanref.derivations.mistakes`).
            numerical: whether to compute the numerical gradients.

        Raises:
            ValueError: a missing or unknown input, or shapes that do not fit.
        """
        given = self.example(seed) if inputs is None else inputs
        values, sizes = self._checked(given)
        with np.errstate(all="ignore"):  # numbers outside an equation's domain show as nan and inf
            values = self.forward(values, sizes)
        shape = tuple(sizes[axis] for axis in self.output.axes)
        if upstream is None:
            upstream = np.random.default_rng([seed, 1]).standard_normal(shape)
        upstream = np.asarray(upstream)
        if upstream.dtype.kind not in "fiu" or upstream.shape != shape:
            raise ValueError(
                f"the upstream gradient of {self.output.name} must be an array of numbers with axes "
                f"({', '.join(self.output.axes)}) and shape {shape_text(shape)}, got {upstream.dtype} of shape "
                f"{shape_text(upstream.shape)}"
            )
        upstream = upstream.astype(np.float64)
        if not np.isfinite(upstream).all():
            raise ValueError(f"the upstream gradient of {self.output.name} has entries that are not finite")
        dy = Named(self.output.axes, upstream)
        with np.errstate(all="ignore"):
            gradients, contributions = self._way_back(values, sizes, dy, steps or {})
            proofs = self._numerical(values, sizes, dy) if numerical and not self.forward_only else {}
        nodes = {}
        for node in self.nodes:
            nodes[node.name] = Node(
                definition=node,
                value=values[node.name].along(node.axes),
                gradient=None if self.forward_only or _is_constant(node) else gradients[node.name].along(node.axes),
                contributions={user: part.along(node.axes) for user, part in contributions[node.name].items()},
                numerical=proofs.get(node.name),
            )
        return Trace(self, sizes, nodes, upstream)

    def _way_back(
        self, values: Mapping[str, Named], sizes: Mapping[str, int], dy: Named, replaced: Mapping[str, Step]
    ) -> tuple[dict[str, Named], dict[str, dict[str, Named]]]:
        """Return each value's gradient, and what each of its users contributed."""
        contributions: dict[str, dict[str, Named]] = {node.name: {} for node in self.nodes}
        gradients: dict[str, Named] = {}
        for node in reversed(self.nodes):
            shape = tuple(sizes[axis] for axis in node.axes)
            total = np.zeros(shape)
            for part in contributions[node.name].values():
                total = total + part.array
            gradients[node.name] = dy if node is self.output else Named(node.axes, total)
            if isinstance(node, Step):
                # 1. What this step's local rules may refer to: all values, and its own gradient.
                known = {**values, gradient_name(node.name): gradients[node.name]}
                # 2. One rule per input that is no constant; a factor without an axis is the same all along it.
                for name, local in replaced.get(node.name, node).backward.items():
                    target = self.node(name)
                    if _is_constant(target):
                        continue
                    made = evaluate(local.expression, known, sizes).along(target.axes)
                    wide = np.broadcast_to(made, tuple(sizes[axis] for axis in target.axes))
                    contributions[name][node.name] = Named(target.axes, wide)
        return gradients, contributions

    def _numerical(self, values: Mapping[str, Named], sizes: Mapping[str, int], dy: Named) -> dict[str, Array]:
        """Return dL/d(node) for every node by central differences of fourth order, L = sum(dy * output)."""
        largest = max(values[node.name].array.size for node in self.nodes)
        found = {}
        for node in self.nodes:
            if _is_constant(node):
                continue
            value = values[node.name].along(node.axes)
            steps = [step * max(1.0, float(np.abs(value).max(initial=0.0))) for step in STEPS]
            slopes = self._all_slopes(node, steps, values, sizes, dy, largest)
            slope, gap = _agreeing(slopes)
            unsure = ~(gap <= AGREEMENT * np.maximum(np.abs(slope), 1e-3))
            if unsure.any():
                finer = [step * steps[0] / STEPS[0] for step in FINE]
                more = self._all_slopes(node, finer, values, sizes, dy, largest)
                slope = np.where(unsure, _agreeing(np.concatenate([slopes, more]))[0], slope)
            found[node.name] = slope
        return found

    def _all_slopes(
        self,
        node: Input | Step,
        steps: list[float],
        values: Mapping[str, Named],
        sizes: Mapping[str, int],
        dy: Named,
        largest: int,
    ) -> Array:
        """Return dL/d(entry) of all entries of a node for each step size, ``(len(steps), *shape)``; a few at a time."""
        value = values[node.name].along(node.axes)
        at_once = max(1, PROBED // (4 * len(steps) * largest))
        pieces = [
            self._slopes(node, slice(first, min(first + at_once, value.size)), steps, values, sizes, dy)
            for first in range(0, value.size, at_once)
        ]
        return np.concatenate(pieces, axis=1).reshape(len(steps), *value.shape)

    def _slopes(
        self,
        node: Input | Step,
        entries: slice,
        steps: list[float],
        values: Mapping[str, Named],
        sizes: Mapping[str, int],
        dy: Named,
    ) -> Array:
        """Return dL/d(entry) of some entries of a node, flat, for each step size: ``(len(steps), entries)``."""
        value = values[node.name].along(node.axes)
        moves = np.eye(entries.stop - entries.start, value.size, k=entries.start).reshape(-1, *value.shape)
        # One extra axis holds every entry's two moves either way; it spreads through the list by itself.
        probes = np.concatenate([value + shift * h * moves for h in steps for shift in (-2, -1, 1, 2)])
        # A step too large may leave a root's domain: the slope is then nan, and another step is taken.
        moved = self.forward({**values, node.name: Named(("probe", *node.axes), probes)}, sizes, node.name)
        y = moved[self.output.name].along(("probe", *self.output.axes))
        base = values[self.output.name].along(self.output.axes)
        # Where nothing that is moved reaches the output, y has no probes: every loss is the same, 0.
        losses = np.broadcast_to(((y - base) * dy.array).reshape(len(y), -1).sum(axis=1), len(probes))
        minus2, minus1, plus1, plus2 = losses.reshape(len(steps), 4, -1).swapaxes(0, 1)
        slopes: Array = (8.0 * (plus1 - minus1) - (plus2 - minus2)) / (12.0 * np.array(steps)[:, None])
        return slopes

    def _checked(self, given: Mapping[str, Array]) -> tuple[dict[str, Named], dict[str, int]]:
        """Return the inputs with their axes, and the axes' sizes; raise if anything does not fit."""
        names = [node.name for node in self.inputs]
        missing, unknown = [n for n in names if n not in given], sorted(set(given) - set(names))
        if missing or unknown:
            raise ValueError(
                f"{self.name} takes the inputs {', '.join(names)}: missing {', '.join(missing) or 'none'}, "
                f"unknown {', '.join(unknown) or 'none'}"
            )
        sizes: dict[str, int] = {}
        values = {}
        for node in self.inputs:
            array = np.asarray(given[node.name])
            if array.dtype.kind not in "fiu" or array.ndim != len(node.axes) or array.size == 0:
                raise ValueError(
                    f"{self.name}: input {node.name} must be a non-empty array of numbers with axes "
                    f"({', '.join(node.axes)}), got {array.dtype} of shape {shape_text(array.shape)}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{self.name}: input {node.name} has entries that are not finite")
            for axis, size in zip(node.axes, array.shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise ValueError(
                        f"{self.name}: input {node.name} of shape {shape_text(array.shape)} has {size} along axis "
                        f"{axis!r}, but earlier inputs have {sizes[axis]}: make them equal"
                    )
            values[node.name] = Named(node.axes, array.astype(np.float64))
        return values, self.with_derived_sizes(sizes)

    def with_derived_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the inputs' axes' sizes and those that no input has: positions of a kernel (u, v) on an image (h, w).

        Raises:
            ValueError: the kernel does not fit into the image.
        """
        sizes = dict(sizes)
        for positions, image, kernel in (("p", "h", "u"), ("q", "w", "v")):
            if image in sizes and kernel in sizes:
                sizes[positions] = sizes[image] - sizes[kernel] + 1
                if sizes[positions] < 1:
                    raise ValueError(
                        f"{self.name}: a kernel of {sizes[kernel]} along {kernel!r} does not fit into an image of "
                        f"{sizes[image]} along {image!r}"
                    )
        return sizes


@dataclass(frozen=True)
class Node:
    """One value of a trace.

    Attributes:
        definition: the input or step.
        value: its value, axes in the definition's order.
        gradient: dL/d(value); None for a constant, and where nothing goes back.
        contributions: what each user sent back, by the user's name; they add up to the gradient.
        numerical: the numerical gradient; None where there is no gradient or it was not asked for.
    """

    definition: Input | Step
    value: Array
    gradient: Array | None
    contributions: Mapping[str, Array]
    numerical: Array | None

    @property
    def name(self) -> str:
        """The value's name."""
        return self.definition.name

    @property
    def error(self) -> float | None:
        """``max |gradient - numerical|`` in units of their largest entry (at least 1e-3); None if not computed."""
        if self.gradient is None or self.numerical is None:
            return None
        scale = max(float(np.abs(self.gradient).max()), float(np.abs(self.numerical).max()), 1e-3)
        return float(np.abs(self.gradient - self.numerical).max()) / scale


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


def _agreeing(slopes: Array) -> tuple[Array, Array]:
    """Return, of the two neighbouring steps that agree best, the smaller one's slope, and how far they are apart."""
    gaps = np.abs(np.diff(slopes, axis=0))
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    best = gaps.argmin(axis=0)[None]
    return np.take_along_axis(slopes, best + 1, axis=0)[0], np.take_along_axis(gaps, best, axis=0)[0]


def _is_constant(node: Input | Step) -> bool:
    return isinstance(node, Input) and node.constant


def _below_package(file: str) -> str:
    """Return a file's path from the package's parent on: ``uanref/derivations/batch_norm.py``."""
    root = Path(__file__).parents[2]
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
