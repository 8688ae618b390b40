"""The keys of the walk in a terminal: what each is called, how a terminal sends it, and what it does."""

from __future__ import annotations

import re

ONE_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|[\x00\xe0][GHIKMOPQ]|.", re.DOTALL)
"""One key as a terminal sends it: an escape sequence, Windows' two characters, or a character."""

NEXT, BACK, FIRST, LAST, TURNING, DOWN, UP, LEAVE = (
    "next stop",
    "back one stop",
    "first stop",
    "last stop",
    "the loss, where the road turns",
    "scroll down",
    "scroll up",
    "leave",
)

SENT = {
    NEXT: ("n", "f", " ", "\r", "\n", "\x1b[C", "\x1bOC", "\x1b[B", "\x1bOB", "\xe0M", "\x00M", "\xe0P", "\x00P"),
    BACK: ("p", "b", "\x1b[D", "\x1bOD", "\x1b[A", "\x1bOA", "\xe0K", "\x00K", "\xe0H", "\x00H"),
    FIRST: ("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~", "\xe0G", "\x00G"),
    LAST: ("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~", "\xe0O", "\x00O"),
    TURNING: ("L", "t"),
    DOWN: ("j", "\x1b[6~", "\xe0Q", "\x00Q"),
    UP: ("k", "\x1b[5~", "\xe0I", "\x00I"),
    LEAVE: ("q", "\x1b", "\x04"),
}
"""What terminals send for the keys that move and leave."""

SHORT = """n/→/Enter next  p/←/b back  L the loss  i input  g both  v all  j/k scroll
c check  e edit  m mistake  ? help: all keys in words  q leave"""
"""Two lines for the foot of the screen."""

HELP = (
    ("n f → Enter space", "one stop forward along the road: out to the loss, then back to the inputs"),
    ("p b ←", "one stop back along the road"),
    ("Home  End", "the first stop, the last stop"),
    ("L t", "the loss, where the road turns"),
    ("i", "look at an input or a step, called by its name; n or p goes on from where you were"),
    ("g", "value and gradient together, or the one that is told here"),
    ("v", "large arrays whole, or in one line"),
    ("c", "the numerical gradient below the gradient; where they differ it is shown anyway"),
    ("e", "edit a number, such as x 0 1 = 2.5; g 0 1 = 1 for the upstream gradient"),
    ("m", "plant a mistake in this step's way back; again: take it away"),
    ("j k", "scroll down, scroll up"),
    ("q Esc", "leave; asks first if edits or a mistake would be lost"),
)
"""All keys in words."""


def meaning(key: str) -> str:
    """Return what a key that moves or leaves does, as :data:`SENT` calls it; the key itself if it is none of them."""
    return next((name for name, sent in SENT.items() if key in sent), key)
