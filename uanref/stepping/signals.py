"""What happens to a full screen when its window changes its size, and when Ctrl-Z stops its program for a while."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[int, Any], None]


@contextmanager
def on_resize(redraw: Callable[[], None]) -> Iterator[None]:
    """Call ``redraw`` at every change of the window's size inside the ``with``.

    The system says so with a signal; a read that waits for a key goes on waiting after it. Without it (see
    :func:`handled`) the next key redraws.
    """
    with handled("SIGWINCH", lambda number, frame: redraw()):
        yield


@contextmanager
def on_suspend(leave: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """Call ``leave`` before the program stops, so that the shell has its terminal, and ``come_back`` after it."""

    def stop(number: int, frame: Any) -> None:
        leave()
        handler = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stops here
        signal.signal(number, handler)
        come_back()

    with handled("SIGTSTP", stop):
        yield


@contextmanager
def handled(name: str, handler: Handler) -> Iterator[None]:
    """Let ``handler`` answer a signal inside the ``with``.

    Where there is no such signal (Windows), or in a thread, which gets none, nothing is called.
    """
    number = getattr(signal, name, None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
