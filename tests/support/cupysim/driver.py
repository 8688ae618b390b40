"""The CUDA driver, as far as CuPy's kernels need it: loading compiled modules and launching."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import compiler, counters
from .environment import is_sanitized
from .errors import KernelFault, refuse

_INVALID_VALUE = 1, "CUDA_ERROR_INVALID_VALUE: invalid argument"  # CUresult
_NOT_FOUND = 500, "CUDA_ERROR_NOT_FOUND: named symbol not found"
_MAX_THREADS, _MAX_GRID = 1024, (2**31 - 1, 65535, 65535)
_MAX_BLOCK = (1024, 1024, 64)
_SHARED_BY_DEFAULT, _SHARED_AT_MOST = 48 << 10, 227 << 10
_ATTRIBUTE_MAX_THREADS, _ATTRIBUTE_MAX_DYNAMIC_SHARED = 0, 8  # CUfunction_attribute

_reversed = False


@contextlib.contextmanager
def threads_reversed() -> Iterator[None]:
    """Run the threads of each block, and the blocks of each grid, in reverse order inside this block.

    A kernel whose result depends on an order that CUDA does not promise shows it by another result.
    """
    global _reversed
    before, _reversed = _reversed, True
    try:
        yield
    finally:
        _reversed = before


class _Launch(ctypes.Structure):
    """The structure ``cupysim::Launch`` of ``block.h``."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("reversed", ctypes.c_int),
        ("fibers", ctypes.c_int),
        ("arguments", ctypes.c_void_p),
        ("stacks", ctypes.c_void_p),
        ("stack_bytes", ctypes.c_size_t),
        ("fault", ctypes.c_char * 512),
    )


@dataclass
class _Function:
    """A kernel that was asked for."""

    name: str
    run: Callable[[Any], None]
    has_fibers: bool
    max_dynamic_shared: int = _SHARED_BY_DEFAULT


class _Stacks:
    """Memory for the stacks of a block's threads, shared by all kernels; the system gives pages as they are touched."""

    def __init__(self) -> None:
        # Stacks of a power of two bytes would compete for the same few lines of every cache.
        self.bytes_each = (32 << 10) * (4 if is_sanitized() else 1) + 320
        cushion = 1 << 20  # below the first: what overflows it hits nothing before that is noticed
        size = cushion + self.bytes_each * _MAX_THREADS
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + cushion


def functions(module: Any) -> dict[str, Callable[..., Any]]:
    """Return what replaces the functions of ``module``, CuPy's ``cupy_backends.cuda.api.driver``."""
    handles = itertools.count(1)
    libraries: dict[int, ctypes.PyDLL] = {}
    kernels: dict[int, _Function] = {}
    stacks: list[_Stacks] = []

    def failure(status: int, message: str) -> Exception:
        """Return CuPy's exception without its constructor, which asks the driver for the message."""
        error: Exception = module.CUDADriverError.__new__(module.CUDADriverError, message)
        error.status = status  # type: ignore[attr-defined]
        return error

    def load(image: bytes) -> int:
        handle = next(handles)
        libraries[handle] = ctypes.PyDLL(image.decode())
        return handle

    def get_function(handle: int, name: str) -> int:
        library = libraries[handle]
        try:
            run = library[compiler.launcher(name)]
        except AttributeError:
            raise failure(*_NOT_FOUND) from None
        run.restype = None
        kernel = next(handles)
        kernels[kernel] = _Function(name, run, hasattr(library, "cupysim_wait"))
        return kernel

    def get_global(handle: int, name: str) -> int:
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(libraries[handle], name))
        except ValueError:
            raise failure(*_NOT_FOUND) from None

    def launch(
        kernel: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int,
        shared_bytes: int, stream: int, arguments: int, extra: int,
    ) -> None:  # fmt: skip
        function = kernels[kernel]
        if not (
            0 < gx <= _MAX_GRID[0]
            and 0 < gy <= _MAX_GRID[1]
            and 0 < gz <= _MAX_GRID[2]
            and 0 < bx <= _MAX_BLOCK[0]
            and 0 < by <= _MAX_BLOCK[1]
            and 0 < bz <= _MAX_BLOCK[2]
            and bx * by * bz <= _MAX_THREADS
            and shared_bytes <= function.max_dynamic_shared
        ):
            raise failure(*_INVALID_VALUE)
        counters.launched(function.name, (gx, gy, gz), (bx, by, bz), shared_bytes)
        asked = _Launch((gx, gy, gz), (bx, by, bz), shared_bytes, _reversed, function.has_fibers, arguments)
        if function.has_fibers:
            if not stacks:
                stacks.append(_Stacks())
            asked.stacks, asked.stack_bytes = stacks[0].address, stacks[0].bytes_each
        function.run(ctypes.byref(asked))
        if asked.fault:
            raise KernelFault(f"kernel {function.name}: {asked.fault.decode()}")

    def get_attribute(attribute: int, kernel: int) -> int:
        if attribute == _ATTRIBUTE_MAX_THREADS:
            return _MAX_THREADS
        if attribute == _ATTRIBUTE_MAX_DYNAMIC_SHARED:
            return kernels[kernel].max_dynamic_shared
        raise refuse(f"attribute {attribute} of a kernel (registers, local memory ...)")

    def set_attribute(kernel: int, attribute: int, value: int) -> None:
        if attribute == _ATTRIBUTE_MAX_DYNAMIC_SHARED:
            if value > _SHARED_AT_MOST:
                raise failure(*_INVALID_VALUE)
            kernels[kernel].max_dynamic_shared = value

    return {
        "ctxGetCurrent": lambda: 1,
        "ctxGetDevice": lambda: 0,
        "ctxSetCurrent": lambda context: None,
        "moduleLoadData": load,
        "moduleUnload": lambda handle: None,  # its functions may still be held
        "moduleGetFunction": get_function,
        "moduleGetGlobal": get_global,
        "launchKernel": launch,
        "funcGetAttribute": get_attribute,
        "funcSetAttribute": set_attribute,
    }


KEPT = frozenset({"check_status", "get_build_version", "_is_cuda_python"})
"""What touches no device and stays as CuPy has it."""
