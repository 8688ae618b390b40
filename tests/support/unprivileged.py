"""The command line in a child without privileges, so that root's tests, too, meet a folder that is closed to them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import uanref
from support import requirements

PR_CAPBSET_DROP = 24  # of Linux' prctl


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``uanref`` with ``arguments``; root's child may do what the owner of a file may, and nothing beyond.

    Another user would not do: root's Python may lie where only root can read.
    """
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and not sys.platform.startswith("linux"):
        requirements.skip("without Linux root cannot drop its privileges: run the tests as another user")
    command = [sys.executable, "-m", "uanref", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(uanref.__file__).parents[1])}
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=_drop if root else None,
    )


def _drop() -> None:
    """Bound the capabilities of what is executed next to none; numbers beyond the kernel's last one are refused."""
    prctl = ctypes.CDLL(None).prctl
    for capability in range(64):
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
