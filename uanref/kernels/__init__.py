"""Faster versions of the definitions, and the one line that ties them: :func:`accelerated`.

A definition in ``layers/``, ``norms/``, ``losses.py`` or ``optimizers/`` says what is computed. A faster version of it
has the same name and the same signature and stands in a file of the same name: ``norms/batch.py``'s ``backward``
has ``kernels/cpu/batch.py``'s (blocks, threads, buffers) and ``kernels/cuda/batch.py``'s (CUDA sources). A version
that does not serve what it is given returns ``NotImplemented``, and the next one, at last the definition, runs.

What passes from a forward to its backward is the definition's (x, moments, parameters), so any mixture of settings is
right. One test holds every version equal to its definition: ``tests/kernels/test_parity.py``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from uanref import backend
from uanref.backend import Array

P = ParamSpec("P")
R = TypeVar("R")

ROOMS = {"numpy": ("cpu",), "cupy": ("cuda", "cpu")}
"""Where versions are looked for, in this order. Those in ``cpu/`` are array code, which a device runs, too."""

PLACES = ("layers", "norms", "neighbours", "losses", "optimizers")
"""Where definitions stand."""


def accelerated(definition: Callable[P, R]) -> Callable[P, R]:
    """Let faster versions of a module-level function serve instead of it, unless ``backend.plain()`` holds.

    Where versions are looked for is the backend of its arrays, however they are given. Complex numbers, which only a
    complex step brings, are the definition's alone. The definition itself stays at ``__wrapped__``.

    What it returns raises :class:`~uanref.backend.BackendMismatch` for arrays of both backends, versions or not.
    """

    module, name = definition.__module__, definition.__name__

    @functools.wraps(definition)
    def serve(*args: P.args, **kwargs: P.kwargs) -> R:
        given = arrays((*args, *kwargs.values()) if kwargs else args)
        backend.namespace(*given)
        if given and not backend.is_plain() and "c" not in [a.dtype.kind for a in given]:
            for version in versions(module, name, backend.name_of(given[0])):
                result: Any = version(*args, **kwargs)
                if result is not NotImplemented:
                    served = _watched.get()
                    if served is not None:
                        served.add(f"{version.__module__}.{name}")
                    return result
        return definition(*args, **kwargs)

    serve.__dict__["is_accelerated"] = True
    return serve


_HOST = backend.module("numpy")
_NO_ARRAYS = frozenset({type(None), float, int, bool, str})  # what most other arguments are: asked for first


def arrays(values: tuple[Any, ...]) -> list[Array]:
    """Return the arrays among ``values`` and in tuples there (a Mixture is one).

    NumPy's scalars, which go with any backend, do not count.
    """
    found: list[Array] = []
    for value in values:
        kind = type(value)
        if kind is _HOST.ndarray:
            found.append(value)
        elif kind in _NO_ARRAYS:
            continue
        elif isinstance(value, tuple):
            found += arrays(value)
        elif hasattr(value, "dtype") and not isinstance(value, _HOST.generic):
            found.append(value)
    return found


@functools.cache
def versions(module: str, name: str, where: str) -> tuple[Callable[..., Any], ...]:
    """Return the faster versions of ``module``'s function ``name`` on backend ``where``, in the order of trial."""
    found = []
    for room in ROOMS[where]:
        path = f"{__name__}.{room}.{module.rpartition('.')[2]}"
        if importlib.util.find_spec(path) is not None:
            version = getattr(importlib.import_module(path), name, None)
            if version is not None:
                found.append(version)
    return tuple(found)


def definitions() -> dict[str, Callable[..., Any]]:
    """Return every accelerated function by its path; imports all the modules that may hold one."""
    found = {}
    package = importlib.import_module("uanref")
    for info in pkgutil.walk_packages(package.__path__, "uanref."):
        if info.name.split(".")[1] in PLACES:
            for name, value in vars(importlib.import_module(info.name)).items():
                if getattr(value, "is_accelerated", False) and value.__module__ == info.name:
                    found[f"{info.name}.{name}"] = value
    return found


_watched: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar("uanref_watched", default=None)


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """Yield a set that collects the path of every version that serves this thread inside this block."""
    served: set[str] = set()
    token = _watched.set(served)
    try:
        yield served
    finally:
        _watched.reset(token)
