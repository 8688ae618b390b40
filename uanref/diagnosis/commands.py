"""The commands that install and repair CuPy."""

from __future__ import annotations

from uanref.diagnosis import facts

WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
"""CuPy's packages by the CUDA version that the driver must support at least."""


def install(cuda: int | None = None) -> str:
    """Return the command that installs CuPy and the CUDA libraries: for CUDA version ``cuda``, or for the driver's."""
    if cuda not in WHEELS:
        driver = facts.driver_cuda()
        if driver is None or driver[0] not in WHEELS:
            twelve, thirteen = (f'pip install "{WHEELS[cuda]}[ctk]"' for cuda in (12, 13))
            return f"{twelve} (driver for CUDA 12), or {thirteen} (CUDA 13)"
        cuda = driver[0]
    return f'pip install "{WHEELS[cuda]}[ctk]"'


def best() -> int:
    """Return the CUDA version to install for: the driver's, 12 without one."""
    driver = facts.driver_cuda()
    return max(min(WHEELS), min(max(WHEELS), driver[0])) if driver is not None else min(WHEELS)


def reinstall() -> str:
    """Return the command for a CuPy that is there and cannot be imported."""
    wheels = facts.installed()
    if len(wheels) == 1 and wheels[0] in WHEELS.values():
        return f'pip install --force-reinstall "{wheels[0]}[ctk]"'
    return replace(WHEELS[best()]) if wheels else install()


def replace(wheel: str) -> str:
    """Return the commands that leave ``wheel`` as the only package of CuPy."""
    wheels = " ".join(facts.installed()) or "cupy"
    return f'pip uninstall -y {wheels} and then pip install "{wheel}[ctk]"'
