"""What the cupy backend needs, piece by piece, and the command that repairs each: one sentence per piece.

The pieces in the order in which one needs the other: CuPy's package, the NVIDIA driver, a visible GPU, the CUDA
libraries (cuBLAS for products, NVRTC to compile kernels), a first product. CuPy itself is passed in:
:mod:`uanref.backend` imports it, and nothing here waits for a device unless it must.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
from importlib import metadata
from typing import Any, NamedTuple

WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
"""CuPy's packages by the CUDA version that the driver must support at least."""
OLDEST = {12: 50, 13: 75}
"""The oldest compute capability that CUDA's run-time compiler builds for, times 10."""
LEAST_CUPY = (14, 2)
"""The oldest CuPy that this package is tested with, as in its extras cuda12 and cuda13."""


class Piece(NamedTuple):
    """One thing that must be there.

    Attributes:
        name: what it is.
        ok: whether it is there.
        text: what was found, or one sentence on what is missing and how to repair it.
    """

    name: str
    ok: bool
    text: str


# --- one sentence for each failure ------------------------------------------------------------------


def no_package(error: Exception) -> str:
    """Say why ``import cupy`` raised ``error``."""
    if not (isinstance(error, ModuleNotFoundError) and error.name == "cupy"):
        reason = brief(error.__cause__ or error)
        return f"CuPy is installed but cannot be imported ({reason}): {_reinstall()}"
    driver = driver_cuda()
    if driver is None:
        return f"CuPy is not installed, and no NVIDIA driver is found: install the driver, then {install()}"
    version = f"{driver[0]}.{driver[1]}"
    if driver[0] < min(WHEELS):
        return f"CuPy is not installed, and the driver is too old (CUDA {version}): update it, then {install()}"
    return f"CuPy is not installed: {install()} (the driver supports CUDA {version})"


def no_driver(cupy: Any, error: Exception) -> str:
    """Say why counting the GPUs raised ``error``."""
    driver, too_old = driver_cuda(), "cudaErrorInsufficientDriver" in str(error)
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
        needed = cuda_of(cupy)
        found = f"the NVIDIA driver supports CUDA {driver[0]}.{driver[1]}, CuPy needs {needed}"
        if driver[0] == 12 and needed == 13:
            return f"{found}: {_replace(WHEELS[12])}, or update the driver"
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
    return f"CuPy {cupy.__version__} is installed but {library} is missing ({brief(error)}): {install(cuda_of(cupy))}"


def no_product(cupy: Any, error: Exception) -> str:
    """Say why a first matrix product, on a GPU that is there, raised ``error``."""
    text = f"{error} {error.__cause__ or ''}"
    if isinstance(error, MemoryError) or re.search("cudaErrorMemoryAllocation|cudaErrorDevicesUnavailable", text):
        return f"the GPU is full or taken by another program ({brief(error)}): nvidia-smi lists the programs on it"
    capability, needed = _capability(cupy), cuda_of(cupy)
    oldest = OLDEST.get(needed or 0, 0)
    if capability is not None and capability < oldest:
        found = (
            f"the GPU's compute capability {capability / 10} is too old for CUDA {needed}, which needs {oldest / 10}"
        )
        if needed == 13 and capability >= OLDEST[12]:
            return f"{found}: {_replace(WHEELS[12])}"
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


# --- all pieces, for `uanref info` --------------------------------------------------------------------


