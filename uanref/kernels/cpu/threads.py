"""The threads that walk over blocks, and BLAS, which keeps to one thread meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import threadpoolctl

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


@functools.cache
def pool() -> ThreadPoolExecutor:
    """Return the process's own threads, started when they are first needed.

    Raises:
        RuntimeError: the process is ending, and none were started before.
    """
    from concurrent.futures import ThreadPoolExecutor  # refuses to be imported when the process is ending

    return ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="uanref")


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


class _BlasLimit:
    """The process-wide limit of BLAS to one thread, held while any walk is under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.walks = 0
        self.limiter: Any = None


_limit = _BlasLimit()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS at one thread; the last of several concurrent walks gives it its threads back."""
    with _limit.lock:
        if _limit.walks == 0:
            _limit.limiter = _blas().limit(limits=1, user_api="blas")
        _limit.walks += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.walks -= 1
            if _limit.walks == 0:
                _limit.limiter.restore_original_limits()


def _start_afresh() -> None:
    """A forked child inherits no threads, and perhaps a lock that nobody will release."""
    global _limit
    pool.cache_clear()
    _limit = _BlasLimit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
