"""Device memory: pieces of the host's, filled with a conspicuous pattern before anything is written to them."""

from __future__ import annotations

import ctypes
import os

POISON = 0xCC
"""What fresh memory holds in each byte: reading it before writing gives -9.3e25 in float64's neighbourhood, not 0."""
_ALIGNMENT = 512

_libc = ctypes.CDLL(None)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
_libc.memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

_sizes: dict[int, int] = {}


def capacity() -> int:
    """Return the bytes of the device's memory: ``CUPYSIM_MEMORY``, or half of the host's and at most 8 GiB."""
    if chosen := os.environ.get("CUPYSIM_MEMORY"):
        return int(chosen)
    return min(8 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def used() -> int:
    """Return the bytes in use."""
    return sum(_sizes.values())


def allocate(size: int) -> int | None:
    """Return the address of ``size`` fresh bytes, or ``None`` if the device has not that many left."""
    if size > capacity() - used():
        return None
    address = _libc.aligned_alloc(_ALIGNMENT, size)
    if not address:
        return None
    _sizes[address] = size
    fill(address, POISON, size)
    return int(address)


def release(address: int) -> None:
    """Give memory back."""
    if _sizes.pop(address, None) is not None:
        _libc.free(address)


def allocate_host(size: int) -> int | None:
    """Return the address of ``size`` bytes of page-locked host memory (here: of any)."""
    return _libc.aligned_alloc(64, max(size, 1)) or None


def release_host(address: int) -> None:
    """Give page-locked memory back."""
    _libc.free(address)


def fill(address: int, value: int, size: int) -> None:
    """Set ``size`` bytes to ``value``."""
    _libc.memset(address, value, size)


def copy(to: int, source: int, size: int) -> None:
    """Copy ``size`` bytes; the ranges may overlap."""
    _libc.memmove(to, source, size)


def owns(address: int) -> bool:
    """Tell whether an address lies in device memory."""
    return any(start <= address < start + size for start, size in _sizes.items())
