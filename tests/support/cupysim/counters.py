"""Counters of what a device would have done: launches, copies, waits, compilations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Launch:
    """One kernel launch.

    Attributes:
        name: the kernel's name; for a template, the expression that names the instance.
        grid: blocks along x, y, z.
        block: threads of a block along x, y, z.
        shared_bytes: dynamic shared memory of a block.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self) -> int:
        """Number of threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]


@dataclass
class Counts:
    """What happened inside :func:`counting`.

    Attributes:
        launches: kernels of CuPy and of the user, in order.
        library_calls: names of cuBLAS functions, in order; a device launches one or several kernels for each.
        to_device: copies from host to device, and their bytes.
        to_host: copies from device to host, and their bytes. A device makes the host wait for each.
        on_device: copies within the device that are not kernels, and their bytes.
        fills: memory set to a byte (``zeros``).
        synchronizations: explicit waits for the device, a stream or an event. Reading an array back (``get``,
            ``item``) is one copy and one of these.
        allocations: requests for memory that CuPy's pool could not serve.
        compilations: kernels that the compiler was run for: not in this process's memory, not in the cache on disk.
    """

    launches: list[Launch] = field(default_factory=list)
    library_calls: list[str] = field(default_factory=list)
    to_device: int = 0
    to_device_bytes: int = 0
    to_host: int = 0
    to_host_bytes: int = 0
    on_device: int = 0
    on_device_bytes: int = 0
    fills: int = 0
    synchronizations: int = 0
    allocations: int = 0
    compilations: int = 0


_active: list[Counts] = []


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count inside this block. Blocks nest: each counts all that happens inside it."""
    counts = Counts()
    _active.append(counts)
    try:
        yield counts
    finally:
        _active[:] = [other for other in _active if other is not counts]


def launched(name: str, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int) -> None:
    """Note a kernel launch."""
    for counts in _active:
        counts.launches.append(Launch(name, grid, block, shared_bytes))


def called(name: str) -> None:
    """Note a call of a library."""
    for counts in _active:
        counts.library_calls.append(name)


def copied(direction: str, size: int) -> None:
    """Note a copy of ``size`` bytes: ``direction`` is ``"to_device"``, ``"to_host"`` or ``"on_device"``."""
    for counts in _active:
        setattr(counts, direction, getattr(counts, direction) + 1)
        setattr(counts, f"{direction}_bytes", getattr(counts, f"{direction}_bytes") + size)


def happened(event: str) -> None:
    """Note one more of ``fills``, ``synchronizations``, ``allocations`` or ``compilations``."""
    for counts in _active:
        setattr(counts, event, getattr(counts, event) + 1)
