"""The strict double: CuPy's manners over NumPy's arithmetic, to run device code without a GPU.

``with strict() as device:`` puts a module in place of ``cupy`` whose arrays live in host memory but behave as
device arrays do:

- only names that the *installed* CuPy has exist, and calls must fit CuPy's own signatures (no ``where=`` in
  a reduction, no ``initial=``, no keyword of a ufunc but out, dtype and casting);
- a device array never turns into a host array by itself, and host and device arrays do not mix;
- reductions return 0-d device arrays, never Python numbers;
- indexing by a boolean mask (which makes a GPU wait) and by host arrays or lists (which copies silently) is refused;
- copies each way and synchronizations are counted, and refused inside ``device.sealed()``.

It is stricter than CuPy where CuPy is merely slow. It runs no kernels, so those that are CUDA serve nothing here: what
it judges is array code, the definitions' and that of ``kernels/cpu``. It needs ``import cupy``, no driver.

What it cannot see: rounding of a GPU, order of parallel sums, the number of launches.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import types
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


class Refused(TypeError):
    """The code under test did what a device cannot do, or can only do by waiting."""


class HostAccess(AssertionError):
    """A value left the device inside ``device.sealed()``."""


@dataclass
class Device:
    """What crossed the boundary since the double was put in place.

    Attributes:
        to_device: copies from host to device.
        to_host: copies from device to host.
        syncs: reads of single values: ``float()``, ``bool()``, ``item``, ``print``, ``nonzero`` ...
    """

    to_device: int = 0
    to_host: int = 0
    syncs: int = 0
    _sealed: bool = False

    @contextlib.contextmanager
    def sealed(self) -> Iterator[None]:
        """Refuse copies to the host and synchronizations inside this block."""
        before, self._sealed = self._sealed, True
        try:
            yield
        finally:
            self._sealed = before

    def _copied_to_host(self) -> None:
        self.to_host += 1
        self._refuse("a copy from device to host")

    def _waited(self, what: str) -> None:
        self.syncs += 1
        self._refuse(f"{what}, which waits for the device")

    def _refuse(self, what: str) -> None:
        if self._sealed:
            raise HostAccess(f"{what} where the device was to be left alone")


# --- arrays ---------------------------------------------------------------------------------------


class DeviceArray:
    """A device array: a NumPy array that only :meth:`get` gives out. Views share memory as in CuPy."""

    __slots__ = ("_host",)
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    # Leaving the device, aloud.

    def get(self, stream: object = None, order: str = "C", out: object = None, blocking: bool = True) -> np.ndarray:
        _device()._copied_to_host()
        return self._host.copy()

    def item(self) -> Any:
        _device()._waited("item()")
        return self._host.item()

    def tolist(self) -> Any:
        _device()._waited("tolist()")
        return self._host.tolist()

    def __float__(self) -> float:
        _device()._waited("float()")
        return float(self._host)

    def __int__(self) -> int:
        _device()._waited("int()")
        return int(self._host)

    def __index__(self) -> int:
        _device()._waited("use as an index or a length")
        return self._host.__index__()

    def __complex__(self) -> complex:
        _device()._waited("complex()")
        return complex(self._host)

    def __bool__(self) -> bool:
        _device()._waited("bool()")
        return bool(self._host)

    def __repr__(self) -> str:
        _device()._waited("printing")
        return repr(self._host)

    def __format__(self, spec: str) -> str:
        _device()._waited("formatting")
        return format(self._host, spec)

    # Leaving the device silently is refused; NumPy functions find the way to their CuPy counterparts.

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise Refused(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        ours = getattr(sys.modules["cupy"], ufunc.__name__)
        if method == "__call__":
            return ours(*inputs, **kwargs)
        if method == "at":
            return ours.at(*inputs, **kwargs)
        return NotImplemented

    def __array_function__(self, func: Callable[..., Any], kinds: object, args: tuple[Any, ...], kwargs: Any) -> Any:
        return getattr(sys.modules["cupy"], func.__name__)(*args, **kwargs)

    # What stays on the device.

    def __getitem__(self, index: Any) -> Any:
        return _wrap(self._host[_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[_index(index)] = _unwrap(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        return (_wrap(row) for row in self._host)

    def __copy__(self) -> DeviceArray:
        return DeviceArray(self._host.copy())

    def __deepcopy__(self, memo: object) -> DeviceArray:
        return DeviceArray(self._host.copy())

    def __getattr__(self, name: str) -> Any:
        theirs = getattr(_state.real.ndarray, name, None)
        if theirs is None or name.startswith("__") or name in ("data", "base", "set"):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r} (in the strict double)")
        ours = getattr(self._host, name)
        return _checked(ours, theirs, name) if callable(ours) else _wrap(ours)


def _operator(name: str) -> Callable[..., Any]:
    """Return the operator method ``name`` with CuPy's rule: device arrays and scalars only."""

    def apply(self: DeviceArray, *others: Any) -> Any:
        result = getattr(self._host, name)(*(_operand(other) for other in others))
        if result is NotImplemented:
            return result
        return self if result is self._host else _wrap(result)

    apply.__name__ = name
    return apply


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
for _name in (*_BINARY, "lt", "le", "gt", "ge", "eq", "ne"):
    for _prefix in ("", "r", "i"):
        if hasattr(np.ndarray, f"__{_prefix}{_name}__"):
            setattr(DeviceArray, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))


