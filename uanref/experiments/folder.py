"""The folder that a sweep writes into: claimed by one process at a time, and cleared before anything new."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from uanref import files
from uanref.experiments import cells, compare_pictures, pictures, registry
from uanref.reasons import reason

LOCK = ".uanref.lock"
RESULTS = "results.json"


@contextlib.contextmanager
def claimed(given: Path | None, option: str, force: bool = False, name: str = registry.COMPARE) -> Iterator[Path]:
    """Make a folder ready for results, before hours of work; where nothing was written it disappears again.

    Nobody else gets the folder until the end, or until this process dies, however that happens. What an earlier
    comparison left is gone before anything new comes in: with ``force`` all of it, also what experiments left, else
    pictures without results.

    Args:
        given: the folder, to be created with those above it; None for a new one below ``runs``.
        option: that names it, for the sentences.
        force: accept a folder that has results, and remove them.
        name: of the sweep.

    Raises:
        FileExistsError: it holds results already and ``force`` is not set, it is a file, or another process is at
            work in it.
        OSError: it cannot be created or written.
    """
    created: list[Path] = []
    lock: IO[bytes] | None = None
    folder = given or Path(time.strftime(f"runs/{name}-%Y%m%d-%H%M%S"))
    try:
        try:
            if given is None:
                folder = _create_new(folder, created)
            lock = _lock(folder, f"{option} {folder}", created)
            if os.path.lexists(folder / RESULTS) and not force:
                raise FileExistsError(f"{option} {folder} already holds {RESULTS}: name another folder or add --force")
            inner = folder / cells.FOLDER
            if os.path.lexists(inner) and (inner.is_symlink() or not inner.is_dir()):
                raise FileExistsError(f"{option} {folder} holds {inner.name}, which is no folder: name another folder")
            for each in (RESULTS, *compare_pictures.NAMES):
                files.check_kind(folder / each, f"{option} {folder}: {each}")
            if name != registry.COMPARE:
                pictures.check(folder / name, f"{option} {folder}")
            clear(folder, cells_too=force)
        except OSError as error:
            if error.strerror is None:  # our own sentences
                raise
            what = f"{option} {folder}"
            raise OSError(f"{what} cannot be written ({reason(error)}): name another place") from None
        yield folder
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                if _is(lock, folder / LOCK):
                    (folder / LOCK).unlink()  # while it is held: see _lock
            lock.close()
        for path in (
            folder / cells.FOLDER,
            folder / name,
            *created,
        ):  # innermost first; a folder that holds something stays
            with contextlib.suppress(OSError):
                path.rmdir()


def clear(folder: Path, cells_too: bool) -> None:
    """Remove what a sweep wrote, and nothing else. Interrupted in between, it leaves no results."""
    for name in (RESULTS, *compare_pictures.NAMES):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    for path in [*folder.glob(f".{RESULTS}.*"), *folder.glob(f"{cells.FOLDER}/.*")]:  # half-written when it was killed
        if path.parent == folder or cells.PATTERN.match(path.name[1:]):
            path.unlink()
    for path in folder.glob(f"{pictures.STAGED}*"):
        shutil.rmtree(path, ignore_errors=True)
    if cells_too:
        for path in [*cells.ours(folder), *(path for name in registry.NAMES for path in pictures.ours(folder / name))]:
            path.unlink()


def _create_new(wanted: Path, created: list[Path]) -> Path:
    """Create a folder that was not there, under a longer name if somebody else was faster."""
    created += [path for path in wanted.parents if not path.exists()]
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            created.insert(0, folder)
            return folder
    raise FileExistsError(f"there are 1000 folders like {wanted}: name one with --out")


def _lock(folder: Path, what: str, created: list[Path]) -> IO[bytes]:
    """Create ``folder`` and return a file in it that is locked until it is closed.

    Raises:
        FileExistsError: another process holds it.
        OSError: the folder cannot be created or written.
    """
    path = folder / LOCK
    for _ in range(100):
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{what} is a file: name a folder")
        created += [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644), "r+b")
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        try:
            _hold(file)
        except OSError:
            file.close()
            message = f"{what} is where another uanref is at work: name another folder, or wait for its end"
            raise FileExistsError(message) from None
        with contextlib.suppress(OSError):
            if _is(file, path):
                return file
        file.close()  # its holder removed it just before: that lock locks nothing
    raise FileExistsError(f"{what} is created and removed again and again by others: name another folder")


def _is(file: IO[bytes], path: Path) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())


def _hold(file: IO[bytes]) -> None:
    """Lock ``file``, which the system undoes when the process ends.

    Raises:
        OSError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks: nothing can be held there
        pass
