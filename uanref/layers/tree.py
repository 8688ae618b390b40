"""What an object holds in its attributes, also in lists, tuples and dicts: how parameters get their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def held(owner: object, kind: type[T]) -> Iterator[tuple[str, T]]:
    """Yield each ``kind`` in the attributes of ``owner`` with its name: ``body``, ``blocks.0``, ``heads.left.1``.

    What waits for a backward pass (``_pending``) is not looked at.

    Raises:
        TypeError: one stands in a set, which has no order, so that it could have no name.
    """
    for name, value in vars(owner).items():
        if name != "_pending":
            yield from _inside(name, value, kind, type(owner).__name__)


def _inside(name: str, value: Any, kind: type[T], owner: str) -> Iterator[tuple[str, T]]:
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _inside(f"{name}.{i}", entry, kind, owner)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _inside(f"{name}.{key}", entry, kind, owner)
    elif isinstance(value, set | frozenset) and any(isinstance(entry, kind) for entry in value):
        raise TypeError(f"{owner}.{name} is a set, whose entries have no names: keep layers and parameters in a list")
