"""Keys one by one, none of them lost: what is typed while a screen is drawn is read after it."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

try:
    import termios
    import tty
except ImportError:  # Windows: msvcrt, through Typer
    termios = tty = None  # type: ignore[assignment]

MOST = 1024  # bytes that are read at once
REST = 0.05  # seconds in which the rest of a key comes, over a slow line too
BEGUN = re.compile(rb"\x1b(?:[\[O][0-9;]*)?\Z")
"""The beginning of an arrow key, say; Escape alone is told from it by what does not come."""


class Keyboard:
    """Standard input, key by key inside :meth:`opened`.

    Typer's ``getchar`` goes in and out of this mode with every key and throws away what came in between; where the
    system knows modes, the mode is set once here instead.
    """

    def __init__(self) -> None:
        self._before: list[object] | None = None
        self._in_line = False

    @contextmanager
    def opened(self) -> Iterator[Keyboard]:
        """Keys come at once and are not echoed; Ctrl-C stays Ctrl-C. Everything is as it was at the end."""
        if termios is None or not sys.stdin.isatty():
            yield self
            return
        self._before = termios.tcgetattr(sys.stdin)
        try:
            self._key_by_key()
            yield self
        finally:
            self._line_by_line()
            self._before = None

    def read(self) -> str:
        """Wait for a key and return it as the terminal sends it; several that came together, together.

        Raises:
            EOFError: there is no more input.
        """
        if self._before is None:
            return typer.getchar()
        encoding, number = sys.stdin.encoding or "utf-8", sys.stdin.fileno()
        typed = os.read(number, MOST)
        if not typed:
            raise EOFError
        while _is_begun(typed, encoding) and select.select([number], [], [], REST)[0]:
            more = os.read(number, MOST)
            if not more:
                break
            typed += more
        return typed.decode(encoding, "replace")

    def line(self, ask: Callable[[str], str], question: str) -> str:
        """Return the line that is typed as the answer to a question, with the terminal's own editing."""
        if self._before is None:
            return ask(question)
        self._in_line = True
        self._line_by_line()
        try:
            return ask(question)
        finally:
            self._in_line = False
            self._key_by_key()

    def give_back(self) -> None:
        """Leave the terminal as it was, for a while."""
        if self._before is not None:
            self._line_by_line()

    def take_again(self) -> None:
        """Go on as before :meth:`give_back`."""
        if self._before is not None:
            (self._line_by_line if self._in_line else self._key_by_key)()

    def _key_by_key(self) -> None:
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)  # not TCSAFLUSH, which forgets what was typed

    def _line_by_line(self) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


def _is_begun(typed: bytes, encoding: str) -> bool:
    """Tell whether a key's rest is still to come: of an escape sequence, or of a letter of several bytes."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(typed)
    return bool(BEGUN.search(typed)) or bool(decoder.getstate()[0])
