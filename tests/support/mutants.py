"""Plant a mistake: load a module of the package from changed source, and all that imports it afresh.

A norm has two texts that can be wrong: its definition, which runs under ``backend.plain()``, and the faster version in
``kernels/cpu``, which serves where it stands in the real one's place. :func:`outcome` runs a check with either.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import uanref
from uanref import backend, kernels

ROOT = Path(uanref.__file__).parent

Mistake = tuple[str, str, str]
"""A module's dotted name below ``uanref``, source text that stands there exactly once, and what replaces it."""

T = TypeVar("T")


@contextlib.contextmanager
def planted(chain: list[str], changed: str, old: str, new: str) -> Iterator[types.ModuleType]:
    """Put the modules of ``chain``, with ``old`` replaced by ``new`` in one, in the place of the real ones.

    Args:
        chain: dotted names below ``uanref``, each imported by those after it.
        changed: which of them gets the mistake.
        old: source text that stands there exactly once; "" plants nothing.
        new: what replaces it.

    Yields:
        The last module of the chain. Real modules that are loaded already keep what they imported.
    """
    loaded: dict[str, types.ModuleType] = {}
    saved = {f"uanref.{name}": sys.modules.get(f"uanref.{name}") for name in chain}
    kernels.versions.cache_clear()
    try:
        for name in chain:
            path = ROOT / (name.replace(".", "/") + ".py")
            source = path.read_text(encoding="utf-8")
            if name == changed and old:
                assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {path.name}, expected once"
                source = source.replace(old, new)
            full = f"uanref.{name}"
            spec = importlib.util.spec_from_loader(full, loader=None)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[full] = loaded[name] = module
            exec(compile(source, str(path), "exec"), module.__dict__)
        yield loaded[chain[-1]]
    finally:
        for full, module_before in saved.items():
            if module_before is None:
                sys.modules.pop(full, None)
            else:
                sys.modules[full] = module_before
        kernels.versions.cache_clear()


def plant(chain: list[str], changed: str, old: str, new: str) -> types.ModuleType:
    """Return the last module that :func:`planted` loads; the real modules are untouched."""
    with planted(chain, changed, old, new) as module:
        return module


def outcome(check: Callable[[type], T], layer: str, definitions: list[str], versions: list[str], mistake: Mistake) -> T:
    """Return ``check(layer class)`` with a mistake in a definition, versions off, or in a version, versions on.

    Args:
        check: what runs.
        layer: name of the class, in the last of ``definitions``.
        definitions, versions: the two chains, see :func:`planted`; the mistake's module tells which one it is.
        mistake: see :data:`Mistake`.
    """
    changed, old, new = mistake
    if changed in definitions:
        with backend.plain():
            return check(getattr(plant(definitions, changed, old, new), layer))
    assert changed in versions, changed
    with backend.plain(False), planted(versions, changed, old, new):
        return check(getattr(importlib.import_module(f"uanref.{definitions[-1]}"), layer))


def both(definition: dict[str, Mistake], version: dict[str, Mistake]) -> list[tuple[str, str]]:
    """Return (text, name) of every mistake in the two tables, to parametrize a test with."""
    return [("definition", name) for name in definition] + [("version", name) for name in version]
