"""Keep glibc's allocator warm: what one pass frees, the next one gets back without a page fault.

By default a large array is mapped afresh and unmapped when it goes, and the system zeroes its pages at first touch, at
every call: for an output of 16 MB that costs as much as the work of an activation, on both sides of a contest, and
depends on what was freed before.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 32 * 2**20
"""glibc takes no larger threshold for mapping."""


def keep_warm() -> str:
    """Fix the allocator's thresholds for the rest of this process, and return what was done, in one sentence."""
    if platform.libc_ver()[0] != "glibc":
        return "malloc is as the system has it (no glibc): fresh arrays may be page-faulted at every call"
    mallopt = ctypes.CDLL(None).mallopt
    # Either call turns off that glibc moves both thresholds by itself.
    if mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1):
        return "malloc keeps what it gets (M_MMAP_THRESHOLD 32 MiB, M_TRIM_THRESHOLD 2 GiB)"
    return "malloc is as the system has it (mallopt refused): fresh arrays may be page-faulted at every call"
