"""How the package's CUDA sources become kernels, and how many blocks they are launched with."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from uanref import backend
from uanref.backend import Array

THREADS = 256
"""Threads of a block in every kernel of this package."""
CHUNK = 4096
"""Samples of a channel that one block walks over: 16 a thread, so that a million samples keep 245 blocks busy."""


def serves(*arrays: Array | None) -> bool:
    """Tell whether our kernels can compute with ``arrays`` (``None`` entries are skipped).

    True on the current device, in float32 or float64, below 2^31 elements (positions are counted in 32 bits). Arrays
    of another device than the current one are left to CuPy: it reaches them or says that it cannot, where a kernel
    of ours would read addresses that mean nothing here.
    """
    given = [a for a in arrays if a is not None]
    return all(
        backend.name_of(a) == "cupy" and a.dtype.char in "fd" and 0 < a.size < 2**31 and _is_here(a) for a in given
    )


def _is_here(a: Array) -> bool:
    """Tell whether a device array lies on the device where kernels are launched now."""
    here: bool = a.data.device_id == backend.module("cupy").cuda.runtime.getDevice()  # type: ignore[attr-defined]
    return here


@functools.cache
def kernel(file: str, name: str, dtype_char: str, **constants: int) -> Any:
    """Return the kernel ``name`` of ``<file>.cu``, compiled when it is first launched.

    Args:
        file: the source's name without ``.cu``; ``common.cuh`` is put before it.
        name: of an ``extern "C" __global__`` function.
        dtype_char: ``"f"`` or ``"d"``: what ``scalar`` means in the source.
        constants: macros of the source, such as the number of components.

    Returns:
        What is called as ``kernel(grid, block, arguments)``. A Python int arrives as ``long long``, a float as
        ``double``, an array as a pointer: sources declare their parameters so.
    """
    return _module(file, dtype_char, **constants).get_function(name)


@functools.cache
def _module(file: str, dtype_char: str, **constants: int) -> Any:
    return backend.module("cupy").RawModule(code=source(file), options=options(dtype_char, **constants))


def source(file: str) -> str:
    """Return the CUDA source of ``<file>.cu`` with ``common.cuh`` before it."""
    folder = resources.files("uanref.kernels.cuda")
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in ("common.cuh", f"{file}.cu"))


def options(dtype_char: str, **constants: int) -> tuple[str, ...]:
    """Return the compiler's options: the language, ``REAL``, and the constants as macros."""
    macros = {"REAL": {"f": "float", "d": "double"}[dtype_char], "THREADS": THREADS, "CHUNK": CHUNK, **constants}
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in macros.items()))


def parts(samples: int) -> int:
    """Return how many blocks share a channel of ``samples`` elements, each with at most CHUNK of them."""
    return -(-samples // CHUNK)
