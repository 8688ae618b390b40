"""Device memory: pieces of the host's, filled with a conspicuous pattern before anything is written to them."""

from __future__ import annotations

import ctypes
import os

POISON = 0xCC
"""What fresh memory holds in each byte: reading it before writing gives -9.3e61 in float64, -1.1e8 in float32."""
_ALIGNMENT = 512

_libc = ctypes.CDLL(None)
_libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
_libc.memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

_sizes: dict[int, int] = {}
_used = 0


def capacity() -> int:
    """Return the bytes of the device's memory: ``CUPYSIM_MEMORY``, or half of the host's and at most 8 GiB."""
    if chosen := os.environ.get("CUPYSIM_MEMORY"):
        return int(chosen)
    return min(8 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def used() -> int:
    """Return the bytes in use."""
    return _used


def allocate(size: int) -> int | None:
    """Return the address of ``size`` fresh bytes, or ``None`` if the device has not that many left."""
    global _used
    if size > capacity() - _used:
        return None
    address = _aligned(size)
    if address is not None:
        _sizes[address] = size
        _used += size
        fill(address, POISON, size)
    return address


def release(address: int) -> None:
    """Give memory back."""
    global _used
    size = _sizes.pop(address, None)
    if size is not None:
        _used -= size
        _libc.free(address)


def allocate_host(size: int) -> int | None:
    """Return the address of ``size`` bytes of page-locked host memory (here: of any)."""
    return _aligned(size)


def _aligned(size: int) -> int | None:
    """Return an address to exactly ``size`` bytes: the sanitizer must know the end."""
    address = ctypes.c_void_p()
    _libc.posix_memalign(ctypes.byref(address), _ALIGNMENT, max(size, 1))
    return address.value


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
