"""The ways to differentiate numerically: central differences, slopes on either side, the complex step."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.exceptions import ComplexWarning

from uanref import backend
from uanref.backend import Array

STEPS = (1e-3, 1e-4, 1e-5)
COMPLEX_STEP = 1e-30


class ImaginaryPartLost(ArithmeticError):
    """A complex step met code that dropped the imaginary part (a real buffer, ``abs``, a cast to float)."""


def direction(shape: Sequence[int], seed: int | Sequence[int]) -> Array:
    """Return a direction of ``shape`` with entries uniform in [-1, 1], a host array; the same for the same seed."""
    drawn: Array = np.random.default_rng(seed).uniform(-1.0, 1.0, tuple(shape))
    return drawn


def upstream(shape: Sequence[int], seed: int) -> Array:
    """Return the upstream gradient that a check with ``seed`` uses, standard normal, a host array.

    Not ``default_rng(seed)``'s first numbers: whoever draws x from those would get dy proportional to x, a
    normalization's dx near 0, and a check that sees little.
    """
    drawn: Array = np.random.default_rng([seed, 0xD7]).standard_normal(tuple(shape))
    return drawn


# --- differences ----------------------------------------------------------------------------------


def central_difference(function: Callable[[Array], Any], x: Array, along: Array, step: float = STEPS[0]) -> Any:
    """Return d/dt function(x + t along) at t = 0 by the fourth-order central difference.

    .. math:: f'(0) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / (12 h) + O(h^4)

    Args:
        function: takes an array of x's shape, returns a number or an array.
        x: the point, any shape.
        along: the direction, same shape.
        step: h > 0.
    """
    ahead, behind, far_ahead, far_behind = (function(x + t * along) for t in (step, -step, 2 * step, -2 * step))
    return _fourth_order(ahead, behind, far_ahead, far_behind, step)


@dataclass(frozen=True)
class Slopes:
    """How every output changes along a line, measured with one step h: three arrays of y's shape."""

    step: float
    central: Array  # error O(h^4)
    left: Array  # error O(h^2), as on the right
    right: Array


def slopes(output: Callable[[float], Array], here: Array, step: float) -> Slopes:
    """Differentiate ``output(t)`` at t = 0, where it is ``here``: in the middle, from the left and from the right.

    .. math:: r = (4 (f(h) - f(0)) - (f(2h) - f(0))) / (2 h)

    on the right, and on the left with -h for h.
    """
    ahead, behind, far_ahead, far_behind = (output(t) - here for t in (step, -step, 2 * step, -2 * step))
    return Slopes(
        step,
        central=_fourth_order(ahead, behind, far_ahead, far_behind, step),
        left=(far_behind - 4 * behind) / (2 * step),
        right=(4 * ahead - far_ahead) / (2 * step),
    )


def _fourth_order(ahead: Any, behind: Any, far_ahead: Any, far_behind: Any, step: float) -> Any:
    return (8 * (ahead - behind) - (far_ahead - far_behind)) / (12 * step)


# --- the complex step -----------------------------------------------------------------------------


def complex_step(function: Callable[[Array], Any], x: Array, along: Array, step: float = COMPLEX_STEP) -> Any:
    """Return d/dt function(x + t along) at t = 0 as ``Im function(x + i step along) / step``.

    Exact to rounding for analytic functions (Squire & Trapp 1998): nothing is subtracted, so the
    step may be far below rounding.

    Args:
        function: analytic; takes a complex128 array of x's shape, returns a number or an array.
        x: the real point, any shape.
        along: the real direction, same shape.
        step: h > 0.

    Raises:
        ImaginaryPartLost: the function discarded an imaginary part (NumPy's ComplexWarning) or returned a real number.
    """
    with _no_loss():
        value = function(x + (1j * step) * along)
    if getattr(value, "dtype", np.dtype(type(value))).kind != "c":
        raise ImaginaryPartLost("the complex step got a real result back: some buffer on the way is real")
    return value.imag / step


class _Filter:
    """The process's warning filter that makes an error of a discarded imaginary part, there while any check needs it.

    ``warnings.catch_warnings`` gives back the filters that it found: of two threads that overlap, the later one leaves
    the other's behind for ever.
    """

    anything = "(?s:.*)"  # a pattern of its own: no rule of the caller's equals this one

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.lists: list[Any] = []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self.lock:
            self.users += 1
            warnings.filterwarnings("error", self.anything, ComplexWarning)
            self.lists.append(warnings.filters)
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    for filters in (*self.lists, warnings.filters):
                        filters[:] = [rule for rule in filters if getattr(rule[1], "pattern", "") != self.anything]
                    self.lists.clear()


_filter = _Filter()


@contextlib.contextmanager
def _no_loss() -> Iterator[None]:
    """Turn NumPy's warning about a discarded imaginary part into :class:`ImaginaryPartLost`."""
    with _filter.held():
        try:
            yield
        except ComplexWarning as warning:
            raise ImaginaryPartLost(f"the complex step lost its imaginary part: {warning}") from warning
        except TypeError as error:
            # ufuncs with a real `out` refuse the cast instead of warning; real-only functions refuse the input.
            if "complex" not in str(error) or isinstance(error, backend.BackendMismatch):
                raise
            raise ImaginaryPartLost(f"the complex step met code for real numbers only: {error}") from error
