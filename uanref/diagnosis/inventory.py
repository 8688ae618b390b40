"""All pieces, one after the other as far as they are there: what ``uanref info`` lists."""

from __future__ import annotations

import importlib
import re
from typing import Any, NamedTuple

from uanref.diagnosis import facts
from uanref.diagnosis.commands import WHEELS, best, replace
from uanref.diagnosis.sentences import no_device, no_driver, no_library, no_package, no_product

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


def pieces() -> list[Piece]:
    """Look at everything that can be looked at; what needs a piece that is missing is left out."""
    found, wheels = [], facts.installed()
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken CuPy raises more than ImportError
        return [Piece("package", False, no_package(error)), *([_several(wheels)] if len(wheels) > 1 else [])]
    found.append(Piece("package", True, f"CuPy {cupy.__version__} ({', '.join(wheels) or 'from its sources'})"))
    if len(wheels) > 1:
        found.append(_several(wheels))
    if tuple(int(part) for part in re.findall(r"\d+", cupy.__version__)[:2]) < LEAST_CUPY:
        least, wheel = ".".join(map(str, LEAST_CUPY)), WHEELS.get(facts.cuda_of(cupy) or 0, WHEELS[best()])
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
        driver = facts.driver_cuda()
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
    text = f"{len(wheels)} packages of CuPy are installed and spoil each other: {replace(WHEELS[best()])}"
    return Piece("packages", False, text)
