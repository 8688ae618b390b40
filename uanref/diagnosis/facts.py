"""What is there: packages, the driver's CUDA version, CuPy's, the GPU's compute capability."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from typing import Any


def installed() -> list[str]:
    """Return the installed packages that provide the module ``cupy``."""
    found = set()
    from importlib import metadata  # slow to import, and needed only where something is missing

    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if re.fullmatch(r"cupy(-(cuda|rocm)[-\w]+)?|amd-cupy", name):
            found.add(name)
    return sorted(found)


def driver_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that the NVIDIA driver supports, None without a driver. CuPy is not needed."""
    with contextlib.suppress(OSError, AttributeError):
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value > 0:
            return version.value // 1000, version.value % 1000 // 10
    return None


def cuda_of(cupy: Any) -> int | None:
    """Return the CUDA version that this CuPy was built for, such as 12; None if it does not tell."""
    try:
        return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    except Exception:
        return None


def capability(cupy: Any) -> int | None:
    """Return the compute capability of the current GPU, times 10; None if it does not tell."""
    try:
        return int(cupy.cuda.Device().compute_capability)
    except Exception:
        return None
