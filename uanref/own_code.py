"""Functions of the reader's own: a file's path or an installed package's module, and a name in it.

A file is read once: its digest is of the very bytes that are run. It is found by its path, not through ``sys.path``,
and its module is registered under a name that path and digest make, so that two files of one name are two modules.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uanref.own_errors import OwnCodeError, explained, remember
from uanref.reasons import reason

LARGEST = 2**22  # bytes; a file that is longer was not written by hand


_sources: dict[str, bytes] = {}  # by digest: what other processes are sent, so that all run the same
_digests: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()


def looks_like_code(text: str) -> bool:
    """Return whether ``text`` is meant as a file or module with a name in it, rather than as a plain name."""
    return ":" in text or text.endswith(".py") or "/" in text or "\\" in text


def find(text: str, source: bytes | None = None) -> tuple[Callable[..., Any], str, str | None]:
    """Return what ``text`` names, the same text with an absolute path, and the digest of the file.

    Args:
        text: ``mine.py:make``, a file's path and a name in it, or ``package.module:make``, of an installed package.
        source: what the file held when another process read it; run instead of what it holds now.

    Raises:
        OwnCodeError: no such file, module or name; the file cannot be read or run; what is named is no function.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        example = text.rstrip(":") if text.rstrip(":").endswith(".py") else "mine.py"
        raise OwnCodeError(f"{text!r} names no function: write the file and its function, such as {example}:make")
    if not place:
        raise OwnCodeError(f"{text!r} names no file: write it in front, such as mine.py:{name}")
    if place.endswith(".py") or "/" in place or "\\" in place or Path(place).is_file() or place in (".", ".."):
        path = Path(place)
        path = path if path.exists() else path.expanduser()  # a shell leaves the ~ of bn,~/mine.py:make alone
        module, digest = run_file(path, source)
        where, origin = str(path), f"{path.absolute()}:{name}"
    else:
        module, digest, where, origin = _import(place), None, place, text
    found = getattr(module, name, None)
    if found is None:
        near = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise OwnCodeError(f"{where} has no {name}: it has {', '.join(near[:10]) or 'no function'}")
    if not callable(found):
        raise OwnCodeError(f"{name} in {where} is no function but {type(found).__name__}")
    remember(found)
    return found, origin, digest or digest_of(found)


def digest_of(function: Callable[..., Any]) -> str | None:
    """Return the SHA-256 of the file that defines ``function``, as it was when it was first asked for.

    None where there is no file (a notebook). A file that changes later does not change what was imported from it.
    """
    inner = _inner(function)
    try:
        return _digests.setdefault(inner, _digest_now(inner))
    except TypeError:  # what cannot be hashed or weakly referenced
        return _digest_now(inner)


def refuse_stale(label: str, function: Callable[..., Any]) -> None:
    """Refuse a function whose file was changed after it was imported: other processes would import another one.

    Raises:
        OwnCodeError: it was.
    """
    if digest_of(function) != _digest_now(_inner(function)):
        raise OwnCodeError(
            f"the file of {label} was changed after it was imported: import it again (importlib.reload), or start "
            "Python again"
        )


def source(digest: str | None) -> bytes | None:
    """Return the bytes of a file that was run here, None for another digest."""
    return _sources.get(digest or "")


def _inner(function: Callable[..., Any]) -> Any:
    return inspect.unwrap(getattr(function, "func", function))  # what a partial calls


def _digest_now(function: Callable[..., Any]) -> str | None:
    with contextlib.suppress(TypeError, OSError):
        if place := inspect.getsourcefile(function):
            return hashlib.sha256(Path(place).read_bytes()).hexdigest()
    return None


def run_file(path: Path, source: bytes | None = None) -> tuple[types.ModuleType, str]:
    """Run a Python file and return its module and digest; the same bytes are run once in a process.

    Args:
        path: of the file.
        source: run instead of what it holds.

    Raises:
        OwnCodeError: it is missing, no plain Python file, or fails; the sentence has the line.
    """
    source = _read(path) if source is None else source
    digest = hashlib.sha256(source).hexdigest()
    _sources[digest] = source
    where = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    name = f"uanref_own_{where[:12]}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name], digest
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    assert spec is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as import does it: dataclasses look there
    try:
        with explained(str(path)):
            # Not the loader's: its cache of compiled code may be older than these bytes.
            exec(compile(source, str(path.absolute()), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module, digest


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise OwnCodeError(f"there is no file {path}")
        if path.is_dir():
            raise OwnCodeError(f"{path} is a folder: name a Python file")
        if not path.is_file():
            raise OwnCodeError(f"{path} is a device or a pipe: name a Python file")
        if path.suffix != ".py":
            raise OwnCodeError(f"{path} is no Python file: its name must end with .py")
        if path.stat().st_size > LARGEST:
            raise OwnCodeError(f"{path} has more than {LARGEST >> 20} MiB: name a Python file")
        return path.read_bytes()
    except OSError as error:
        raise OwnCodeError(f"{path} cannot be read ({reason(error)})") from None
    except ValueError as error:
        if isinstance(error, OwnCodeError):
            raise
        raise OwnCodeError(f"{path} is no file name ({error})") from None  # a null character


def _import(name: str) -> types.ModuleType:
    try:
        with explained(name):
            return importlib.import_module(name)
    except OwnCodeError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name and f"{name}.".startswith(f"{missing.name}."):
            hint = f"a file is named with its ending, {name}.py" if Path(f"{name}.py").is_file() else "is it installed?"
            raise OwnCodeError(f"there is no module {name}: {hint}") from None
        raise
