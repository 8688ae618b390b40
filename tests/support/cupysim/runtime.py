"""The CUDA runtime, as far as CuPy's arrays need it: memory, streams and events of one device that is never behind."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from . import counters, memory

COMPUTE_CAPABILITY = (9, 0)
"""Of the emulated device: that of an H100."""

_INVALID_VALUE, _MEMORY_ALLOCATION, _INVALID_DEVICE = 1, 2, 101  # cudaError_t
_DIRECTIONS = {1: "to_device", 2: "to_host", 3: "on_device"}  # cudaMemcpyKind

# cudaDeviceAttr -> value
_ATTRIBUTES = {
    1: 1024,  # MaxThreadsPerBlock
    2: 1024,  # MaxBlockDimX
    3: 1024,  # MaxBlockDimY
    4: 64,  # MaxBlockDimZ
    5: 2**31 - 1,  # MaxGridDimX
    6: 65535,  # MaxGridDimY
    7: 65535,  # MaxGridDimZ
    8: 48 << 10,  # MaxSharedMemoryPerBlock
    9: 64 << 10,  # TotalConstantMemory
    10: 32,  # WarpSize
    12: 65536,  # MaxRegistersPerBlock
    16: 132,  # MultiProcessorCount
    39: 2048,  # MaxThreadsPerMultiProcessor
    75: COMPUTE_CAPABILITY[0],
    76: COMPUTE_CAPABILITY[1],
    81: 228 << 10,  # MaxSharedMemoryPerMultiprocessor
    95: 0,  # CooperativeLaunch
    97: 227 << 10,  # MaxSharedMemoryPerBlockOptin
    115: 0,  # MemoryPoolsSupported
}

KEPT = frozenset({"check_status", "_export_enum", "getChannelDesc", "make_Extent", "make_Pos", "make_PitchedPtr"})
"""What touches no device and stays as CuPy has it."""


def functions(module: Any) -> dict[str, Callable[..., Any]]:
    """Return what replaces the functions of ``module``, CuPy's ``cupy_backends.cuda.api.runtime``."""
    handles = itertools.count(1000)  # small numbers are streams with a meaning
    recorded: dict[int, float] = {}  # event -> when

    def new_handle(*flags: int) -> int:
        return next(handles)

    def nothing(*arguments: Any) -> None:
        pass

    def zero(*arguments: Any) -> int:
        return 0

    def wait(*arguments: Any) -> None:
        counters.happened("synchronizations")

    def allocated(address: int | None) -> int:
        if address is None:
            raise module.CUDARuntimeError(_MEMORY_ALLOCATION)
        return address

    def malloc(size: int) -> int:
        counters.happened("allocations")
        return allocated(memory.allocate(size))

    def direction(kind: int, to: int, source: int) -> str:
        if kind in _DIRECTIONS:
            return _DIRECTIONS[kind]
        inside = memory.owns(source), memory.owns(to)  # cudaMemcpyDefault: told by the addresses
        return {(False, True): "to_device", (True, False): "to_host"}.get(inside, "on_device")

    def memcpy(to: int, source: int, size: int, kind: int, stream: int = 0) -> None:
        counters.copied(direction(kind, to, source), size)
        memory.copy(to, source, size)

    def memcpy2d(
        to: int, to_pitch: int, source: int, source_pitch: int, width: int, height: int, kind: int, stream: int = 0
    ) -> None:
        counters.copied(direction(kind, to, source), width * height)
        for row in range(height):
            memory.copy(to + row * to_pitch, source + row * source_pitch, width)

    def memset(address: int, value: int, size: int, stream: int = 0) -> None:
        counters.happened("fills")
        memory.fill(address, value, size)

    def record(event: int, stream: int) -> None:
        recorded[event] = time.perf_counter()

    def forget(event: int) -> None:
        recorded.pop(event, None)

    def elapsed(start: int, end: int) -> float:
        return (recorded[end] - recorded[start]) * 1e3

    def attribute(which: int, device: int) -> int:
        if which not in _ATTRIBUTES:
            raise module.CUDARuntimeError(_INVALID_VALUE)
        return _ATTRIBUTES[which]

    def set_device(device: int) -> None:
        if device != 0:
            raise module.CUDARuntimeError(_INVALID_DEVICE)

    return {
        # The device
        "_ensure_context": nothing,
        "getDevice": zero,
        "setDevice": set_device,
        "getDeviceCount": lambda: 1,
        "driverGetVersion": lambda: 13000,
        "runtimeGetVersion": lambda: 12090,
        "_getLocalRuntimeVersion": lambda: 12090,
        "_getCUDAMajorVersion": lambda: 12,
        "deviceGetAttribute": attribute,
        "getDeviceProperties": properties,
        "deviceCanAccessPeer": zero,
        "deviceSynchronize": wait,
        "deviceGetPCIBusId": lambda device: "0000:00:00.0",
        "profilerStart": nothing,
        "profilerStop": nothing,
        # Memory
        "memGetInfo": lambda: (memory.capacity() - memory.used(), memory.capacity()),
        "malloc": malloc,
        "free": memory.release,
        "hostAlloc": lambda size, flags: allocated(memory.allocate_host(size)),
        "freeHost": memory.release_host,
        "memcpy": memcpy,
        "memcpyAsync": memcpy,
        "memcpy2D": memcpy2d,
        "memcpy2DAsync": memcpy2d,
        "memset": memset,
        "memsetAsync": memset,
        "pointerGetMemoryType": lambda address: 2 if memory.owns(address) else 0,
        # Streams and events: all is done when a function returns.
        "streamCreate": new_handle,
        "streamCreateWithFlags": new_handle,
        "streamCreateWithPriority": new_handle,
        "streamDestroy": nothing,
        "streamSynchronize": wait,
        "streamQuery": zero,
        "streamWaitEvent": nothing,
        "streamIsCapturing": zero,
        "eventCreate": new_handle,
        "eventCreateWithFlags": new_handle,
        "eventDestroy": forget,
        "eventRecord": record,
        "eventSynchronize": wait,
        "eventQuery": zero,
        "eventElapsedTime": elapsed,
    }


def properties(device: int) -> dict[str, Any]:
    """Return ``cudaDeviceProp`` of the emulated device, as far as it means something here."""
    return {
        "name": b"cupysim: CUDA on the CPU",
        "major": COMPUTE_CAPABILITY[0],
        "minor": COMPUTE_CAPABILITY[1],
        "totalGlobalMem": memory.capacity(),
        "warpSize": 32,
        "multiProcessorCount": _ATTRIBUTES[16],
        "maxThreadsPerBlock": _ATTRIBUTES[1],
        "maxThreadsPerMultiProcessor": _ATTRIBUTES[39],
        "maxThreadsDim": (_ATTRIBUTES[2], _ATTRIBUTES[3], _ATTRIBUTES[4]),
        "maxGridSize": (_ATTRIBUTES[5], _ATTRIBUTES[6], _ATTRIBUTES[7]),
        "sharedMemPerBlock": _ATTRIBUTES[8],
        "sharedMemPerBlockOptin": _ATTRIBUTES[97],
        "sharedMemPerMultiprocessor": _ATTRIBUTES[81],
        "regsPerBlock": _ATTRIBUTES[12],
        "totalConstMem": _ATTRIBUTES[9],
        "memoryClockRate": 0,
        "memoryBusWidth": 0,
        "clockRate": 0,
        "integrated": 0,
        "pciBusID": 0,
        "pciDeviceID": 0,
        "pciDomainID": 0,
        "uuid": bytes(16),
    }
