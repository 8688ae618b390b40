"""What a node looks like in a terminal: its equations, numbers and proof, as Rich renderables."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from uanref.backend import Array
from uanref.derivations import Collapse, Input, Node, Step, Trace
from uanref.stepping.markup import TOLERANCE
from uanref.stepping.road import LOSS
from uanref.stepping.unicode import equation, local_equation, symbol, text

WHOLE = 40
"""An array with more entries is summarized unless the reader asks for all of it."""

LEGEND = (
    "dv is dL/dv, the gradient of v: how much the loss L grows for each unit that v grows.\n"
    "+=  each step that uses v sends a part of dv back; the parts add up."
)
"""What the two signs of every way back mean."""

START = "dL/dL = 1: the way back starts from here"
"""Said at the loss, whose gradient needs no proof."""

# Styles are read on black and on white: bold, italic and red, for green is pale on white. Each has a word or a sign
# beside it.


def heading(node: Node, trace: Trace) -> Text:
    """Return symbol, name and shape: ``x̂_mc  x_hat  (m, c) = (5, 2)``."""
    axes = node.definition.axes
    made = Text.assemble((symbol(node.definition), "bold"), "  ", node.name)
    sizes = ", ".join(str(trace.sizes[axis]) for axis in axes)
    made.append(f"  ({', '.join(axes)}) = ({sizes})" if axes else "  a number")
    return made


def definition(node: Node, trace: Trace) -> RenderableType:
    """Return what the node is: its equation and meaning, and where both come from."""
    made = node.definition
    if not isinstance(made, Step):
        return Text(f"input: {made.meaning}" + (", a constant" if made.constant else ""))
    return Group(
        Text(equation(made, trace.derivation), "bold"),
        Text(made.meaning),
        Text(f"source: {made.source}   written in: {made.file}:{made.line}", "italic"),
    )


def equation_of(node: Node, trace: Trace) -> Text:
    """Return a step's equation alone; nothing for an input."""
    made = node.definition
    return Text(equation(made, trace.derivation), "bold") if isinstance(made, Step) else Text("")


def way_back(node: Node, trace: Trace, replaced: Step | None = None) -> RenderableType:
    """Return what came back to the node, and what its step sends on to each of its inputs.

    Args:
        node: any node but a constant.
        trace: its trace.
        replaced: the step with a mistake in it, if one is planted here.
    """
    lines: list[Text] = []
    derivation = trace.derivation
    if node.contributions:
        lines.append(Text("comes from"))
        for user in node.contributions:
            step = derivation.node(user)
            if isinstance(step, Step):
                lines.append(Text("  " + local_equation(step, node.name, derivation)))
    elif node.definition is derivation.output:
        lines.append(Text("given: where the way back starts from"))
    made: Input | Step = replaced or node.definition
    receivers = [name for name in made.backward if trace[name].gradient is not None] if isinstance(made, Step) else []
    if isinstance(made, Step) and receivers:
        lines.append(Text("sends back"))
        for name in receivers:
            right = isinstance(node.definition, Step) and made.backward[name] == node.definition.backward[name]
            line = "  " + local_equation(made, name, derivation)
            lines.append(Text(line if right else line + "   <- the mistake", "" if right else "bold red"))
    return Group(*lines)


def contributions(node: Node, whole: bool) -> RenderableType:
    """Return what each user sent back, where there are several, and their sum."""
    if len(node.contributions) < 2 or node.gradient is None:
        return Group()
    parts: list[RenderableType] = []
    for user, part in node.contributions.items():
        parts += [Text(f"through {user}"), numbers(part, node.definition.axes, whole)]
    return Group(*parts, Text("together"))


def beside(name: str, trace: Trace, arrived: list[str] | None, whole: bool) -> RenderableType:
    """Return an input that the current step uses.

    Args:
        name: of the input.
        trace: its trace, with the loss.
        arrived: on the way back, the users whose part of the gradient has arrived; None on the way out.
        whole: whether to show a large array whole.

    Returns:
        Its value on the way out; on the way back how many parts of its gradient have arrived, and their sum so far,
        with the proof once it is whole.
    """
    node = trace[name]
    axes = node.definition.axes
    if arrived is None or node.gradient is None:
        kind = "a constant" if isinstance(node.definition, Input) and node.definition.constant else "an input"
        return Group(
            Text(f"{symbol(node.definition)}  {name}, {kind}: {node.definition.meaning}"),
            numbers(node.value, axes, whole),
        )
    whole_sum = [proof(node)] if len(arrived) == len(node.contributions) else []
    return Group(
        Text.assemble((f"d{symbol(node.definition)}  d{name}: {parts(node, arrived)}", "italic")),
        *whole_sum,
        numbers(so_far(node, arrived), axes, whole),
    )


