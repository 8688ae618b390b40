"""What a field of a checkpoint's text can be: small checks, from which ``header`` builds its table."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from uanref.training.archive import CheckpointError

_LARGEST = 1.7976931348623157e308  # of float64: JSON knows no bound

Check: TypeAlias = Callable[[str, Any], None]
"""``check(field, value)`` raises a CheckpointError whose sentence starts with the field's dotted name."""


def whole(least: int = 0, most: int | None = 2**53) -> Check:
    """Accept an integer in [least, most], booleans not among them; None as ``most`` accepts any size."""
    span = f"a whole number >= {least}" + ("" if most is None else f" and <= {most}")

    def check(field: str, value: Any) -> None:
        if type(value) is not int or value < least or (most is not None and value > most):
            refuse(field, span, value)

    return check


def real(low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False) -> Check:
    """Accept a finite number in [low, high]; without ``low`` itself if ``above``, without ``high`` if ``below``."""
    span = "a finite number"
    span += f" {'>' if above else '>='} {low:g}" if low > -math.inf else ""
    span += f" and {'<' if below else '<='} {high:g}" if high < math.inf else ""

    def check(field: str, value: Any) -> None:
        good = type(value) in (int, float) and abs(value) <= _LARGEST and low <= value <= high
        if not good or (above and value == low) or (below and value == high):
            refuse(field, span, value)

    return check


def one_of(*choices: str) -> Check:
    """Accept one of some words."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            refuse(field, f"one of {', '.join(choices)}", value)

    return check


def text(field: str, value: Any) -> None:
    """Accept a string."""
    if not isinstance(value, str):
        refuse(field, "a text", value)


def flag(field: str, value: Any) -> None:
    """Accept true and false."""
    if not isinstance(value, bool):
        refuse(field, "true or false", value)


def anything(field: str, value: Any) -> None:
    """Accept whatever JSON can say."""


def nothing_or(check: Check) -> Check:
    """Accept null, too."""
    return lambda field, value: None if value is None else check(field, value)


def many(check: Check, length: int | None = None) -> Check:
    """Accept a list whose entries pass ``check``, ``length`` of them."""

    def check_all(field: str, value: Any) -> None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            refuse(field, "a list" + ("" if length is None else f" of {length}"), value)
        for i, entry in enumerate(value):
            check(f"{field}[{i}]", entry)

    return check_all


def named(check: Check) -> Check:
    """Accept an object with any names, whose values pass ``check``."""

    def check_all(field: str, value: Any) -> None:
        if not isinstance(value, dict):
            refuse(field, "an object", value)
        for name, entry in value.items():
            check(f"{field}.{name}", entry)

    return check_all


def record(**fields: Check) -> Check:
    """Accept an object with exactly these fields."""

    def check_all(field: str, value: Any) -> None:
        if not isinstance(value, dict):
            refuse(field, f"an object with {', '.join(fields) or 'nothing in it'}", value)
        owner = f" in {field}" if field else ""
        if missing := [name for name in fields if name not in value]:
            raise CheckpointError(f"lacks {', '.join(missing)}{owner}: it is damaged")
        if unknown := [name for name in value if name not in fields]:
            raise CheckpointError(f"holds {short(unknown[0])}{owner}, which this uanref does not know")
        for name, check in fields.items():
            check(f"{field}.{name}" if field else name, value[name])

    return check_all


def kinds(tag: str, **records: Mapping[str, Check]) -> Check:
    """Accept an object whose field ``tag`` says which other fields it has."""
    checks = {kind: record(**{tag: text}, **fields) for kind, fields in records.items()}

    def check(field: str, value: Any) -> None:
        kind = value.get(tag, "") if isinstance(value, dict) else refuse(field, "an object", value)
        if kind is None:  # a function or class of the reader's, who passes it again
            record(**{tag: nothing_or(text), "name": text})(field, value)
            return
        one_of(*checks)(f"{field}.{tag}", kind)
        checks[kind](field, value)

    return check


def refuse(field: str, expected: str, value: Any) -> Any:
    """Raise a CheckpointError that names the field, what stands there and what is ``expected``."""
    raise CheckpointError(f"holds {short(value)} as {field or 'header'}, expected {expected}")


def short(value: Any) -> str:
    """Return ``value`` as JSON shows it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to print the longest
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    return reprlib.repr(value)
