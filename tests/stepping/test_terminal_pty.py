"""The walk in a true terminal: keys come raw, the window changes its size, leaving asks."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")


class Terminal:
    """A pseudo-terminal with the walk in it."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.near, far = pty.openpty()
        self.resize(24, 80)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uanref", "step", *arguments],
            stdin=far,
            stdout=far,
            stderr=far,
            env={**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **variables},
            start_new_session=True,
        )
        os.close(far)
        self.raw = ""

    def resize(self, rows: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, told: str) -> str:
        """Return what came until ``told`` stood there, without the sequences of the terminal."""
        self.raw, end = "", time.monotonic() + 30
        while time.monotonic() < end:
            if not select.select([self.near], [], [], 0.2)[0]:
                continue
            self.raw += os.read(self.near, 65536).decode(errors="replace")
            shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)
            if told in shown:
                return shown
        raise AssertionError(f"{told!r} was not shown within 30 seconds; shown: {self.raw[-3000:]!r}")

    def send(self, keys: str, line: bool = False) -> None:
        """Type as soon as the program reads: single keys come raw, a line does not."""
        import termios

        end = time.monotonic() + 30
        while time.monotonic() < end and bool(termios.tcgetattr(self.near)[3] & termios.ICANON) != line:
            time.sleep(0.01)
        os.write(self.near, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.near)


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments: str, **variables: str) -> Terminal:
        opened.append(Terminal(*arguments, **variables))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_walk_key_by_key(terminal):
    walk = terminal("bn")
    walk.wait_for("? help")
    assert "\x1b[?1049h" in walk.raw, "a screen of its own"
    walk.send("\r")
    walk.wait_for("2 of 19 · forward")
    walk.send("\x1b[F")
    walk.wait_for("19 of 19 · backward")
    walk.send("?")
    walk.wait_for("any key goes back")
    walk.send("n")
    assert "19 of 19" in walk.wait_for("q leave")  # to the end, so that what comes next is of the new size

    # the window grows while the walk waits for a key
    walk.resize(40, 120)
    os.kill(walk.process.pid, signal.SIGWINCH)
    shown = walk.wait_for("q leave")
    rows = [row.strip("\r") for row in shown.split("\n")]
    assert any(len(row) == 120 and row[0] == "╭" and row[-1] == "╮" for row in rows)
    assert len(rows) >= 40
    walk.send("b")
    walk.wait_for("18 of 19")

    walk.send("e")
    walk.wait_for("empty: leave")
    walk.send("x 0 0 = 2.5\n", line=True)
    walk.wait_for("-> 2.5; L:")
    walk.send("\x1b")
    walk.wait_for("an edit will be lost: y to leave")
    walk.send("y")
    assert walk.process.wait(20) == 0


def test_nothing_is_told_by_colour_alone(terminal):
    walk = terminal("bn", "--mistake", "mu <- centred: sign flipped", NO_COLOR="1")
    shown = walk.wait_for("q leave")
    assert "✗ μ_c mu" in shown
    assert "<- the mistake" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", walk.raw), "no colour"
    walk.send("\x1b")
    assert walk.process.wait(20) == 0


def test_no_key_is_lost_while_the_screen_is_drawn(terminal):
    walk = terminal("bn")
    walk.wait_for("? help")
    for _ in range(12):
        os.write(walk.near, b"n")
        time.sleep(0.01)
    walk.wait_for("13 of 19")


def test_ctrl_c_leaves_the_terminal_as_it_was(terminal):
    import termios

    walk = terminal("bn")
    before = termios.tcgetattr(walk.near)
    walk.wait_for("? help")
    walk.send("n")
    walk.wait_for("2 of 19")
    os.killpg(walk.process.pid, signal.SIGINT)
    assert walk.process.wait(20) == 130
    assert termios.tcgetattr(walk.near) == before


def test_the_rest_of_a_key_may_come_later(terminal):
    walk = terminal("bn")
    walk.wait_for("? help")
    walk.send("\x1b")  # Escape alone leaves
    time.sleep(0.005)
    walk.send("[")
    time.sleep(0.005)
    walk.send("C")
    walk.wait_for("2 of 19")
    os.write(walk.near, b"\xc3")
    time.sleep(0.005)
    os.write(walk.near, b"\xa9")
    walk.wait_for("no such key: 'é'")


def test_a_pasted_edit_is_one_and_no_bad_answer_ends_the_walk(terminal):
    walk = terminal("bn")
    walk.wait_for("? help")
    walk.send("ex 0 0 = 2.5\r")
    walk.wait_for("-> 2.5; L:")
    walk.send("e[/b]")  # no markup
    walk.wait_for("): [/b]")
    walk.send("\x04", line=True)
    walk.wait_for("nothing is changed")
    walk.send("i")
    walk.wait_for("or a step")
    os.write(walk.near, b"\xff\n")
    walk.wait_for("no text in the encoding")