def parts(node: Node, arrived: list[str]) -> str:
    """Return how many parts of a gradient have arrived: ``"2 of 3 parts have arrived"``."""
    n = len(node.contributions)
    return f"{len(arrived)} of {n} part{'s have' if n != 1 else ' has'} arrived"


def so_far(node: Node, arrived: list[str]) -> Array:
    """Return the sum of the parts of a gradient that have arrived."""
    total: Array = np.zeros(node.value.shape)
    for user in arrived:
        total = total + node.contributions[user]
    return total


def proof(node: Node) -> Text:
    """Return, in one line, how far the gradient is from the numerical one, with ✓, or red and with ✗."""
    if node.definition.name == LOSS and node.numerical is None:
        return Text(START)
    if node.error is None:
        return Text("no gradient")
    if node.unproven:
        return Text("? no numerical gradient: moved a little, an entry makes a later step overflow", "bold")
    good = node.error <= TOLERANCE
    told = "the numerical gradient agrees" if good else "the numerical gradient differs"
    return Text(f"{'✓' if good else '✗'} {told}: relative error {node.error:.1e}", "bold" if good else "bold red")


def numbers(array: Array, axes: tuple[str, ...], whole: bool = False) -> RenderableType:
    """Return an array as tables with its axes' names; a large one as a summary unless ``whole``."""
    if array.ndim == 0:
        return Text(f"{float(array): .6g}")
    if array.size > WHOLE and not whole:
        first = " ".join(f"{number:.4g}" for number in array.ravel()[:6])
        return Text(
            f"{array.size} numbers: smallest {array.min():.4g}, mean {array.mean():.4g}, largest {array.max():.4g}; "
            f"first {first} ..."
        )
    if array.ndim == 1:
        return _table(array[None], "", axes[0])
    if array.ndim == 2:
        return _table(array, axes[0], axes[1])
    made: list[RenderableType] = []
    for index in np.ndindex(*array.shape[:-2]):
        made.append(Text(", ".join(f"{axis} = {i}" for axis, i in zip(axes, index, strict=False))))
        made.append(_table(array[index], axes[-2], axes[-1]))
    return Group(*made)


def _digits(matrix: Array) -> str:
    """Return how the numbers of a table are written: alike, and so that the largest is told to some digits."""
    largest = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0))
    return " .5f" if largest == 0 or 1e-3 <= largest < 1e6 else " .4e"


def _table(matrix: Array, down: str, across: str) -> Table:
    digits = _digits(matrix)
    made = Table(box=None, padding=(0, 1, 0, 0), header_style="italic")
    made.add_column(down, justify="right")
    for j in range(matrix.shape[1]):
        made.add_column(f"{across} {j}", justify="right", no_wrap=True)
    for i, row in enumerate(matrix):
        made.add_row(str(i) if down else "", *(f"{number:{digits}}" for number in row))
    return made


def proofs(trace: Trace) -> Table:
    """Return every node's relative error."""
    made = Table(title="every gradient against its numerical value", show_edge=False, title_justify="left")
    made.add_column("node", no_wrap=True)
    made.add_column("largest entry", justify="right")
    made.add_column("relative error", justify="right")
    made.add_column("")
    for node in trace.nodes.values():
        if node.error is not None and node.gradient is not None:
            good = node.error <= TOLERANCE
            made.add_row(
                f"d{symbol(node.definition)}",
                f"{np.abs(node.gradient).max():.3g}",
                "no number" if node.unproven else f"{node.error:.1e}",
                Text(
                    "ok" if good else "?" if node.unproven else "WRONG", "bold" if good or node.unproven else "bold red"
                ),
            )
    return made


def collapse(told: Collapse, trace: Trace) -> RenderableType:
    """Return a collapse line by line, each with its largest difference from the line before."""
    node = trace.derivation.node(told.name)
    before = trace[told.name].gradient
    parts: list[RenderableType] = [Text(f"the collapse of d{symbol(node)}", "bold")]
    for i, line in enumerate(told.lines):
        now = trace.evaluate(line.expression, node.axes)
        apart = 0.0 if before is None else float(np.abs(now - before).max())
        against = "the staged gradient" if i == 0 else "the line before"
        parts += [
            Padding(Text(f"{i + 1}. d{symbol(node)} = {text(line.expression, trace.derivation)}"), (0, 0, 0, 2)),
            Padding(Text(f"{line.why} Largest difference from {against}: {apart:.1e}"), (0, 0, 0, 5)),
        ]
        before = now
    return Group(*parts)
