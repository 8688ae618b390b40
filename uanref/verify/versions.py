"""The two versions of the code that ``uanref check`` and ``uanref bench`` run.

``"definition"``: every definition as it is written (``backend.plain()``). ``"fast"``: as it runs by default, with the
faster versions of :mod:`uanref.kernels` wherever they serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from uanref import backend

VERSIONS = ("definition", "fast")


def wanted(names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the versions to run, each once; for None both, or the definition alone under ``backend.plain()``.

    Raises:
        ValueError: a name that is none of :data:`VERSIONS`, or no name at all.
    """
    if names is None:
        return ("definition",) if backend.is_plain() else VERSIONS
    for name in names:
        if name not in VERSIONS:
            raise ValueError(f"unknown version {name!r}: expected one or both of {','.join(VERSIONS)}")
    if not names:
        raise ValueError(f"no version was named: expected one or both of {','.join(VERSIONS)}")
    return tuple(dict.fromkeys(names))


def running(version: str) -> AbstractContextManager[None]:
    """Let ``version`` run inside a ``with`` block, whatever holds outside."""
    return backend.plain(version == "definition")
