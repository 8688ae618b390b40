"""The package's one way to write a file, whole or not at all, and to open one that somebody else wrote.

A target is a plain file or nothing: a link, a device, a pipe or a folder is refused. The content goes to a hidden file
beside it first, whose name nobody can guess; on the disk, that takes the target's name. Whatever comes in between, an
error, Ctrl-C or SIGTERM, removes it, and an older file stays as it was.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from uanref.reasons import reason


def write(path: str | os.PathLike[str], fill: Callable[[BinaryIO], object]) -> None:
    """Write a file with ``fill``, which gets the stream.

    Raises:
        OSError: ``path`` is no plain file, or it cannot be written.
    """
    check_kind(path, os.fspath(path))
    # Named before it is created: mkstemp's answer, and with it the name, is lost if a signal comes just then.
    temporary = hidden(path)
    try:
        with open(temporary, "xb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, temporary) or error.strerror is None:  # not about this file
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        try:  # noqa: SIM105  a signal inside suppress() would leave the file
            os.unlink(temporary)
        except OSError:  # it has its name, or was never there
            pass


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content``, see :func:`write`."""
    write(path, lambda stream: stream.write(content))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, see :func:`write`.

    Raises:
        ValueError: NaN or infinity in ``content``, which JSON lacks.
    """
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | os.PathLike[str], largest: int) -> Any:
    """Return what a plain file of at most ``largest`` bytes holds as JSON, in which NaN and infinity are none.

    Raises:
        OSError: it is missing, no plain file or not readable; ``strerror`` says why.
        ValueError: it is larger or no JSON; the sentence lacks its subject, the file.
    """
    with open_plain(path) as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"has more than {largest} bytes")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Return what JSON says, whatever it was made to do to the reader.

    Raises:
        ValueError: it is none; the sentence lacks its subject, where it comes from.
    """
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # no text, no JSON, a number of 5000 digits; brackets without end
        raise ValueError(f"is no JSON ({reason(error, 100)})") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def move(source: Path, target: Path) -> None:
    """Give a finished file its name, in the place of a plain file or of nothing.

    Raises:
        OSError: ``target`` is something else, or on another file system.
    """
    check_kind(target, str(target))
    os.replace(source, target)


def hidden(path: str | os.PathLike[str]) -> str:
    """Return an unpredictable hidden name beside ``path``, for what is to become ``path``."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.join(folder, f".{name}.{secrets.token_hex(6)}.tmp")


def check_target(path: Path, option: str) -> None:
    """Refuse a file that could not be written later, before anything long starts.

    Raises:
        OSError: its folder is missing or not writable, its name is too long, or a folder, a link, a pipe or a device
            has its name.
    """
    what = f"{option} {path}"
    check_kind(path, what)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{what}: there is no folder {path.parent}, create it first")
    probe(path, what)


def check_kind(path: str | os.PathLike[str], what: str) -> None:
    """Refuse a target that is neither a plain file nor free; the sentence starts with ``what``.

    Raises:
        OSError: as it says.
        ValueError: a null character in the name.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OSError(f"{what} cannot be written ({reason(error)}): name another place") from None
    except ValueError as error:
        raise ValueError(f"{what!r} is no file name ({error}): name another file") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{what} is a folder: name a file")
    if not stat.S_ISREG(mode):  # the rename would replace it
        raise FileExistsError(f"{what} is {_kind(mode)}, not a plain file: name another file")


def probe(path: Path, what: str) -> None:
    """Create and remove an empty file beside ``path``, with the name that it will first have.

    Raises:
        OSError: not writable; the sentence starts with ``what``.
    """
    attempt = hidden(path)
    try:
        open(attempt, "xb").close()
    except OSError as error:
        raise OSError(f"{what} cannot be written ({reason(error)}): name another place") from None
    finally:
        try:  # noqa: SIM105  as above
            os.unlink(attempt)
        except OSError:
            pass


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a plain file, or a link to one, to read; a pipe or a device would block or never end.

    Raises:
        OSError: it is missing, something else or not readable; ``strerror`` says why.
        ValueError: a null character in the name.
    """
    _check_plain(path, os.stat(path).st_mode)  # before it is opened: to open some devices does something
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_plain(path, os.fstat(handle).st_mode)  # another one by now?
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_plain(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_kind(mode)}, no plain file", os.fspath(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
