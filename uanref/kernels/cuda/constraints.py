"""How the kernels of ``constraints.cu`` are launched."""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel


def launch(name: str, threads: int, model: Array, *arguments: Any) -> None:
    """Launch one thread for each number, or each channel, of ``model``'s dtype."""
    kernel("constraints", name, model.dtype.char)((-(-threads // THREADS),), (THREADS,), arguments)


def like(model: Array, a: Array | None, shape: tuple[int, ...] | None = None) -> Any:
    """Return ``a`` as kernels read it: of ``model``'s dtype and shape (or ``shape``), C-contiguous; None is null."""
    if a is None:
        return 0
    xp, shape = backend.namespace(model, a), model.shape if shape is None else shape
    same = a if a.shape == shape else xp.broadcast_to(a, shape)
    return xp.ascontiguousarray(same, dtype=model.dtype)
