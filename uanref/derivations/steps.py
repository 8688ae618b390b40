"""What a derivation is written with: steps with their local backward rules, inputs, and the lines of a collapse.

All of it is data. What runs it is :mod:`uanref.derivations.run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from uanref.backend import Array
from uanref.derivations.expressions import Expression


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


def is_constant(node: Input | Step) -> bool:
    """Tell whether a value is a setting, which gets no gradient."""
    return isinstance(node, Input) and node.constant


def _below_package(file: str) -> str:
    """Return a file's path from the package's parent on: ``uanref/derivations/batch_norm.py``."""
    root = Path(__file__).parents[2]
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
