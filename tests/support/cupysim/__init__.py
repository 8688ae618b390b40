"""cupysim: run the stock CuPy wheel on a CPU, without GPU, driver or CUDA libraries.

``install()`` replaces the CUDA runtime and driver below CuPy and compiles kernels with g++; everything above,
from ``cupy.ndarray`` to generated kernels, is CuPy's own. See README.md for what is modelled and what is not.
"""

from __future__ import annotations

from .counters import Counts, Launch, counting
from .driver import threads_reversed
from .environment import missing, sanitized_environment
from .errors import KernelFault, NotEmulated, Unavailable
from .installation import install

__all__ = [
    "Counts",
    "KernelFault",
    "Launch",
    "NotEmulated",
    "Unavailable",
    "counting",
    "install",
    "missing",
    "sanitized_environment",
    "threads_reversed",
]
