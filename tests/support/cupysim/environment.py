"""What the emulator finds on this machine: CuPy, a compiler, CUDA's headers, a folder for compiled kernels."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CUPY_VERSION = "14.2.0"
"""The CuPy that the emulator fits: it replaces functions whose names and C signatures differ between versions."""
INCLUDE = Path(__file__).parent / "include"
"""The C++ headers that stand for CUDA's."""
COMPILER = "g++"


def missing() -> str | None:
    """Say in one sentence why the emulator cannot run here; ``None`` if it can. Imports nothing of CuPy."""
    if not sys.platform.startswith("linux"):
        return f"cupysim runs on Linux, this is {platform.system()}"
    distribution = installed_cupy()
    if distribution is None:
        return 'CuPy is not installed: pip install ".[emulate]" (no GPU or driver is needed)'
    name, version = distribution
    if version != CUPY_VERSION:
        mend = f'pip uninstall {name}, then pip install ".[emulate]"'
        return f"cupysim fits CuPy {CUPY_VERSION} alone, not {name} {version}: {mend}"
    if shutil.which(COMPILER) is None:
        return f"the compiler {COMPILER} was not found on PATH: install it (on Debian and Ubuntu: apt install g++)"
    if not cuda_headers_found():
        return 'CUDA\'s headers were not found: pip install ".[emulate]" (or set CUDA_PATH to a toolkit)'
    return None


def installed_cupy() -> tuple[str, str] | None:
    """Return the distribution that brings CuPy (``cupy-cuda12x`` ...) and its version."""
    for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy-cuda11x", "cupy"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def cuda_headers_found() -> bool:
    """Tell whether CuPy will find CUDA's headers, without which it refuses to compile. Ours are used in their place."""
    from cuda.pathfinder import find_nvidia_header_directory  # CuPy's own dependency, and its way to search

    return find_nvidia_header_directory("cudart") is not None


def cache_folder() -> Path:
    """Return the folder of compiled kernels: ``CUPYSIM_CACHE``, or one of this user's in the user's cache."""
    if chosen := os.environ.get("CUPYSIM_CACHE"):
        folder = Path(chosen)
    else:
        home_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        parent = home_cache if os.access(home_cache, os.W_OK) else Path(tempfile.gettempdir())
        folder = parent / f"cupysim-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def extra_flags() -> list[str]:
    """Return the flags that ``CUPYSIM_CXXFLAGS`` adds to each compilation."""
    return os.environ.get("CUPYSIM_CXXFLAGS", "").split()


def is_sanitized() -> bool:
    """Tell whether kernels are compiled with the address sanitizer."""
    return any(re.match(r"-fsanitize=.*\baddress\b", flag) for flag in extra_flags())


@functools.cache
def compiler_version() -> str:
    """Return what the compiler says about itself: part of each key of the cache."""
    return subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout


def sanitized_environment() -> dict[str, str]:
    """Return the environment for a subprocess whose kernels are checked by the address sanitizer.

    The sanitizer's library must be loaded before anything else, hence a subprocess. There every array has an
    allocation of its own (CuPy's memory pool is off), so that the first byte outside of it is noticed: the process
    then ends with a report on stderr and an exit code other than 0. Leaks are not looked for.
    """
    library = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        **os.environ,
        "CUPYSIM_CXXFLAGS": " ".join([*extra_flags(), "-fsanitize=address", "-g1"]),
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    }
