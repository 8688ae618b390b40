"""Where a test runs its arrays: the host, the strict double, the emulated device, a real one.

========  ========================================================================================
kind      what it is
========  ========================================================================================
numpy     the host
strict    :mod:`support.strictcp`: NumPy behind CuPy's manners, array code alone
emulated  :mod:`support.cupysim`: the installed CuPy with kernels compiled for the CPU
cupy      CuPy on a real GPU
========  ========================================================================================

The emulator takes the place of CUDA for the whole process, before anything imports CuPy, so *emulated* and *cupy*
exclude each other in one run.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support import cupysim, strictcp

KINDS = ("numpy", "strict", "emulated", "cupy")


@dataclass(frozen=True)
class Device:
    """Where one test runs.

    Attributes:
        kind: one of :data:`KINDS`.
        strict: the strict double's counters, for that kind.
    """

    kind: str
    strict: strictcp.Device | None = None

    @property
    def backend(self) -> str:
        """The name that :mod:`uanref.backend` knows it by."""
        return "numpy" if self.kind == "numpy" else "cupy"

    @property
    def counts(self) -> bool:
        """Whether :meth:`counting` works: the host has no boundary to cross, a real device does not tell."""
        return self.kind in ("strict", "emulated")

    @property
    def has_kernels(self) -> bool:
        """Whether CUDA sources run here."""
        return self.kind in ("emulated", "cupy")

    @contextlib.contextmanager
    def counting(self) -> Iterator[Any]:
        """Count inside this block; yields what has ``to_device``, ``to_host`` and ``synchronizations``.

        The emulator counts more, see ``cupysim.Counts``.
        """
        if self.kind == "emulated":
            with cupysim.counting() as counts:
                yield counts
        elif self.strict is not None:
            yield StrictCounts(self.strict)
        else:
            raise RuntimeError(f"{self.kind} counts nothing: test device.counts first")


class StrictCounts:
    """What crossed the strict double's boundary since this was made."""

    def __init__(self, device: strictcp.Device) -> None:
        self._device = device
        self._before = device.to_device, device.to_host, device.syncs

    @property
    def to_device(self) -> int:
        return self._device.to_device - self._before[0]

    @property
    def to_host(self) -> int:
        return self._device.to_host - self._before[1]

    @property
    def synchronizations(self) -> int:
        return self._device.syncs - self._before[2]


@contextlib.contextmanager
def opened(kind: str) -> Iterator[Device]:
    """Yield the device of ``kind``. The emulator must be installed already; see :func:`prepare`."""
    if kind == "strict":
        with strictcp.strict() as strict:
            yield Device(kind, strict)
    else:
        yield Device(kind)


def chosen(option: str | None) -> tuple[str, ...]:
    """Return the kinds that the command line asks for.

    Args:
        option: a comma list of kinds; None for all, of the last two the one that fits this machine.

    Raises:
        ValueError: an unknown kind, none at all, two that exclude each other, or a GPU where none is.
    """
    if option is None:
        return ("numpy", "strict", "cupy" if has_driver() else "emulated")
    asked = [kind.strip() for kind in option.split(",")]
    for kind in asked:
        if kind not in KINDS:
            raise ValueError(f"--backend: unknown kind {kind!r}: give a comma list of {', '.join(KINDS)}")
    if {"emulated", "cupy"} <= set(asked):
        raise ValueError(
            "--backend: the emulator takes the place of CUDA in the whole process: run emulated and cupy one by one"
        )
    if "cupy" in asked and not has_driver():
        raise ValueError("--backend: cupy needs an NVIDIA driver and a GPU, and none was found: try emulated")
    return tuple(kind for kind in KINDS if kind in asked)


def prepare(kinds: tuple[str, ...]) -> str | None:
    """Install the emulator if ``kinds`` has it, before anything imports CuPy. Returns why it cannot run, or None."""
    if "emulated" not in kinds:
        return None
    reason = cupysim.missing()
    if reason is None:
        cupysim.install()
    return reason


def has_driver() -> bool:
    """Tell whether an NVIDIA driver with a GPU is here. Asks the driver, not CuPy, which must not be imported yet."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int()
        return bool(driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)
    return False
