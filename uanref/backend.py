"""The one module that knows both NumPy and CuPy.

Everything else asks ``xp = backend.namespace(x, w)`` and works on what it was given.
CuPy is imported when it is first needed, never at import time, so a machine
without it runs everything on NumPy.

Four settings live here as well, because they concern every layer: :func:`accumulating` (gradients add up
instead of being assigned), :func:`inference` (forward passes keep nothing for a backward pass), :func:`plain`
(definitions run as they are written, without the faster versions of :mod:`uanref.kernels`) and
:func:`limit_threads`. Each belongs to the thread that sets it: a thread or a pool that is started inside such a block
begins with the defaults, and its function enters the block itself (or runs in ``contextvars.copy_context()``).
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from uanref import diagnosis

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""An array of either backend. Type checkers see NumPy's class: CuPy's has the same interface."""

DType: TypeAlias = np.dtype[Any]
DTypeLike: TypeAlias = str | type | np.dtype[Any]
Generator: TypeAlias = np.random.Generator

BACKENDS = ("numpy", "cupy")
_DTYPES = frozenset(map(np.dtype, ("float32", "float64", "complex128")))


class BackendMismatch(TypeError):
    """Host and device arrays were mixed in one call."""


class BackendUnavailable(RuntimeError):
    """The requested backend cannot run here; the message says what is missing."""


_process_default = "numpy"
_context_default: contextvars.ContextVar[str | None] = contextvars.ContextVar("uanref_backend", default=None)
_accumulate: contextvars.ContextVar[bool] = contextvars.ContextVar("uanref_accumulating", default=False)
_inference: contextvars.ContextVar[bool] = contextvars.ContextVar("uanref_inference", default=False)
_plain: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "uanref_plain", default=os.environ.get("UANREF_PLAIN", "") not in ("", "0")
)
_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("uanref_threads", default=None)


# --- which backend ------------------------------------------------------------------------------


def name_of(array: object) -> str:
    """Return ``"numpy"`` or ``"cupy"``, whichever owns ``array``.

    Exactly ``numpy.ndarray`` and ``cupy.ndarray`` pass, and NumPy's scalars, which its reductions return. A subclass
    may compute something else under the same name: ``*`` multiplies matrices in ``numpy.matrix``, a masked array
    leaves entries out.

    Raises:
        TypeError: ``array`` is an array of neither, or of a subclass.
    """
    kind = type(array)
    if kind is np.ndarray or isinstance(array, np.generic):
        return "numpy"
    # If CuPy was never imported, no CuPy array can exist: do not import it just to look.
    cupy = sys.modules.get("cupy")
    if cupy is not None and kind is cupy.ndarray:
        return "cupy"
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            "expected a NumPy or CuPy array, got a masked array, whose mask would be lost: "
            "fill it with x.filled(...) or leave the samples out"
        )
    for owner in (np, cupy):
        if owner is not None and isinstance(array, owner.ndarray):
            raise TypeError(
                f"expected a NumPy or CuPy array, got {kind.__name__}, a subclass that may compute otherwise: "
                f"convert it with {owner.__name__}.asarray(x)"
            )
    raise TypeError(f"expected a NumPy or CuPy array, got {kind.__name__}: convert it first")


def module(name: str) -> Any:
    """Return the array module of backend ``name``.

    Raises:
        ValueError: no such backend.
        BackendUnavailable: ``"cupy"`` was asked for and cannot be imported.
    """
    if name == "numpy":
        return np
    if name != "cupy":
        raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}")
    try:
        import cupy
    except Exception as error:  # a broken CuPy raises more than ImportError
        raise BackendUnavailable(diagnosis.no_package(error)) from error
    return cupy


def namespace(*arrays: Array | None) -> Any:
    """Return the array module (``numpy`` or ``cupy``) that owns all ``arrays``.

    ``None`` entries are skipped; without any array this is the default backend's module.

    Raises:
        BackendMismatch: host and device arrays were mixed.
        TypeError: an argument is no array.
    """
    on_host = False
    for array in arrays:  # most calls have host arrays alone, and none of the rest to ask
        if type(array) is np.ndarray:
            on_host = True
        elif array is not None:
            break
    else:
        if on_host:
            return np
    names = {name_of(a) for a in arrays if a is not None}
    if len(names) > 1:
        raise BackendMismatch(
            "got arrays of both numpy (host) and cupy (device) in one call: move them to one backend "
            "with backend.to_host or backend.to_device, or the layer with layer.to(...)"
        )
    return module(names.pop() if names else current())


def current() -> str:
    """Return the name of the default backend: where new parameters and loaded data are created."""
    return _context_default.get() or _process_default


def use(name: str) -> None:
    """Make ``name`` the default backend of the whole process.

    Raises:
        ValueError: no such backend.
        BackendUnavailable: it cannot run here.
    """
    global _process_default
    require(name)
    _process_default = name


@contextlib.contextmanager
def using(name: str) -> Iterator[Any]:
    """Make ``name`` the default backend inside a ``with`` block; yields its array module.

    Raises:
        ValueError: no such backend.
        BackendUnavailable: it cannot run here.
    """
    require(name)
    token = _context_default.set(name)
    try:
        yield module(name)
    finally:
        _context_default.reset(token)


