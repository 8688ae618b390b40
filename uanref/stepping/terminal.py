"""``uanref step``: a walk through a derivation in a terminal, key by key."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.control import Control
from rich.screen import Screen as FullScreen
from rich.text import Text

from uanref.derivations.mistakes import mistakes
from uanref.stepping import keys
from uanref.stepping.keyboard import Keyboard
from uanref.stepping.road import BACKWARD
from uanref.stepping.signals import on_resize, on_suspend
from uanref.stepping.view import help_lines, view
from uanref.stepping.walk import Walk

SCROLL = 5


class Screen:
    """The walk on a full screen.

    Args:
        walk: what to walk through.
        console: a terminal.
        read_key: returns the next key as the terminal sends it, such as ``"n"`` or ``"\\x1b[C"``; None: of the
            keyboard.
        ask: shows a question and returns the line that was typed; at the keyboard if None.

    Attributes:
        both, whole, check: the reader's switches: value and gradient together, large arrays whole, the numerical
            gradient.
        scrolled: how many lines are above the screen.
        message: what the last key did, above the keys.
        helping: whether the keys in words are shown.
        leaving: whether the reader was asked about leaving.
    """

    def __init__(
        self,
        walk: Walk,
        console: Console,
        read_key: Callable[[], str] | None = None,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.walk, self.console = walk, console
        self._keyboard = Keyboard()
        self._read_key = read_key or self._keyboard.read
        self._ask = ask or (lambda question: self._keyboard.line(lambda told: console.input(Text(told)), question))
        self._came_with = walk.mistake
        self._ahead: list[str] = []  # keys that came with the present one
        self._question = ""
        self._waiting = self._stale = False
        self.both = self.whole = self.check = self.helping = self.leaving = False
        self.scrolled = 0
        self.message = ""

    def run(self) -> None:
        """Show the walk until the reader leaves (q, Escape or the end of the input).

        A resize draws it anew, and so does coming back from where Ctrl-Z leads.
        """
        screen, keyboard = self.console.screen(hide_cursor=False), self._keyboard.opened()
        with screen, keyboard, on_resize(self._resized), on_suspend(self._suspend, self._come_back):
            while True:
                self._draw_until_fresh()
                try:
                    typed = self._read_key()
                except EOFError:
                    return
                finally:
                    self._waiting = False
                self._ahead = keys.ONE_KEY.findall(typed)  # a fast typist's keys come together
                while self._ahead:
                    if not self.press(self._ahead.pop(0)):
                        return

    def press(self, key: str) -> bool:
        """Do what a key says; an unknown one is told. Return whether the walk goes on."""
        walk = self.walk
        if self.leaving:
            self.leaving, self.message = False, "" if key in ("y", "Y") else "you stay"
            return key not in ("y", "Y")
        name = keys.meaning(key)
        if name in (keys.DOWN, keys.UP):
            self.scrolled = max(0, self.scrolled + (SCROLL if name == keys.DOWN else -SCROLL))
            return True
        self.scrolled, self.message = 0, ""
        if self.helping:  # any key back
            self.helping = False
            return True
        if name == keys.LEAVE:
            return self._stays()
        if name == keys.NEXT:
            self.message = "" if walk.move(1) else "this is the last stop"
        elif name == keys.BACK:
            self.message = "" if walk.move(-1) else "this is the first stop"
        elif name == keys.FIRST:
            walk.move(-len(walk.stops))
        elif name == keys.LAST:
            walk.move(len(walk.stops))
        elif name == keys.TURNING:
            self.message = "" if walk.turn() else "this derivation has no way back, and so no loss"
        elif key == "?":
            self.helping = True
        elif key in "gvc":
            switch = {"g": "both", "v": "whole", "c": "check"}[key]
            setattr(self, switch, not getattr(self, switch))
        elif key == "i":
            self._look()
        elif key == "e":
            self._edit()
        elif key == "m":
            self._make_mistake()
        else:
            self.message = f"no such key: {key!r}; ? shows the keys"
        return True

    def view(self) -> RenderableType:
        """Return the screen, as :mod:`uanref.stepping.view` lays it out."""
        size = self.console.size
        if self.helping:
            return help_lines(self, size.width, size.height)
        return view(self, size.width, size.height)

    def _draw(self) -> None:
        self.console.control(Control.home())
        self.console.print(FullScreen(self.view(), application_mode=True), end="")  # \n\r: also while keys come raw

    def _draw_until_fresh(self) -> None:
        """Draw, and wait from then on; a resize that comes while it is drawn is not lost."""
        while not self._waiting:
            self._stale = False
            self._draw()
            self._waiting = not self._stale

    def _resized(self) -> None:
        self._stale = True
        if self._waiting:  # else it is drawn soon, or a question is being answered
            self._draw()

    def _suspend(self) -> None:
        self._keyboard.give_back()
        self.console.set_alt_screen(False)

    def _come_back(self) -> None:
        self._keyboard.take_again()
        self.console.set_alt_screen(True)
        if self._question:
            self._draw()
            self.console.print(Text(self._question), end="")
        else:
            self._resized()

    def _answer(self, question: str) -> str:
        """Return the line that the reader types, or has typed already; Ctrl-C and Ctrl-D answer nothing."""
        typed, ended = "", False
        while self._ahead and not ended:
            key = self._ahead.pop(0)
            ended = key in ("\r", "\n")
            typed += "" if ended else key
        if ended:
            return typed
        self._question = question + typed
        try:
            return typed + self._ask(self._question)
        except (EOFError, KeyboardInterrupt):
            self.message = "nothing is changed"
        except UnicodeDecodeError:
            self.message = "what was typed is no text in the encoding of this terminal"
        finally:
            self._question = ""
        return ""

    def _stays(self) -> bool:
        """Ask before anything is thrown away; return whether the walk goes on."""
        walk, lost = self.walk, []
        if walk.edits():
            lost.append("an edit" if walk.edits() == 1 else f"{walk.edits()} edits")
        if walk.mistake is not None and walk.mistake is not self._came_with:
            lost.append("a mistake")
        if lost:
            self.leaving = True
            self.message = f"{' and '.join(lost)} will be lost: y to leave, any other key to stay"
        return self.leaving

    def _look(self) -> None:
        inputs = ", ".join(node.name for node in self.walk.derivation.inputs)
        name = self._answer(f"which value (inputs: {inputs}; or a step; empty: leave): ").strip()
        if name:
            try:
                self.walk.go(name)
            except KeyError as error:
                self.message = str(error.args[0])

    def _edit(self) -> None:
        text = self._answer("entry and number, such as 'x 0 1 = 2.5' (g: the upstream gradient; empty: leave): ")
        if text.strip():
            try:
                self.message = str(self.walk.edit(text))
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
            self.message = f"{walk.node.name} has no way back that could be mistaken: go to a step"
            return
        for i, mistake in enumerate(offered, 1):
            self.console.print(Text(f"{i:3}  {mistake.id}"))
        chosen = self._answer("number, or any mistake's name (empty: none): ").strip()
        if not chosen:
            return
        named = {str(i): mistake for i, mistake in enumerate(offered, 1)} | {m.id: m for m in mistakes(walk.derivation)}
        if chosen not in named:
            self.message = f"expected a number from 1 to {len(offered)}, got {chosen[:60]!r}"
            return
        walk.plant(named[chosen])
        walk.go(named[chosen].step, BACKWARD)
