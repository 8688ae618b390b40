"""The posteriors of a pending pass, kept from its forward for its backward where they are small.

Nothing depends on it: whoever finds nothing here computes the posteriors again. What a forward pass keeps lies here
under the moments that it normalized with, which live exactly as long as the pass does, and goes with them. It is
served to a caller that has these very moments, x and mixture, as objects: neither a copy of a layer nor arrays that
look alike are taken for them.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

from uanref import backend
from uanref.backend import Array

# The posteriors of one pass may take this much; larger ones are computed again in every walk.
LIMIT_BYTES = 8 << 20


class _Entry(NamedTuple):
    known_by: tuple[weakref.ref[Array], ...]
    posteriors: list[Array | None]


_kept: dict[int, _Entry] = {}


def fits(posteriors: int, x: Array) -> bool:
    """Return whether so many numbers of ``x``'s dtype may be kept: on the host, up to :data:`LIMIT_BYTES`."""
    return backend.name_of(x) == "numpy" and posteriors * x.dtype.itemsize <= LIMIT_BYTES


def keep(posteriors: list[Array | None], moments: Array, *given: Array) -> None:
    """Keep a pass's posteriors for as long as ``moments``, one of its own arrays, lives."""
    key = id(moments)
    known_by = weakref.ref(moments, lambda _: _kept.pop(key, None)), *map(weakref.ref, given)
    _kept[key] = _Entry(known_by, posteriors)


def recall(moments: Array, *given: Array) -> list[Array | None] | None:
    """Return what :func:`keep` was given with these very arrays, or None."""
    entry = _kept.get(id(moments))
    if entry is None or any(ref() is not a for ref, a in zip(entry.known_by, (moments, *given), strict=True)):
        return None
    return entry.posteriors


def forget(moments: Array) -> None:
    """Free what is kept under ``moments``: its backward pass is done."""
    _kept.pop(id(moments), None)
