"""What is installed and what this machine can run: the facts that a bug report needs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import uanref
from uanref import backend, blocking, diagnosis

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


def table() -> Table:
    """Return versions, backends (with what is missing and the command that helps), cores and threads."""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, version in versions().items():
        facts.add_row(name, version or "not installed")
    facts.add_row("platform", _platform())
    facts.add_row("cores", f"{cores()} usable of {os.cpu_count()}")
    setting = os.environ.get("OMP_NUM_THREADS")
    source = f"OMP_NUM_THREADS={setting}" if setting else "one per usable core; set OMP_NUM_THREADS to change it"
    facts.add_row("threads", f"{blocking.threads()} ({source})")
    for name in backend.BACKENDS:
        usable, reason = backend.available(name)
        facts.add_row(f"backend {name}", Text(f"{'usable' if usable else 'not usable'}: {reason}"))
    # Of cupy, the last one: the GPU's facts if it is usable, and one line for every piece that is missing.
    for name, fact in (device() if usable else {}).items():
        facts.add_row(f"  {name}", Text(fact))
    for piece in diagnosis.pieces():
        if piece.text != reason and not (usable and piece.ok):
            facts.add_row(f"  {piece.name}", Text(piece.text))
    return facts


def report(backend_name: str) -> dict[str, str]:
    """Return the header of a bug report: versions, platform, and the GPU's facts where ``backend_name`` has one."""
    found = {name: version for name, version in versions().items() if version and name not in ("matplotlib", "cupy")}
    found["platform"] = _platform()
    return found | (device() if backend_name == "cupy" else {})


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}, {platform.python_implementation()}"


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
