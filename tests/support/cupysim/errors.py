"""What can go wrong, by name."""

from __future__ import annotations


class Unavailable(RuntimeError):
    """The emulator cannot run here; the message says in one sentence what is missing."""


class NotEmulated(NotImplementedError):
    """A part of CUDA that the emulator does not have was asked for."""


class KernelFault(RuntimeError):
    """A kernel did what is undefined on a device: it waited for threads that never come, or overflowed its stack."""


def refuse(name: str) -> NotEmulated:
    """Return the error for ``name``, an entry point of CUDA or of one of its libraries."""
    return NotEmulated(f"{name} is not emulated: this CuPy runs on the CPU through cupysim (see its README)")
