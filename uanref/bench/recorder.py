"""What NumPy was asked for: one call after the other, with its time and how much it had to do."""

from __future__ import annotations

import builtins
import functools
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, TypeAlias

import numpy as np

from uanref.backend import Array

Kind: TypeAlias = Literal["product", "exp", "other"]

PRODUCTS = frozenset({"matmul", "dot", "vecdot", "imatmul"})
EXPONENTIALS = frozenset({"exp", "exp2", "expm1", "log", "log1p", "log2", "tanh", "pow", "power", "erf", "erfcx"})
VIEWS = frozenset(
    {"reshape", "view", "swapaxes", "transpose", "squeeze", "broadcast_to", "asarray", "ascontiguousarray", "astype"}
)
"""What may do nothing but look at an array in another way, which counts as Python's."""
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "matmul": "@", "iadd": "+=", "isub": "-="}
SYMBOLS |= {"imul": "*=", "itruediv": "/=", "iand": "&=", "ior": "|=", "gt": ">", "neg": "-x", "invert": "~x"}

_clock = time.perf_counter


@dataclass(frozen=True)
class Call:
    """One call of NumPy.

    Attributes:
        site: file and line.
        name: of the function; of an operator in Python's spelling.
        kind: what bounds it: a product of matrices or vectors, exponentials and the like, or its bytes.
        numbers: the size of the largest array in it.
        bytes: of the different arrays in it, each counted once; 0 where memory is only asked for.
        operations: multiplications and additions of a product.
        seconds: it took, without the recorder.
    """

    site: str
    name: str
    kind: Kind
    numbers: int
    bytes: int
    operations: float
    seconds: float


class Recorder:
    """Calls what it is asked to, see :func:`uanref.bench.instrument.instrumented`, and keeps what NumPy was asked.

    It keeps numbers alone, no array: a buffer that goes is as free as without it.

    Attributes:
        calls: what was asked for, in order.
        own: seconds that the clock shows for a call that does nothing, taken off each.
    """

    operator = operator
    slice = builtins.slice

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.own = 0.0
        self.own = own_seconds(self)

    def __call__(self, site: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` and return what it returns."""
        start = _clock()
        result = function(*args, **kwargs)
        took = _clock() - start
        if _is_numpy(function):
            on = getattr(function, "__self__", None)
            arrays = (*args, *kwargs.values(), on) if isinstance(on, np.ndarray) else (*args, *kwargs.values())
            self._keep(site, getattr(function, "__name__", "?"), arrays, result, took)
        return result

    def getitem(self, site: str, value: Any, index: Any, /) -> Any:
        """Return ``value[index]``; a view of an array counts for nothing."""
        start = _clock()
        result = value[index]
        took = _clock() - start
        if type(value) is np.ndarray and type(result) is np.ndarray and result.base is None:
            self._keep(site, "x[i]", (), result, took)
        return result

    def setitem(self, site: str, value: Any, index: Any, given: Any, /) -> None:
        """``value[index] = given``."""
        start = _clock()
        value[index] = given
        took = _clock() - start
        if type(value) is np.ndarray:
            self._keep(site, "x[i] =", (given,), value[index], took)

    def augment(self, site: str, function: Callable[..., Any], value: Any, index: Any, given: Any, /) -> None:
        """``value[index] += given`` and the like."""
        start = _clock()
        value[index] = function(value[index], given)
        took = _clock() - start
        if type(value) is np.ndarray:
            name = function.__name__
            self._keep(site, f"x[i] {SYMBOLS.get(name, name)}", (given,), value[index], took)

    def _keep(self, site: str, name: str, arguments: tuple[Any, ...], result: Any, took: float) -> None:
        given = [one for one in arguments if isinstance(one, np.ndarray)]
        made = [result] if isinstance(result, np.ndarray) else []
        if not given and not made:
            return
        if name in VIEWS and made and given and np.may_share_memory(result, given[0]):
            return
        arrays = list({id(one): one for one in (*given, *made)}.values())
        kind: Kind = "product" if name in PRODUCTS else "exp" if name in EXPONENTIALS else "other"
        moved = 0 if name in ("empty", "empty_like") else sum(one.nbytes for one in arrays)
        numbers = max(one.size for one in arrays)
        seconds = max(0.0, took - self.own)
        work = _operations(name, given, result) if kind == "product" else 0.0
        self.calls.append(Call(site, SYMBOLS.get(name, name), kind, numbers, moved, work, seconds))


def own_seconds(recorder: Recorder) -> float:
    """Return what the recorder's clock shows for a call that does nothing: the least of many."""
    empty: Callable[..., Any] = operator.is_
    found = []
    for _ in range(200):
        start = _clock()
        empty(None, None)
        found.append(_clock() - start)
    return min(found)


def _operations(name: str, given: list[Array], result: Any) -> float:
    if name == "vecdot":
        return 2.0 * max(one.size for one in given)
    return 2.0 * int(np.size(result)) * int(given[0].shape[-1])


def _is_numpy(function: Any) -> bool:
    if isinstance(function, np.ufunc):
        return True
    if isinstance(getattr(function, "__self__", None), np.ndarray | np.ufunc):
        return True
    return _is_listed(function) if function.__class__ in _PLAIN else False


_PLAIN = (type(len), type(np.concatenate), FunctionType)


@functools.lru_cache(maxsize=1024)
def _is_listed(function: Any) -> bool:
    """Tell whether a function is NumPy's, an operator or ``abs``."""
    module = getattr(function, "__module__", None) or ""
    return function is abs or module.partition(".")[0] in ("numpy", "_operator")
