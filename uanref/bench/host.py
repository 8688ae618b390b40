"""The machine that a run of the bench belongs to."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import threadpoolctl

from uanref import backend, machine
from uanref.bench.peers import Peer


def facts(peers: Sequence[Peer], malloc: str) -> dict[str, Any]:
    """Return processor, cores, load, versions, the state of malloc and the BLAS, for a reader and for JSON."""
    return {
        "processor": processor(),
        "system": platform.system(),
        "cores": backend.cores(),
        "load": load(),
        "versions": machine.versions() | {peer.package: peer.version() for peer in peers},
        "malloc": malloc,
        "blas": blas(),
        "blas_advice": blas_advice(),
    }


def blas() -> str:
    """Return which BLAS NumPy uses, and for which processor its code was made, as far as threadpoolctl can tell."""
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            kind = f" for {library['architecture']}" if library.get("architecture") else ""
            return f"{library['internal_api']} {library['version']}{kind}"
    return "unknown"


def blas_advice() -> str:
    """Say that OpenBLAS takes code for older processors than this one, if it does; else nothing.

    It chooses by the processor, or by ``OPENBLAS_CORETYPE`` where the environment has one.
    """
    found = blas()
    if not found.startswith("openblas") or not found.endswith((" for Haswell", " for Zen")) or not _has_avx512():
        return ""
    return (
        f"NumPy's BLAS ({found}) leaves this processor's AVX-512 unused: without OPENBLAS_CORETYPE in the "
        "environment, or with OPENBLAS_CORETYPE=SkylakeX, products are faster."
    )


def _has_avx512() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(flags)


def busy(found: dict[str, Any]) -> bool:
    """Whether others used more than half a core, averaged over the minute before the run."""
    return found["load"] is not None and found["load"] > 0.5


def load() -> float | None:
    """Return how many processes wanted a core, averaged over the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows; a container that hides it
        return None


def processor() -> str:
    """Return the processor's name, or its kind where the system does not tell more."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine() or "unknown"
