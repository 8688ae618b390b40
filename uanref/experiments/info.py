"""What is installed and what this machine can run: the facts that a bug report needs."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from rich.table import Table
from rich.text import Text

import uanref
from uanref import backend, blocking

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


def table() -> Table:
    """Return versions, backends (with what is missing and the command that helps), cores and threads."""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, version in versions().items():
        facts.add_row(name, version or "not installed")
    facts.add_row("platform", f"{platform.system()} {platform.machine()}, {platform.python_implementation()}")
    facts.add_row("cores", f"{cores()} usable of {os.cpu_count()}")
    setting = os.environ.get("OMP_NUM_THREADS")
    source = f"OMP_NUM_THREADS={setting}" if setting else "one per usable core; set OMP_NUM_THREADS to change it"
    facts.add_row("threads", f"{blocking.threads()} ({source})")
    for name in backend.BACKENDS:
        usable, reason = backend.available(name)
        facts.add_row(f"backend {name}", Text(f"{'usable' if usable else 'not usable'}: {reason}"))
    return facts


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
