"""What stands beside results: versions of the packages, the GPU, the memory that was used."""

from __future__ import annotations

import contextlib
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import uanref
from uanref import backend, diagnosis

_CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that results depend on; None for an absent one.

    Read from the packages' metadata, so that nothing is imported for it.
    """
    found: dict[str, str | None] = {"uanref": uanref.__version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "matplotlib"):
        found[package] = _version(package)
    found["cupy"] = next((version for name in _CUPY_PACKAGES if (version := _version(name))), None)
    return found


def device() -> dict[str, str]:
    """Return what a bug report must say about the GPU in use; ``"unknown"`` for what it does not tell.

    Raises:
        BackendUnavailable: CuPy cannot be imported.
    """
    cupy = backend.module("cupy")
    runtime = cupy.cuda.runtime

    def memory() -> str:
        free, total = runtime.memGetInfo()
        return f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"

    def capability() -> str:
        digits = cupy.cuda.Device().compute_capability
        return f"{digits[:-1]}.{digits[-1]}"

    def driver() -> str:
        release = _driver_release()
        return (f"{release}, " if release else "") + f"CUDA {_cuda_version(runtime.driverGetVersion())}"

    facts: dict[str, Callable[[], str]] = {
        "GPU": lambda: _text(runtime.getDeviceProperties(runtime.getDevice())["name"]),
        "memory": memory,
        "compute capability": capability,
        "driver": driver,
        "CuPy": lambda: " ".join([cupy.__version__, *(f"({name})" for name in diagnosis.installed())]),
        "CUDA runtime": lambda: _cuda_version(runtime.runtimeGetVersion()),
        "NVRTC": lambda: ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
    }
    found = dict.fromkeys(facts, "unknown")
    for name, look_up in facts.items():
        with contextlib.suppress(Exception):  # a report with a gap is worth more than none
            found[name] = look_up()
    return found


def peak_memory() -> int | None:
    """Return the most bytes that this process had in memory so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda_version(number: int) -> str:
    """Return CUDA's version number, such as 12090, as text: ``"12.9"``."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver_release() -> str:
    """Return the release of the NVIDIA driver that Linux has loaded, such as ``"570.86.15"``; empty elsewhere."""
    with contextlib.suppress(OSError):
        found = re.search(r"\d{3,}\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
        return found.group() if found else ""
    return ""


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
