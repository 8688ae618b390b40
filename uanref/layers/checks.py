"""Options are checked where they are given: each function returns its value, or raises a sentence that names it."""

from __future__ import annotations

import math
import operator
from typing import Any


def count(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int >= ``least``, or raise naming the argument.

    Raises:
        TypeError: not an integer.
        ValueError: too small.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return ``value`` as (down, across): a pair of integers >= ``least``, or one integer for both.

    Raises:
        TypeError: not an integer or a pair of integers.
        ValueError: too small.
    """
    if not isinstance(value, tuple | list):
        return count(name, value, least), count(name, value, least)
    if len(value) != 2:
        raise TypeError(f"{name} must be an integer or a pair of integers, got {value!r}")
    return count(name, value[0], least), count(name, value[1], least)


def number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return ``value`` as a finite float in [low, high] (or (low, high] with ``open_low``), or raise.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or out of range.
    """
    try:
        if isinstance(value, str | bool):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(found) or found < low or found > high or (open_low and found == low):
        span = f"{'> ' if open_low else '>= '}{low:g}" + (f" and <= {high:g}" if math.isfinite(high) else "")
        raise ValueError(f"{name} must be finite and {span}, got {found}")
    return found


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``options``, or raise ValueError naming them."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value
