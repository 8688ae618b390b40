"""What the walk looks like on a terminal's screen: the road on the left, the stop on the right, the keys below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from uanref.stepping import show
from uanref.stepping.keys import HELP, SHORT
from uanref.stepping.road import BACKWARD, FORWARD, PHASES, TURN
from uanref.stepping.unicode import symbol
from uanref.stepping.walk import is_wrong

if TYPE_CHECKING:
    from uanref.stepping.terminal import Screen

LIST = 20  # columns of the list of nodes, frame included
FRAME = 2  # rows of a frame
MARKS = {FORWARD: "▼ ", TURN: "● ", BACKWARD: "▲ "}


def view(screen: Screen, width: int, height: int) -> RenderableType:
    """Return the walk's screen.

    Args:
        screen: whose walk, switches and message.
        width, height: of the terminal.
    """
    walk = screen.walk
    foot = _lines(screen.console, _foot(screen), width)[: max(3, height // 3)]
    rows = max(4, height - len(foot) - FRAME)
    layout = Layout()
    layout.split_column(Layout(name="body"), Layout(_segments(foot), name="foot", size=len(foot)))
    title = f"{walk.where} · " + (f"input, seen from {walk.stop.node}" if walk.beside else PHASES[walk.stop.phase])
    layout["body"].split_row(
        Layout(Panel(_road(screen, rows), title=walk.derivation.name), size=LIST),
        Layout(Panel(_stop(screen, max(20, width - LIST - 4), rows), title=title)),
    )
    return layout


def help_lines(screen: Screen, width: int, height: int) -> RenderableType:
    """Return the keys in words and what the signs mean, as many lines as fit from the one scrolled to."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for key, does in HELP:
        table.add_row(key, does)
    told = Group(table, Text(""), Text(show.LEGEND))
    inside = _scrolled(screen, told, max(20, width - 4), max(4, height - FRAME))
    return Panel(inside, title="keys: any key goes back (j, k scroll)", height=height)


def _road(screen: Screen, rows: int) -> Text:
    """Return the nodes' names, inputs first, the stop and wrong nodes marked; as many as fit around the stop."""
    walk, told = screen.walk, screen.walk.told
    nodes, used = list(told.nodes.values()), walk.used()
    here = next(i for i, node in enumerate(nodes) if node.name == (walk.beside or walk.stop.node))
    first = min(max(0, here - rows // 2), max(0, len(nodes) - rows))
    made = Text(no_wrap=True, overflow="ellipsis")
    for i, node in enumerate(nodes[first : first + rows], first):
        wrong = is_wrong(node)
        mark = MARKS[walk.stop.phase] if node.name == walk.stop.node else "· " if node.name in used else "  "
        style = "bold red" if wrong else "bold" if i == here else ""
        shown = (
            symbol(node.definition)
            if symbol(node.definition) == node.name
            else (f"{symbol(node.definition)} {node.name}")
        )
        made.append(f"{mark}{'✗ ' if wrong else ''}{shown}\n", style)
    return made


def _stop(screen: Screen, width: int, rows: int) -> RenderableType:
    """Return what is told at the stop: the heading and the proof stay, what is below them scrolls."""
    walk, node, told = screen.walk, screen.walk.node, screen.walk.told
    d = "d" if walk.back and node.gradient is not None else ""
    head: list[RenderableType] = [Text.assemble(d, show.heading(node, told))]
    if node.gradient is not None and (walk.back or screen.both):
        arrived, parts = walk.arrived(node.name), len(node.contributions)
        if walk.beside and walk.back and len(arrived) < parts:
            head.append(Text(f"dL/d{node.name}: {show.parts(node, arrived)}"))
        else:
            head.append(show.proof(node))
    pinned = _lines(screen.console, Group(*head), width)
    body = _scrolled(screen, _told(screen, width), width, max(1, rows - len(pinned)))
    return Group(_segments(pinned), body)


def _told(screen: Screen, width: int) -> RenderableType:
    """Return all that is to be said below the heading."""
    walk, node, told = screen.walk, screen.walk.node, screen.walk.told
    axes, whole = node.definition.axes, screen.whole
    value: list[RenderableType] = [
        show.definition(node, told),
        Text("value", "bold"),
        show.numbers(node.value, axes, whole),
    ]
    gradient: list[RenderableType] = []
    if node.gradient is not None:
        arrived = walk.arrived(node.name)
        gradient = [show.way_back(node, told, walk.replacement(node.name))]
        if walk.beside and walk.back and len(arrived) < len(node.contributions):
            gradient += [Text("gradient so far", "bold"), show.numbers(show.so_far(node, arrived), axes, whole)]
        else:
            gradient += [_gradient(screen, width), show.contributions(node, whole)]
    if screen.both:
        parts = [*value, Text(""), *gradient]
    elif walk.back and gradient:
        loss = [show.equation_of(node, told), Text("value", "bold"), show.numbers(node.value, axes, whole)]
        parts = [*(loss if walk.stop.phase == TURN and not walk.beside else []), *gradient]
    else:
        parts = value
    if not walk.beside:
        for name in walk.used():
            parts += [Text(""), show.beside(name, told, walk.arrived(name) if walk.back else None, whole)]
    return Group(*parts)


def _gradient(screen: Screen, width: int) -> RenderableType:
    """Return the gradient; where it is wrong or the reader asks for it, the numerical one beside or below it."""
    node, whole = screen.walk.node, screen.whole
    axes = node.definition.axes
    if node.gradient is None:
        return Group()
    own = Group(Text("gradient", "bold"), show.numbers(node.gradient, axes, whole))
    if node.numerical is None or not (screen.check or is_wrong(node)):
        return own
    other = Group(Text("numerical gradient", "bold"), show.numbers(node.numerical, axes, whole))
    widths = [screen.console.measure(each).maximum for each in (own, other)]
    if sum(widths) + 3 > width:
        return Group(own, other)
    table = Table.grid(padding=(0, 3))
    table.add_row(own, other)
    return table


def _foot(screen: Screen) -> RenderableType:
    walk, told = screen.walk, screen.message
    if not told and walk.mistake is not None:
        told = f"planted: {walk.mistake.id}. Wrong gradients: {', '.join(walk.wrong()) or 'none'}"
    return Group(Text(told, "bold"), Text(SHORT))


def _scrolled(screen: Screen, told: RenderableType, width: int, rows: int) -> Segments:
    """Return as many lines as there are rows, from the one scrolled to; the last says how many are left."""
    lines = _lines(screen.console, told, width)
    screen.scrolled = min(screen.scrolled, max(0, len(lines) - rows))
    shown = lines[screen.scrolled : screen.scrolled + rows]
    left = len(lines) - screen.scrolled - rows
    if left > 0:
        shown[-1] = [Segment(f"... {left + 1} more lines: j")]
    return _segments(shown)


def _lines(console: Console, told: RenderableType, width: int) -> list[list[Segment]]:
    return console.render_lines(told, console.options.update(width=width, height=None), pad=False)


def _segments(lines: list[list[Segment]]) -> Segments:
    return Segments([part for line in lines for part in (*line, Segment.line())])