def require(name: str) -> None:
    """Check that backend ``name`` can run here.

    Raises:
        BackendUnavailable: it cannot run here; the message says why.
        ValueError: ``name`` is no backend.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}")
    usable, reason = available(name)
    if not usable:
        raise BackendUnavailable(reason)


def available(name: str) -> tuple[bool, str]:
    """Tell whether backend ``name`` can run here, and in one sentence what it is or what is missing."""
    if name == "numpy":
        return True, f"NumPy {np.__version__} on the CPU"
    if name != "cupy":
        return False, f"unknown backend {name!r}: expected one of {', '.join(BACKENDS)}"
    try:
        import cupy
    except Exception as error:
        return False, diagnosis.no_package(error)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return False, diagnosis.no_driver(cupy, error)
    if count == 0:
        return False, diagnosis.no_device(cupy)
    try:
        diagnosis.first_product(cupy)
    except Exception as error:
        return False, diagnosis.no_product(cupy, error)
    return True, f"CuPy {cupy.__version__} with {count} GPU{'s' if count > 1 else ''}"


# --- the transfer boundary ----------------------------------------------------------------------


def to_host(array: Array) -> Array:
    """Return ``array`` as a NumPy array; a host array comes back as it is. Copies and synchronizes on a device."""
    if name_of(array) == "numpy":
        return np.asarray(array)
    host: Array = module("cupy").asnumpy(array)
    return host


def to_device(array: Array, name: str | None = None) -> Array:
    """Return ``array`` on backend ``name`` (default: :func:`current`); an array already there is not copied."""
    name = current() if name is None else name
    if name_of(array) == name:
        return array
    if name == "numpy":
        return to_host(array)
    xp = module(name)
    try:
        moved: Array = xp.asarray(array)
    except Exception:  # asking first, as require() does, would make the device wait at every move
        require(name)
        raise
    return moved


def synchronize(name: str | None = None) -> None:
    """Wait until the device has done all queued work; nothing to wait for on NumPy. For timing."""
    if (current() if name is None else name) == "cupy":
        module("cupy").cuda.get_current_stream().synchronize()


# --- what NumPy and CuPy spell differently ------------------------------------------------------


def scatter_add(target: Array, indices: Any, values: Array) -> None:
    """``target[indices] += values`` in place, with repeated indices adding up (plain indexing loses them).

    ``indices`` must be in range: a device wraps bad ones silently, so validate on the host first.
    """
    namespace(target, values).add.at(target, indices, values)


def sliding_windows(
    x: Array, window: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> Array:
    """View the last two axes of ``x`` as sliding windows, without a copy.

    Args:
        x: ``(..., H, W)``, already padded.
        window: ``(kh, kw)``, each >= 1.
        stride: step between windows.
        dilation: step between the elements of one window.

    Returns:
        A read-only view ``(..., OH, OW, kh, kw)`` with
        ``OH = (H - dilation_h (kh - 1) - 1) // stride_h + 1`` and OW alike.

    Raises:
        ValueError: the window is larger than the image.
    """
    reach = tuple(d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True))
    if reach[0] > x.shape[-2] or reach[1] > x.shape[-1]:
        raise ValueError(
            f"a window that reaches over {reach[0]} x {reach[1]} elements does not fit into an image of "
            f"{x.shape[-2]} x {x.shape[-1]}: enlarge the padding or shrink the kernel"
        )
    positions = tuple((size - r) // s + 1 for size, r, s in zip(x.shape[-2:], reach, stride, strict=True))
    down, across = x.strides[-2:]
    steps = (down * stride[0], across * stride[1], down * dilation[0], across * dilation[1])
    # CuPy's sliding_window_view reads its window from the device, which waits; its as_strided has no `writeable`.
    read_only = {"writeable": False} if name_of(x) == "numpy" else {}
    view: Array = namespace(x).lib.stride_tricks.as_strided(
        x, (*x.shape[:-2], *positions, *window), (*x.strides[:-2], *steps), **read_only
    )
    return view


def erf(x: Array) -> Array:
    """The error function ``2/sqrt(pi) int_0^x exp(-t^2) dt``, elementwise; any shape, dtype kept."""
    y: Array = _special(x).erf(x)
    return y


def erfcx(x: Array) -> Array:
    """The scaled complementary error function ``exp(x^2) (1 - erf(x))``, elementwise; any shape, dtype kept.

    For x >= 0 it falls from 1 like ``1 / (sqrt(pi) x)``, where ``1 - erf(x)`` itself loses its digits.
    """
    y: Array = _special(x).erfcx(x)
    return y


def _special(x: Array) -> Any:
    """Return ``scipy.special`` or CuPy's; imported where it is needed, because either takes long."""
    if name_of(x) == "numpy":
        import scipy.special as special
    else:
        import cupyx.scipy.special as special
    return special


# --- dtypes -------------------------------------------------------------------------------------


