"""A layer in words: one line for ``repr``, a tree with counts for ``print``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from uanref.layers.parameter import Parameter
from uanref.layers.tree import held

if TYPE_CHECKING:
    from uanref.layers.layer import Layer

LINE = 60
"""Longest text of an option; what is longer is left out."""


def one_line(layer: Layer) -> str:
    """Return the class with its sizes, and with the options that are not the default: ``Linear(64, 10, bias=False)``.

    Options are read from attributes of the same names as the constructor's arguments; no array is shown.
    """
    shown = []
    for name, option in _options(type(layer)).items():
        value = getattr(layer, name, option.default)
        if value is None and option.default is True:  # bias=False leaves no bias
            value = False
        if isinstance(value, tuple) and len(set(map(str, value))) == 1 and len(value) == 2:  # 3 for (3, 3)
            value = value[0]
        if not _is_plain(value) or len(repr(value)) > LINE or value == option.default:
            continue
        shown.append(repr(value) if option.default is option.empty else f"{name}={value!r}")
    inside = len(list(layer.children()))
    if inside:
        shown.append(f"{inside} layer{'s' if inside > 1 else ''}")
    return f"{type(layer).__name__}({', '.join(shown)})"


def tree(layer: Layer) -> str:
    """Return a line for each layer, those inside indented, with its number of parameters; at last the total."""
    rows = list(_rows(layer, "", 0))
    width, digits = max(len(text) for text, _ in rows), max(len(number) for _, number in rows)
    dtypes = sorted({str(each.dtype) for _, each in layer.modules() if each.dtype is not None})
    lines = [f"{text:<{width}}  {number:>{digits}}" for text, number in rows]
    return "\n".join([*lines, f"total: {rows[0][1]} parameters{', ' + ', '.join(dtypes) if dtypes else ''}"])


def _rows(layer: Layer, name: str, depth: int) -> Iterator[tuple[str, str]]:
    trained = {id(p): p.size for _, each in layer.modules() for _, p in held(each, Parameter) if p.trainable}
    yield f"{'  ' * depth}{name}{': ' if name else ''}{one_line(layer)}", f"{sum(trained.values()):,}"
    for inner, child in layer.children():
        yield from _rows(child, inner, depth + 1)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _options(kind: type) -> dict[str, Any]:
    """Return the constructor's arguments whose values are plain: numbers, words, and tuples of them."""
    try:
        found = inspect.signature(kind).parameters
    except (TypeError, ValueError):  # a constructor of another language
        return {}
    return {
        name: option
        for name, option in found.items()
        if option.kind not in (option.VAR_POSITIONAL, option.VAR_KEYWORD) and name not in ("dtype", "rng")
    }
