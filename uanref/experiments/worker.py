"""A process that works off calls for :mod:`uanref.experiments.parallel`, until the one that asks is gone.

Calls come in through standard input, answers go out through standard output, each a number of bytes and so many
bytes. Where the input ends, the other process has no more calls or has died, however that happened: then this one
ends at once, in the middle of whatever it computes.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from uanref.reasons import named

LENGTH = struct.Struct(">Q")


def send(stream: BinaryIO, content: bytes) -> None:
    """Write one message.

    Raises:
        OSError: nobody reads any more.
    """
    stream.write(LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Read one message.

    Raises:
        EOFError: the stream ended first.
    """
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError("the other process is gone")
    return content


def attempt(function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
    """Return ``function(*task)``, or the exception that it raised; Ctrl-C is not caught."""
    try:
        return function(*task)
    except Exception as error:
        return error


def main() -> None:
    """Answer calls; never returns."""
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    while True:
        try:
            function, task = pickle.loads(calls.get())
        except Exception as error:  # a function or an argument that cannot be had here
            answer: Any = error
        else:
            answer = attempt(function, task)
        try:
            content = pickle.dumps(answer)
            pickle.loads(content)
        except Exception:  # mostly an exception with a constructor of its own
            content = pickle.dumps(RuntimeError(named(answer)))
        try:
            send(answers, content)
        except OSError:  # nobody reads any more: seen here before the other thread sees its input end
            os._exit(0)


def _listen(stream: BinaryIO, calls: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            calls.put(receive(stream))
    except (EOFError, OSError):
        os._exit(0)