def dtype_of(dtype: DTypeLike) -> DType:
    """Return ``dtype`` as a dtype object.

    Raises:
        TypeError: not a dtype, or none that a layer can compute in (float32, float64; complex128 is
            accepted for complex-step differentiation).
    """
    try:
        if dtype is None:  # which NumPy would take for float64
            raise TypeError
        made: DType = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"expected a dtype such as 'float32' or 'float64', got {dtype!r}") from error
    if made not in _DTYPES:
        raise TypeError(f"layers compute in float32 or float64, got {made}")
    return made


def check_float(claim: str, array: object) -> None:
    """Refuse what nothing here computes with: all but plain arrays of float32, float64 or complex128 (complex step).

    Half precision sums up wrongly without a sign of it, longer numbers exist on some machines only, and a byte order
    that is not the machine's is unknown to devices.

    Raises:
        TypeError: no array, a subclass, a scalar, or another dtype. The sentence about the last two starts with
            ``claim``, such as ``"a parameter must be floating point,"``.
    """
    if type(array) is not np.ndarray:
        name_of(array)
        if isinstance(array, np.generic):
            raise TypeError(f"{claim} got {array!r}, which is no array: make one with numpy.asarray(x)")
    if not is_float(array):  # type: ignore[arg-type]
        found = array.dtype  # type: ignore[attr-defined]
        raise TypeError(f"{claim} got {found}, expected float32 or float64: use x.astype('float32')")


def tiny(dtype: DTypeLike) -> float:
    """Return the smallest normal positive number of ``dtype`` (of its real part when complex)."""
    return float(np.finfo(dtype).tiny)


def largest(dtype: DTypeLike) -> float:
    """Return the largest number of ``dtype`` (of its real part when complex)."""
    return float(np.finfo(dtype).max)


def machine_eps(dtype: DTypeLike) -> float:
    """Return the spacing of ``dtype`` at 1 (of its real part when complex)."""
    return float(np.finfo(dtype).eps)


def wide(array: Array) -> DType:
    """Return the dtype to add up numbers of ``array``'s dtype in: float64, complex128 for complex numbers."""
    return np.dtype("complex128" if array.dtype.kind == "c" else "float64")


def is_float(array: Array) -> bool:
    """Tell whether ``array`` has a dtype that layers compute in (complex128 counts: complex step)."""
    return array.dtype in _DTYPES


# --- modes that concern every layer -------------------------------------------------------------


@contextlib.contextmanager
def accumulating() -> Iterator[None]:
    """Inside this block ``backward`` adds to ``parameter.grad``; outside it assigns."""
    token = _accumulate.set(True)
    try:
        yield
    finally:
        _accumulate.reset(token)


def is_accumulating() -> bool:
    """Tell whether gradients add up here."""
    return _accumulate.get()


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """Inside this block ``forward`` keeps nothing for a backward pass: for evaluation loops.

    It holds for the thread that enters it. A new thread, or a pool's, enters it in its own function, also when it is
    started inside this block::

        def predict(x):
            with backend.inference():
                return model.forward(x)
    """
    token = _inference.set(True)
    try:
        yield
    finally:
        _inference.reset(token)


def is_inference() -> bool:
    """Tell whether forward passes keep nothing here."""
    return _inference.get()


@contextlib.contextmanager
def plain(enabled: bool = True) -> Iterator[None]:
    """Inside this block every definition runs as it is written (True), or faster versions may serve (False).

    Faster versions (:mod:`uanref.kernels`) are the default on both backends; ``UANREF_PLAIN=1`` in the environment
    turns them off for a process. A forward pass and its backward pass may run under different settings.
    """
    token = _plain.set(enabled)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Tell whether faster versions are off here."""
    return _plain.get()


@contextlib.contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Let faster versions that this thread calls use at most ``count`` threads of the host, >= 1, inside this block."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def threads() -> int:
    """Return how many threads faster versions may use on the host: OMP_NUM_THREADS if set, else the usable cores.

    Of a list by nesting level, ``4,2``, the first entry counts; what is no number >= 1 counts as not set.
    """
    limit = _threads.get()
    if limit is not None:
        return limit
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if setting.isdecimal() and len(setting) < 10 and int(setting) > 0:
        return int(setting)
    return cores()


def quiet_underflow() -> np.errstate:
    """Inside this block, or function, a result too small for its dtype is rounded, whatever ``numpy.seterr`` says.

    It holds for this thread alone, as :func:`quiet` does.
    """
    return np.errstate(under="ignore")


def quiet() -> np.errstate:
    """Inside this block, or function, NumPy says nothing of overflow, invalid operations and their like."""
    return np.errstate(all="ignore")


def as_generator(rng: Generator | None) -> Generator:
    """Return ``rng``, or ``default_rng(0)`` for None: every random layer is reproducible by default.

    Raises:
        TypeError: ``rng`` is neither (a seed must be wrapped by the caller, visibly).
    """
    if rng is None:
        return np.random.default_rng(0)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator or None, got {type(rng).__name__}")
    return rng


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape for error messages, ``(8, 3, 28, 28)``."""
    return "(" + ", ".join(str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
