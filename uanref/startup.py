"""The first moments of the command line, and the two signals that end it.

The package imports this module before anything that takes long. Where the command line starts (``uanref`` or
``python -m uanref``), and only there, that does two things:

- Ctrl-C or SIGTERM end the process with one sentence while Python still imports;
- ``python -m`` looks for modules in the working folder first. That folder goes to the end of ``sys.path``: a
  ``random.py`` in it is not what NumPy asks for.

What comes before this module, Python's own start, is not the package's to guard.
"""

from __future__ import annotations

import os
import sys


def _working_folder_last() -> None:
    """Undo that ``python -m`` puts the working folder first, which ``python -P -m`` does not."""
    try:
        first = bool(sys.path) and not sys.flags.safe_path and os.path.abspath(sys.path[0]) == os.getcwd()
    except FileNotFoundError:  # the working folder was removed
        return
    if first:
        sys.path.append(sys.path.pop(0))


_program = sys.argv[0] if getattr(sys, "argv", None) else ""
# "-m" is what it reads while Python looks for the module that -m names.
_by_module = _program == "-m" and any(word in sys.orig_argv for word in ("uanref", "-muanref"))
if _by_module:
    _working_folder_last()  # before the imports below

import atexit  # noqa: E402
import contextlib  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from types import FrameType  # noqa: E402
from typing import NoReturn  # noqa: E402

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit codes after a signal: 128 and its number, as shells count."""

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends what Ctrl-C would end, and in the same way, but for the exit code."""


@contextlib.contextmanager
def raising(came: list[signal.Signals]) -> Iterator[None]:
    """Make Ctrl-C raise ``KeyboardInterrupt`` and SIGTERM :class:`Terminated`.

    A signal that the process was started to ignore stays ignored. Outside the main thread, which alone may set
    handlers, nothing changes. The handlers from before come back at the end; after the command line itself, where only
    Python's own end is left, both signals are ignored.

    Args:
        came: gets every signal that comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    ended = False
    unraisable = sys.unraisablehook

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        came.append(signal.Signals(number))
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def again(number: int) -> None:
        if not ended and os.name == "nt":
            signal.raise_signal(number)
        elif not ended:
            os.kill(os.getpid(), number)  # wakes the main thread where it waits

    def swallowed(error: sys.UnraisableHookArgs) -> None:
        """Send a signal once more that came inside a destructor, where Python drops every exception."""
        if not issubclass(error.exc_type, KeyboardInterrupt):
            unraisable(error)
            return
        number = signal.SIGTERM if issubclass(error.exc_type, Terminated) else signal.SIGINT
        timer = threading.Timer(0.01, again, (number,))
        timer.daemon = True
        timer.start()

    before = {number: signal.getsignal(number) for number in CODES}
    try:
        sys.unraisablehook = swallowed
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        ended = True
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            if handler is _end:  # the command is done, what is left is Python's own end: no signal changes the code
                handler = signal.SIG_IGN
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def leave(code: int) -> None:
    """End the process that a signal interrupted, with ``code``; do nothing if this process is not the command line's.

    Whatever the signal fell into ends here, and Python does not take its own world apart. That can fail: compiled code
    that was interrupted while Python imported it (Matplotlib's) makes it abort; and a signal inside ``exec``, as
    namedtuple and dataclass call it, makes Python end by that signal, though the exception was caught.
    """
    if not _guarded:
        return
    atexit._run_exitfuncs()  # what others registered: temporary folders, logs
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a reader that went away; a stream closed
            stream.flush()
    os._exit(code)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the process at once: nothing is at work yet that could take the signal as an exception."""
    with contextlib.suppress(OSError):
        os.write(2, f"uanref: {WORDS[signal.Signals(number)]}\n".encode())
    os._exit(CODES[signal.Signals(number)])


def _guard() -> bool:
    """Take both signals, and return True."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    return True


_guarded = (
    threading.current_thread() is threading.main_thread()
    and (_by_module or os.path.basename(_program).split(".")[0] in ("uanref", "uanref-script"))
    and _guard()
)
