"""How the kernels of ``constraints.cu`` are launched."""

from __future__ import annotations

import math
from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel


def launch(name: str, threads: int, model: Array, *arguments: Any) -> None:
    """Launch one thread for each number, or each channel, of ``model``'s dtype."""
    kernel("constraints", name, model.dtype.char)((-(-threads // THREADS),), (THREADS,), arguments)


def like(model: Array, a: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return ``a`` as the kernels read it: in ``model``'s dtype and shape (or ``shape``), C-contiguous."""
    xp, shape = backend.namespace(model, a), model.shape if shape is None else shape
    same = a if a.shape == shape else xp.broadcast_to(a, shape)
    ready: Array = xp.ascontiguousarray(same, dtype=model.dtype)
    return ready


def root_prior(log_prior: Array) -> Array:
    """Return sqrt(lambda), not below the bound of :func:`uanref.norms.mixture_weights.half_log`; any shape."""
    root: Array = backend.namespace(log_prior).empty(log_prior.shape, dtype=log_prior.dtype)
    bound = 0.75 * math.log(backend.tiny(log_prior.dtype))
    launch("root_prior", root.size, root, like(log_prior, log_prior), root, bound, root.size)
    return root
