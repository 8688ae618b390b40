"""Device memory that shows what was never written and what was written outside of an array.

Every array lies alone between two guards, in memory that was not used before: nothing that still holds the right
result hides a slip, and a write past an end is seen. The emulator's device memory is the host's, so that the guards
can be looked at here.
"""

from __future__ import annotations

import ctypes
from typing import Any

UNWRITTEN = 0xFF  # in every byte of an array: NaN in any precision
# On both sides, as long as CuPy's alignment: no two neighbours are equal, and all are large or NaN as floats, so that
# a sum that reads them is wrong and a copy of them is seen.
GUARD = bytes(range(0xC0, 0x100)) * 8


class GuardedMemory:
    """What CuPy allocates from, once it is installed.

    Attributes:
        spoiled: how many guards were found overwritten.
    """

    def __init__(self, cupy: Any) -> None:
        self._runtime = cupy.cuda.runtime
        self._sizes: dict[int, int] = {}
        self.spoiled = 0
        allocator = cupy.cuda.PythonFunctionAllocator(self._allocate, self._release)
        self._keep = allocator
        cupy.cuda.set_allocator(allocator.malloc)

    def _allocate(self, size: int, device: int) -> int:
        begin: int = self._runtime.malloc(size + 2 * len(GUARD))
        address = begin + len(GUARD)
        ctypes.memset(address, UNWRITTEN, size)
        for guard in (begin, address + size):
            ctypes.memmove(guard, GUARD, len(GUARD))
        self._sizes[address] = size
        return address

    def _release(self, address: int, device: int) -> None:
        self._look_at(address, self._sizes.pop(address))
        self._runtime.free(address - len(GUARD))

    def _look_at(self, address: int, size: int) -> None:
        for guard in (address - len(GUARD), address + size):
            if ctypes.string_at(guard, len(GUARD)) != GUARD:
                self.spoiled += 1
                ctypes.memmove(guard, GUARD, len(GUARD))

    def intact(self) -> bool:
        """Tell whether nothing was written outside of an array since the last call."""
        for address, size in self._sizes.items():
            self._look_at(address, size)
        spoiled, self.spoiled = self.spoiled, 0
        return spoiled == 0
