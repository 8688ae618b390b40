"""Plant a mistake: load a module of the package from changed source, and all that imports it afresh."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import uanref

ROOT = Path(uanref.__file__).parent


def plant(chain: list[str], changed: str, old: str, new: str) -> types.ModuleType:
    """Load the modules of ``chain`` in order, with ``old`` replaced by ``new`` in the one named ``changed``.

    Args:
        chain: dotted names below ``uanref``, each imported by those after it.
        changed: which of them gets the mistake.
        old: source text that stands there exactly once.
        new: what replaces it.

    Returns:
        The last module of the chain; the real modules are untouched.
    """
    loaded: dict[str, types.ModuleType] = {}
    saved = {f"uanref.{name}": sys.modules.get(f"uanref.{name}") for name in chain}
    try:
        for name in chain:
            path = ROOT / (name.replace(".", "/") + ".py")
            source = path.read_text(encoding="utf-8")
            if name == changed:
                assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {path.name}, expected once"
                source = source.replace(old, new)
            full = f"uanref.{name}"
            spec = importlib.util.spec_from_loader(full, loader=None)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[full] = loaded[name] = module
            exec(compile(source, str(path), "exec"), module.__dict__)
    finally:
        for full, module_before in saved.items():
            if module_before is None:
                sys.modules.pop(full, None)
            else:
                sys.modules[full] = module_before
    return loaded[chain[-1]]
