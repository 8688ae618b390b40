"""``uanref step``: a walk through a derivation in a terminal, key by key."""

from __future__ import annotations

import re
from collections.abc import Callable

import typer
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.text import Text

from uanref.stepping import show
from uanref.stepping.unicode import symbol
from uanref.stepping.walk import Walk, is_wrong

KEYS = """n/→ next  p/← previous  f forward  b backward  j/k scroll
g gradient  v values  c check  e edit  m mistake  q quit"""
ONE_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
FOOT = 3  # a message and two lines of keys
LIST = 20  # columns of the list of nodes, frame included


class Screen:
    """The walk on a full screen.

    Args:
        walk: what to walk through.
        console: a terminal.
        read_key: returns the next key as the terminal sends it, such as ``"n"`` or ``"\\x1b[C"``.
        ask: shows a question and returns the line that was typed.

    Attributes:
        gradient, whole, check: what is shown besides the value: the reader's switches.
        scrolled: how many lines of the current node are above the screen.
        message: one line above the keys.
    """

    def __init__(
        self,
        walk: Walk,
        console: Console,
        read_key: Callable[[], str] = typer.getchar,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.walk, self.console = walk, console
        self._read_key, self._ask = read_key, ask or console.input
        self.gradient = self.whole = self.check = False
        self.scrolled = 0
        self.message = ""

    def run(self) -> None:
        """Show the walk until the reader quits (q, Escape or the end of the input)."""
        with self.console.screen(hide_cursor=False) as screen:
            while True:
                screen.update(self.view())
                try:
                    typed = self._read_key()
                except EOFError:
                    return
                for key in ONE_KEY.findall(typed):  # a fast typist's keys come together
                    if key in ("q", "\x1b", "\x04"):
                        return
                    self.press(key)

    def press(self, key: str) -> None:
        """Do what a key says; an unknown one is answered with the list of keys."""
        walk = self.walk
        self.message = ""
        if key in ("j", "\x1b[6~"):
            self.scrolled += 5
            return
        if key in ("k", "\x1b[5~"):
            self.scrolled = max(0, self.scrolled - 5)
            return
        self.scrolled = 0
        if key in ("n", "\x1b[C", "\x1b[B", "\x1bOC", "\x1bOB", " "):
            walk.next()
        elif key in ("p", "\x1b[D", "\x1b[A", "\x1bOD", "\x1bOA"):
            walk.previous()
        elif key == "f":
            walk.forward()
            self.gradient = False
        elif key == "b":
            walk.backward()
            self.gradient = walk.backwards
            self.message = "" if walk.backwards else "this derivation has no way back"
        elif key == "g":
            self.gradient = not self.gradient
        elif key == "v":
            self.whole = not self.whole
        elif key == "c":
            self.check = not self.check
        elif key == "e":
            self._edit()
        elif key == "m":
            self._make_mistake()
        else:
            self.message = f"no such key: {key!r}"

    def _edit(self) -> None:
        text = self._ask("entry and number, such as 'x 0 1 = 2.5' (empty: leave): ")
        if text.strip():
            try:
                self.walk.edit(text)
            except ValueError as error:
                self.message = str(error)

    def _make_mistake(self) -> None:
        """Offer the mistakes of this node's way back; if one is planted, take it away."""
        walk = self.walk
        if walk.mistake is not None:
            self.message = f"taken away: {walk.mistake.id}"
            walk.plant(None)
            return
        offered = walk.mistakes()
        if not offered:
            self.message = f"{walk.node.name} sends nothing back: go to a step"
            return
        for i, mistake in enumerate(offered, 1):
            self.console.print(Text(f"{i:3}  {mistake.id}"))
        chosen = self._ask("number (empty: none): ").strip()
        if not chosen:
            return
        if chosen not in [str(i) for i in range(1, len(offered) + 1)]:
            self.message = f"expected a number from 1 to {len(offered)}, got {chosen[:60]!r}"
            return
        walk.plant(offered[int(chosen) - 1])
        self.gradient = self.check = True

    # --- what is on the screen ---

    def view(self) -> RenderableType:
        """Return the screen: the list of nodes on the left, the current one on the right, the keys below."""
        walk = self.walk
        rows = max(4, self.console.size.height - FOOT - 2)  # inside the frames
        layout = Layout()
        layout.split_column(Layout(name="body"), Layout(self._foot(), name="foot", size=FOOT))
        layout["body"].split_row(
            Layout(Panel(self._list(rows), title=walk.derivation.name), size=LIST),
            Layout(Panel(self._current(rows), title="backward" if walk.backwards else "forward")),
        )
        return layout

    def _list(self, rows: int) -> Text:
        """Return the nodes' names, the current one marked, wrong ones red; as many as fit around the current one."""
        walk = self.walk
        nodes = list(walk.trace.nodes.values())
        first = min(max(0, walk.position - rows // 2), max(0, len(nodes) - rows))
        made = Text(no_wrap=True, overflow="ellipsis")
        for i, node in enumerate(nodes[first : first + rows], first):
            wrong = is_wrong(node)
            mark = ("◀ " if walk.backwards else "▶ ") if i == walk.position else "  "
            style = "bold red" if wrong else "bold" if i == walk.position else ""
            made.append(f"{mark}{symbol(node.definition)}{' ✗' if wrong else ''}\n", style)
        return made

    def _current(self, rows: int) -> RenderableType:
        """Return as many lines about the current node as the screen has, from the one scrolled to."""
        options = self.console.options.update(width=max(20, self.console.size.width - LIST - 4), height=None)
        lines = self.console.render_lines(self._told(), options, pad=False)
        self.scrolled = min(self.scrolled, max(0, len(lines) - rows))
        shown = lines[self.scrolled : self.scrolled + rows]
        if self.scrolled + rows < len(lines):
            shown[-1] = [Segment(f"... {len(lines) - self.scrolled - rows + 1} more lines: j")]
        return Segments([part for line in shown for part in (*line, Segment.line())])

    def _told(self) -> RenderableType:
        """Return all that is to be said about the current node."""
        walk, node = self.walk, self.walk.node
        axes = node.definition.axes
        parts: list[RenderableType] = [show.heading(node, walk.trace), show.definition(node, walk.trace), Text("")]
        if self.gradient and node.gradient is not None:
            parts += [Text("gradient", "bold"), show.way_back(node, walk.trace, walk.replacement(node.name))]
            parts += [show.contributions(node, self.whole), show.numbers(node.gradient, axes, self.whole)]
        else:
            parts += [Text("value", "bold"), show.numbers(node.value, axes, self.whole)]
        if self.check:
            parts.append(show.proof(node))
            if node.numerical is not None:
                parts += [Text("numerical gradient", "dim"), show.numbers(node.numerical, axes, self.whole)]
        return Group(*parts)

    def _foot(self) -> RenderableType:
        walk = self.walk
        told = self.message
        if not told and walk.mistake is not None:
            wrong = ", ".join(walk.wrong()) or "none"
            told = f"planted: {walk.mistake.id}. Wrong gradients: {wrong}"
        return Group(Text(told, "bold red" if walk.mistake is not None else "yellow"), Text(KEYS, "dim"))