def _wrap(value: Any) -> Any:
    """Put results on the device: arrays, and NumPy's scalars as 0-d arrays, inside tuples and lists too."""
    if isinstance(value, np.ndarray):
        return DeviceArray(value)
    if isinstance(value, np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(_wrap(entry) for entry in value)
    return value


def _unwrap(value: Any) -> Any:
    """Take the host arrays out of arguments; refuse an argument that was a host array to begin with."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise Refused("Unsupported type <class 'numpy.ndarray'>: host and device arrays do not mix")
    if isinstance(value, tuple | list):
        return type(value)(_unwrap(entry) for entry in value)
    return value


def _operand(value: Any) -> Any:
    """Like :func:`_unwrap` for operands of operators and ufuncs, which take no lists."""
    if isinstance(value, tuple | list):
        raise Refused(f"Unsupported type {type(value)}")
    return _unwrap(value)


def _index(index: Any) -> Any:
    """Take an index apart; refuse what waits (masks) or copies silently (host arrays, lists)."""
    if isinstance(index, tuple):
        return tuple(_index(entry) for entry in index)
    if isinstance(index, np.ndarray | list):
        raise Refused(f"an index of type {type(index).__name__} is copied to the device silently: move it first")
    if isinstance(index, DeviceArray):
        if index._host.dtype == bool:
            raise Refused("indexing by a boolean mask waits for the device: multiply by the mask or use where(c, a, b)")
        return index._host
    return index


# --- functions --------------------------------------------------------------------------------------

_WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress", "trim_zeros", "sliding_window_view"}
_UFUNC_KEYWORDS = {"out", "dtype", "casting"}


def _checked(ours: Callable[..., Any], theirs: Any, name: str) -> Callable[..., Any]:
    """Return NumPy's ``ours`` under the name and signature of CuPy's ``theirs``."""
    signature, is_ufunc = _signature(theirs), isinstance(theirs, _state.real.ufunc)
    is_method = not inspect.isroutine(theirs) or isinstance(theirs, types.MethodDescriptorType)

    @functools.wraps(ours, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_ufunc and set(kwargs) - _UFUNC_KEYWORDS:
            raise Refused(f"Wrong arguments {sorted(set(kwargs) - _UFUNC_KEYWORDS)} for cupy.{name}")
        if signature is not None:
            try:
                signature.bind(*((None, *args) if is_method and not is_ufunc else args), **kwargs)
            except TypeError as error:
                raise Refused(f"cupy's {name}{signature}: {error}") from None
        if name in _WAITING or (name == "where" and len(args) + len(kwargs) == 1):
            _device()._waited(name)
        take = _operand if is_ufunc else _unwrap
        return _wrap(ours(*(take(a) for a in args), **{key: take(value) for key, value in kwargs.items()}))

    if is_ufunc and hasattr(theirs, "at"):
        call.at = functools.partial(_at, ours, name)  # type: ignore[attr-defined]
    return call


def _at(ours: Any, name: str, target: DeviceArray, index: Any, *values: Any) -> None:
    """``ufunc.at``, for the few ufuncs that CuPy has it for."""
    if name not in ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"):
        raise Refused(f"cupy.{name}.at is not supported")
    ours.at(_operand(target), _index(index), *(_operand(value) for value in values))


@functools.cache
def _signature(theirs: Any) -> inspect.Signature | None:
    """Return CuPy's signature; for compiled methods the one in the first line of their documentation."""
    if isinstance(theirs, _state.real.ufunc):
        return None
    try:
        return inspect.signature(theirs)
    except (TypeError, ValueError):
        pass
    found = re.match(r"\w+\.\w+\((.*)\)(?: -> .*)?$", (theirs.__doc__ or "").split("\n")[0])
    if found is None:
        return None
    parameters, keyword_only = [], False
    for text in found.group(1).split(", "):
        name, _, default = text.partition("=")
        kind = inspect.Parameter.KEYWORD_ONLY if keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        if name.startswith("*"):
            kind, keyword_only = inspect.Parameter.VAR_POSITIONAL, True
        empty = inspect.Parameter.empty
        parameters.append(inspect.Parameter(name.lstrip("*").split()[-1], kind, default=default or empty))
    return inspect.Signature(parameters)


# --- modules ----------------------------------------------------------------------------------------


class _Module(types.ModuleType):
    """A module that offers NumPy's functions under the names that CuPy's module has."""

    def __init__(self, name: str, numpys: Any, cupys: Any) -> None:
        super().__init__(name)
        self._numpys, self._cupys = numpys, cupys

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._cupys, name):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        theirs = getattr(self._cupys, name)
        if isinstance(theirs, types.ModuleType):
            return _Module(f"{self.__name__}.{name}", getattr(self._numpys, name, None), theirs)
        ours = getattr(self._numpys, name, None)
        if isinstance(theirs, type) and ours is not theirs:  # kernels, streams, pools: no counterpart on a host
            raise NotImplementedError(f"the strict double has no {self.__name__}.{name}")
        if isinstance(theirs, type) or not callable(theirs):
            return theirs
        if ours is None:
            raise NotImplementedError(f"the strict double has no {self.__name__}.{name}: NumPy has no such function")
        return _checked(ours, theirs, name)


