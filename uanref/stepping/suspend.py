"""What happens to a full screen when its program is stopped with Ctrl-Z, and when it goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_suspend(leave: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """Call ``leave`` before the program stops, so that the shell has its terminal, and ``come_back`` after it.

    Where there is no such signal (Windows), or in a thread, which gets none, nothing is called.
    """
    number = getattr(signal, "SIGTSTP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_number: int, _frame: Any) -> None:
        leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stops here
        signal.signal(number, handler)
        come_back()

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
