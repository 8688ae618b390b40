"""Arguments may lie in memory in any order, and nobody writes into them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.subject import Subject, call, same


def fortran(array: Array) -> Array:
    """Return a copy whose first axis runs fastest."""
    return np.asfortranarray(array.copy())


def strided(array: Array) -> Array:
    """Return a view of every second entry of a larger array, along every axis; NaN lies between."""
    larger = np.full([2 * length for length in array.shape], np.nan, dtype=array.dtype)
    view: Array = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def reversed_(array: Array) -> Array:
    """Return a view that runs backwards through memory, along every axis."""
    turn = tuple(slice(None, None, -1) for _ in array.shape)
    view: Array = array[turn].copy()[turn]
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran-ordered": fortran,
    "non-contiguous": strided,
    "reversed": reversed_,
}


def any_order_of_memory(subject: Subject) -> str:
    """Arguments may lie in memory in any order."""
    expected = subject.reference(subject.x, subject.dy)
    for kind, laid in LAYOUTS.items():
        for which in ("x", "dy", "x and dy"):
            x = laid(subject.x) if "x" in which else subject.x.copy()
            dy = laid(subject.dy) if "dy" in which else subject.dy.copy()
            wrong = subject.differs(call(subject.new(), x, dy), expected, subject.dy)
            if wrong:
                return f"with a {kind} {which} {wrong}: index and reshape, never assume the order of memory"
    return ""


def broadcast_upstream_gradients(subject: Subject) -> str:
    """``dy`` may be a broadcast view, as the gradient of a mean is: its strides are 0."""
    for axis in range(subject.dy.ndim):
        row = subject.dy.take([0], axis=axis)
        dy = np.broadcast_to(row, subject.dy.shape)
        wrong = subject.differs(call(subject.new(), subject.x.copy(), dy), subject.reference(subject.x, dy), dy)
        if wrong:
            return f"with a dy that is broadcast along axis {axis} {wrong}: index it, never assume its strides"
    return ""


def arguments_are_not_written_to(subject: Subject) -> str:
    """``x`` and ``dy`` belong to the caller; so do the parameters' values, which an optimizer alone moves."""
    layer, x, dy = subject.new(), subject.x.copy(), subject.dy.copy()
    values = {name: parameter.value for name, parameter in layer.parameters().items()}
    before = {name: value.copy() for name, value in values.items()}
    y = layer.forward(x)
    if not same(x, subject.x):
        return "forward writes into x: compute into a new array"
    kept = y.copy()
    # A forward pass may move what it trains (UANPublic does, as its authors wrote it); a backward pass may not.
    moved = {name: parameter.value.copy() for name, parameter in layer.parameters().items()}
    layer.backward(dy)
    if not same(dy, subject.dy):
        return "backward writes into dy: compute into a new array"
    if not same(x, subject.x):
        return "backward writes into x: compute into a new array"
    if not same(y, kept):
        return "backward writes into the y that forward returned: compute into a new array"
    for name, value in values.items():
        if not same(value, before[name]):
            return f"a pass writes into the value of {name}: assign a new array"
    for name, parameter in layer.parameters().items():
        if not same(parameter.value, moved[name]):
            return f"backward moves {name}: an optimizer moves what is trained"
    x.flags.writeable = dy.flags.writeable = False
    wrong = subject.differs(call(subject.new(), x, dy), subject.reference(subject.x, subject.dy), dy)
    return f"with read-only x and dy {wrong}" if wrong else ""