def _asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> DeviceArray:
    if isinstance(a, DeviceArray):
        return a if (dtype is None or a.dtype == dtype) and not copy else DeviceArray(np.array(a._host, dtype=dtype))
    _device().to_device += 1
    return DeviceArray(np.array(a, dtype=dtype))


def _array(obj: Any, dtype: Any = None, copy: bool = True, **options: Any) -> DeviceArray:
    return _asarray(obj, dtype, copy=copy)


def _asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get() if isinstance(a, DeviceArray) else np.asarray(a)


def _cuda() -> types.ModuleType:
    """What the package asks of ``cupy.cuda``: one device, one stream."""
    cuda, runtime = types.ModuleType("cupy.cuda"), types.ModuleType("cupy.cuda.runtime")
    runtime.getDeviceCount = lambda: 1  # type: ignore[attr-defined]
    stream = types.SimpleNamespace(synchronize=lambda: _device()._waited("synchronize()"))
    cuda.runtime, cuda.get_current_stream = runtime, lambda: stream  # type: ignore[attr-defined]
    return cuda


@dataclass
class _State:
    real: Any = None  # the installed cupy
    device: Device | None = None


_state = _State()


def _device() -> Device:
    assert _state.device is not None, "a device array of the strict double is used after `with strict()` ended"
    return _state.device


@contextlib.contextmanager
def strict() -> Iterator[Device]:
    """Put the double in the place of ``cupy`` and ``cupyx.scipy.special``; yields the :class:`Device` that counts."""
    import cupy
    import cupyx.scipy.special
    import scipy.special

    assert not isinstance(cupy, _Module), "the strict double is in place already"
    double = _Module("cupy", np, cupy)
    double.__version__ = cupy.__version__
    double.ndarray = DeviceArray  # type: ignore[attr-defined]
    double.asarray, double.array, double.asnumpy = _asarray, _array, _asnumpy  # type: ignore[attr-defined]
    double.cuda = _cuda()  # type: ignore[attr-defined]
    cupyx_double, cupyx_scipy = types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")
    special = _Module("cupyx.scipy.special", scipy.special, cupyx.scipy.special)
    cupyx_double.scipy, cupyx_scipy.special = cupyx_scipy, special  # type: ignore[attr-defined]
    stand_ins = {
        "cupy": double,
        "cupyx": cupyx_double,
        "cupyx.scipy": cupyx_scipy,
        "cupyx.scipy.special": special,
    }
    before = {name: sys.modules[name] for name in stand_ins}
    _state.real, _state.device = cupy, Device()
    sys.modules.update(stand_ins)
    try:
        with unittest.mock.patch("uanref.kernels.cuda.launch._is_here", return_value=False):
            yield _state.device
    finally:
        sys.modules.update(before)
        _state.device = None