def pieces() -> list[Piece]:
    """Look at everything that can be looked at; what needs a piece that is missing is left out."""
    found, wheels = [], installed()
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken CuPy raises more than ImportError
        return [Piece("package", False, no_package(error)), *([_several(wheels)] if len(wheels) > 1 else [])]
    found.append(Piece("package", True, f"CuPy {cupy.__version__} ({', '.join(wheels) or 'from its sources'})"))
    if len(wheels) > 1:
        found.append(_several(wheels))
    if tuple(int(part) for part in re.findall(r"\d+", cupy.__version__)[:2]) < LEAST_CUPY:
        least, wheel = ".".join(map(str, LEAST_CUPY)), WHEELS.get(cuda_of(cupy) or 0, WHEELS[_best()])
        text = (
            f'CuPy {cupy.__version__} is older than {least}, the oldest tested: pip install -U "{wheel}[ctk]>={least}"'
        )
        found.append(Piece("version", False, text))
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        seen = False
        name = "GPU" if "cudaErrorNoDevice" in str(error) else "driver"
        found.append(Piece(name, False, no_driver(cupy, error)))
    else:
        seen = count > 0
        driver = driver_cuda()
        if driver is not None:
            found.append(Piece("driver", True, f"supports CUDA {driver[0]}.{driver[1]}"))
        found.append(Piece("GPU", seen, f"{count} visible" if seen else no_device(cupy)))
    found += [_library(cupy, name, load) for name, load in _LIBRARIES.items()]
    if seen and all(piece.ok for piece in found):
        try:
            first_product(cupy)
        except Exception as error:
            found.append(Piece("first product", False, no_product(cupy, error)))
    return found


def first_product(cupy: Any) -> None:
    """Multiply two matrices, which needs cuBLAS and the run-time compiler besides the driver. Waits for the device."""
    ones = cupy.ones((2, 2), dtype="float32")
    float((ones @ ones).sum())


def _library(cupy: Any, name: str, load: Any) -> Piece:
    try:
        version = load(cupy)
    except Exception as error:
        return Piece(name, False, no_library(cupy, name, error))
    return Piece(name, True, f"found{version}")


def _load_cublas(cupy: Any) -> str:
    importlib.import_module("cupy_backends.cuda.libs.cublas")
    return ""


def _load_nvrtc(cupy: Any) -> str:
    major, minor = cupy.cuda.nvrtc.getVersion()
    return f", {major}.{minor}"


_LIBRARIES = {"cuBLAS": _load_cublas, "NVRTC": _load_nvrtc}


def _several(wheels: list[str]) -> Piece:
    text = f"{len(wheels)} packages of CuPy are installed and spoil each other: {_replace(WHEELS[_best()])}"
    return Piece("packages", False, text)


# --- facts --------------------------------------------------------------------------------------------


def installed() -> list[str]:
    """Return the installed packages that provide the module ``cupy``."""
    found = set()
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


def install(cuda: int | None = None) -> str:
    """Return the command that installs CuPy and the CUDA libraries: for CUDA version ``cuda``, or for the driver's."""
    if cuda not in WHEELS:
        driver = driver_cuda()
        if driver is None or driver[0] not in WHEELS:
            twelve, thirteen = (f'pip install "{WHEELS[cuda]}[ctk]"' for cuda in (12, 13))
            return f"{twelve} (driver for CUDA 12), or {thirteen} (CUDA 13)"
        cuda = driver[0]
    return f'pip install "{WHEELS[cuda]}[ctk]"'


def brief(error: BaseException) -> str:
    """Return an error's message on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _best() -> int:
    """Return the CUDA version to install for: the driver's, 12 without one."""
    driver = driver_cuda()
    return max(min(WHEELS), min(max(WHEELS), driver[0])) if driver is not None else min(WHEELS)


def _reinstall() -> str:
    wheels = installed()
    if len(wheels) == 1 and wheels[0] in WHEELS.values():
        return f'pip install --force-reinstall "{wheels[0]}[ctk]"'
    return _replace(WHEELS[_best()]) if wheels else install()


def _replace(wheel: str) -> str:
    """Return the commands that leave ``wheel`` as the only package of CuPy."""
    wheels = " ".join(installed()) or "cupy"
    return f'pip uninstall -y {wheels} and then pip install "{wheel}[ctk]"'


def _capability(cupy: Any) -> int | None:
    try:
        return int(cupy.cuda.Device().compute_capability)
    except Exception:
        return None
