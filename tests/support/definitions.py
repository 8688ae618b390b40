"""What a definition gives by itself: on the host, in double precision, without faster versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from uanref import backend


def is_array(argument: Any) -> bool:
    """Tell whether ``argument`` is an array of either backend."""
    return hasattr(argument, "dtype") and hasattr(argument, "strides")


def changed(argument: Any, change: Callable[[Any], Any]) -> Any:
    """Apply ``change`` to every array in an argument, also inside a named tuple."""
    if is_array(argument):
        return change(argument)
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return type(argument)(*(changed(part, change) for part in argument))
    return argument


def widened(array: Any) -> np.ndarray:
    """Copy to the host, floating-point numbers in double precision."""
    host = backend.to_host(array)
    return host.astype("float64") if host.dtype.kind == "f" else host.copy()


def results(outcome: Any) -> list[np.ndarray]:
    """Return the arrays of an outcome, on the host."""
    given = outcome if isinstance(outcome, tuple) else (outcome,)
    return [backend.to_host(array) for array in given if array is not None]


def exactly(definition: Callable[..., Any], *arguments: Any, **keywords: Any) -> list[np.ndarray]:
    """Return the arrays that a definition gives for the very same numbers in float64 on the host."""
    with backend.plain():
        return results(definition(*(changed(argument, widened) for argument in arguments), **keywords))
