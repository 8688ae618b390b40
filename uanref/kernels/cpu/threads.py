"""The threads that walk over blocks, and BLAS, which keeps to one thread meanwhile."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

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


@functools.cache
def _settings() -> tuple[tuple[Callable[[], int | None], Callable[[int], object]], ...]:
    """Return what reads and what sets the number of threads of each BLAS that was loaded before the first walk.

    A limit of threadpoolctl's own asks every library for much more: 15 us for two of them, as long as a small walk
    takes, instead of 4. And from 3.8 on its OpenBLAS hears the one thread that came first. Walks of several threads
    are counted below, so that they need no such guard: what is called is the setting that stands behind it.
    """
    found = (library for library in _blas().lib_controllers if library.user_api == "blas")
    return tuple(
        (library.get_num_threads, getattr(library, "_real_set_num_threads", library.set_num_threads))
        for library in found
    )


class _OneBlasThread:
    """Keeps BLAS at one thread; the last of several concurrent walks gives it its threads back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.walks = 0
        self.before: list[tuple[Callable[[int], object], int]] = []

    def __enter__(self) -> None:
        with self.lock:
            if self.walks == 0:
                self.before = []
                for threads, limit in _settings():
                    count = threads()
                    if count is not None and count != 1:
                        limit(1)
                        self.before.append((limit, count))
            self.walks += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.walks -= 1
            if self.walks == 0:
                for limit, count in self.before:
                    limit(count)


_limit = _OneBlasThread()


def one_blas_thread() -> AbstractContextManager[None]:
    """Keep BLAS at one thread inside a ``with`` block, for the whole process; blocks may overlap."""
    return _limit


def _start_afresh() -> None:
    """A forked child inherits no threads, and perhaps a lock that nobody will release."""
    global _limit
    pool.cache_clear()
    _limit = _OneBlasThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
