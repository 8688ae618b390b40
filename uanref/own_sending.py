"""How a norm of the reader's own gets to another process: the very code that runs here, or an error.

Of a file its text is sent. What a package or module holds the other process imports by itself, and its digest tells
whether that is the same. Functions that it cannot import (of a notebook, lambdas, callable objects) are sent whole,
with what they use of their module.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable
from typing import Any

from uanref import own_code
from uanref.factories import Factory
from uanref.own_errors import OwnCodeError, remember
from uanref.reasons import message, named


def reduced(factory: Factory) -> tuple[Any, ...]:
    """Return what ``pickle`` makes the factory of in another process.

    What goes wrong on the way is raised there when a layer is made: runs with other norms are not concerned.
    """
    label, digest = factory.label, factory.digest
    if factory.origin:
        return _again, (label, factory.origin, digest, own_code.source(digest))
    inner = getattr(factory.make, "func", factory.make)  # what a partial calls
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    whole = module is None or not _importable(module.__name__) or not _named(inner, module)
    try:
        content = _sent(label, factory.make, module if whole else None)
    except OwnCodeError as error:
        return _failing, (label, str(error), digest)
    return _received, (label, content, digest, whole)


def _again(label: str, origin: str, digest: str | None, source: bytes | None) -> Factory:
    try:
        make, _, found = own_code.find(origin, source)
    except OwnCodeError as error:
        return _failing(label, str(error), digest)
    return Factory(label, make, digest, origin) if found == digest else _failing(label, _changed(label), digest)


def _received(label: str, content: bytes, digest: str | None, whole: bool) -> Factory:
    try:
        make = pickle.loads(content)
    except Exception as error:  # its module is gone, or fails in the middle of being written
        return _failing(label, f"{label} cannot be imported again ({named(error)})", digest)
    if not whole and own_code.digest_of(make) != digest:
        return _failing(label, _changed(label), digest)
    remember(make)
    return Factory(label, make, digest)


def _failing(label: str, sentence: str, digest: str | None) -> Factory:
    def make(num_features: int, rng: Any) -> Any:
        raise OwnCodeError(sentence)

    return Factory(label, make, digest)


def _changed(label: str) -> str:
    return f"the file of {label} was changed while it was in use: start again"


def _sent(label: str, make: Callable[..., Any], module: Any) -> bytes:
    """Return the function as bytes, what it uses of ``module`` included."""
    import cloudpickle

    registered = module is not None and module.__name__ != "__main__"  # which is always sent whole
    try:
        if registered:
            cloudpickle.register_pickle_by_value(module)
        content: bytes = cloudpickle.dumps(make)
    except Exception as error:
        raise OwnCodeError(
            f"{label} cannot be sent to another process ({message(error)}): put it into a file and name "
            "that, mine.py:make, or run with jobs=1"
        ) from None
    finally:
        if registered:
            cloudpickle.unregister_pickle_by_value(module)
    return content


def _named(inner: Any, module: Any) -> bool:
    """Return whether ``module`` has it under its own name: no lambda, no function inside another, no object."""
    found = module
    for part in getattr(inner, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is inner


def _importable(name: str) -> bool:
    try:
        return name != "__main__" and importlib.util.find_spec(name) is not None and not name.startswith("uanref_own_")
    except (ImportError, ValueError):
        return False
