"""What happens when a terminal's window changes its size while a program waits for a key."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_resize(redraw: Callable[[], None]) -> Iterator[None]:
    """Call ``redraw`` at every change of the window's size inside the ``with``.

    The system says so with a signal; a read that waits for a key goes on waiting after it. Where there is no such
    signal (Windows), or in a thread, which gets none, nothing is called: the next key redraws.
    """
    number = getattr(signal, "SIGWINCH", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_number: int, _frame: Any) -> None:
        redraw()

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
