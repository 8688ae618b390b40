"""What goes wrong in code of the reader's, in one sentence with the file and line where it did."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uanref.reasons import named


class OwnCodeError(ValueError):
    """Code of the reader's that cannot be used; the message says where and why."""


class OwnCodeFailed(RuntimeError):
    """Code of the reader's that was tried, and failed later, in the middle of the work."""


_packages: set[str] = set()  # whose lines are the reader's, beside the files that were run


def remember(function: Callable[..., Any]) -> None:
    """Count the lines of the package or module that ``function`` comes from as the reader's own."""
    module = getattr(getattr(function, "func", function), "__module__", None)
    name = str(module or "").partition(".")[0]
    if name not in ("", "uanref", "builtins"):
        _packages.add(name)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what goes wrong in the reader's code into one sentence with file and line; Ctrl-C passes.

    Raises:
        OwnCodeError: ``what`` failed.
    """
    try:
        yield
    except (OwnCodeError, OwnCodeFailed):
        raise
    except SyntaxError as error:
        raise OwnCodeError(f"{what} is no valid Python: line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        text = named(error, 300)
        if isinstance(error, ModuleNotFoundError):
            text += " (a file is run alone: what it imports must be installed, or stand in it)"
        place = where(error)
        raise OwnCodeError(f"{what} failed{f' at {place}' if place else ''}: {text}") from error


@contextlib.contextmanager
def located(what: str = "", kind: type[Exception] = OwnCodeError) -> Iterator[None]:
    """Put file and line of the reader's own code in front of what fails there.

    Args:
        what: failed, in front of that; empty to leave it out.
        kind: the exception that comes of it: :class:`OwnCodeFailed` where the work is under way.

    Raises:
        OwnCodeError, OwnCodeFailed: something failed in a line of the reader's own; all else passes unchanged.
    """
    try:
        yield
    except (OwnCodeError, OwnCodeFailed):
        raise
    except (Exception, SystemExit) as error:
        place = where(error)
        if not place:
            raise
        head = f"{what} failed at {place}" if what else place
        raise kind(f"{head}: {named(error, 300)}") from error


def where(error: BaseException) -> str:
    """Return ``file:line`` of the innermost line of the reader's own code in a traceback; empty if there is none."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("uanref_own_") or name.partition(".")[0] in _packages:
            found = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found
