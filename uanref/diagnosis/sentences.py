"""One sentence for each failure: what is missing, and the command that repairs it."""

from __future__ import annotations

import os
import re
from typing import Any

from uanref.diagnosis import facts
from uanref.diagnosis.commands import WHEELS, install, reinstall, replace
from uanref.reasons import message

OLDEST = {12: 50, 13: 75}
"""The oldest compute capability that CUDA's run-time compiler builds for, times 10."""


def no_package(error: Exception) -> str:
    """Say why ``import cupy`` raised ``error``."""
    if not (isinstance(error, ModuleNotFoundError) and error.name == "cupy"):
        reason = brief(error.__cause__ or error)
        return f"CuPy is installed but cannot be imported ({reason}): {reinstall()}"
    driver = facts.driver_cuda()
    if driver is None:
        return f"CuPy is not installed, and no NVIDIA driver is found: install the driver, then {install()}"
    version = f"{driver[0]}.{driver[1]}"
    if driver[0] < min(WHEELS):
        return f"CuPy is not installed, and the driver is too old (CUDA {version}): update it, then {install()}"
    return f"CuPy is not installed: {install()} (the driver supports CUDA {version})"


def no_driver(cupy: Any, error: Exception) -> str:
    """Say why counting the GPUs raised ``error``."""
    driver, too_old = facts.driver_cuda(), "cudaErrorInsufficientDriver" in str(error)
    if "cudaErrorNoDevice" in str(error):
        return no_device(cupy)
    if "cudaErrorSystemDriverMismatch" in str(error):
        return "the NVIDIA driver was updated while an older one is loaded: restart the machine"
    if too_old and driver is None:
        return (
            f"CuPy {cupy.__version__} is installed but no NVIDIA driver is: install one (Ubuntu: sudo ubuntu-drivers "
            "install; elsewhere: nvidia.com/drivers; in a container: docker run --gpus all) until nvidia-smi lists "
            "the GPU"
        )
    if too_old and driver is not None:
        needed = facts.cuda_of(cupy)
        found = f"the NVIDIA driver supports CUDA {driver[0]}.{driver[1]}, CuPy needs {needed}"
        if driver[0] == 12 and needed == 13:
            return f"{found}: {replace(WHEELS[12])}, or update the driver"
        return f"{found}: update the driver (Ubuntu: sudo ubuntu-drivers install; elsewhere: nvidia.com/drivers)"
    return (
        f"CuPy {cupy.__version__} is installed but the NVIDIA driver does not answer ({brief(error)}): see what "
        "nvidia-smi says, restart the machine if it fails too"
    )


def no_device(cupy: Any) -> str:
    """Say why no GPU is visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return (
            f"no NVIDIA GPU is visible because CUDA_VISIBLE_DEVICES is {visible!r}: unset CUDA_VISIBLE_DEVICES, or "
            "set it to a number that nvidia-smi -L lists"
        )
    return (
        f"CuPy {cupy.__version__} is installed but no NVIDIA GPU is visible: nvidia-smi -L must list one (in a "
        "container: docker run --gpus all)"
    )


def no_library(cupy: Any, library: str, error: Exception) -> str:
    """Say that the CUDA library called ``library`` does not load."""
    command = install(facts.cuda_of(cupy))
    return f"CuPy {cupy.__version__} is installed but {library} is missing ({brief(error)}): {command}"


def no_product(cupy: Any, error: Exception) -> str:
    """Say why a first matrix product, on a GPU that is there, raised ``error``."""
    text = f"{error} {error.__cause__ or ''}"
    if isinstance(error, MemoryError) or re.search("cudaErrorMemoryAllocation|cudaErrorDevicesUnavailable", text):
        return f"the GPU is full or taken by another program ({brief(error)}): nvidia-smi lists the programs on it"
    capability, needed = facts.capability(cupy), facts.cuda_of(cupy)
    oldest = OLDEST.get(needed or 0, 0)
    if capability is not None and capability < oldest:
        found = (
            f"the GPU's compute capability {capability / 10} is too old for CUDA {needed}, which needs {oldest / 10}"
        )
        if needed == 13 and capability >= OLDEST[12]:
            return f"{found}: {replace(WHEELS[12])}"
        return f"{found}: another GPU is needed"
    if "UNSUPPORTED_PTX_VERSION" in text:
        return f"the NVIDIA driver is older than the CUDA libraries ({brief(error)}): update the driver"
    for library, sign in {"cuBLAS": "libcublas|cublas.*dll", "NVRTC": "libnvrtc|nvrtc.*dll"}.items():
        if re.search(sign, text, re.IGNORECASE):
            return no_library(cupy, library, error)
    return (
        f"CuPy {cupy.__version__} sees a GPU but a first matrix product failed ({brief(error)}): install the CUDA "
        f"libraries with: {install(needed)}"
    )


def brief(error: BaseException) -> str:
    """Return an error's message on one line of at most 200 characters."""
    text = message(error)
    return text if len(text) <= 200 else f"{text[:197]}..."
