"""PyTorch as the benchmarks' peer, where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

from uanref.backend import Array


def torch_beside(backend_name: str) -> tuple[Any, str]:
    """Return PyTorch (None where there is no fair comparison) and why not, in one sentence.

    PyTorch runs with its default number of threads on the CPU, so only NumPy is compared with it.
    """
    if backend_name != "numpy":
        return None, "PyTorch is measured beside the numpy backend only."
    try:
        return importlib.import_module("torch"), ""
    except Exception as error:  # a broken installation raises more than ImportError
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
        return None, f'PyTorch {reason}; to compare with it: pip install ".[oracle]"'


def leaf(torch: Any, array: Array) -> Any:
    """Return ``array`` as a PyTorch tensor that collects a gradient; the memory is shared."""
    return torch.from_numpy(array).requires_grad_()
