"""Arrays in any order of memory; on a device by hand, since a plain copy may straighten a host array's."""

from __future__ import annotations

import numpy as np

from uanref import backend


def on_device(array: np.ndarray, layout: str = "C") -> backend.Array:
    """Move ``array`` to CuPy, laid out as one of :data:`support.arrays.LAYOUTS`."""
    if layout == "F":
        return backend.to_device(np.ascontiguousarray(array.T), "cupy").T
    if layout == "strided":
        return backend.to_device(np.repeat(array, 2, axis=-1), "cupy")[..., ::2]
    if layout == "reversed":
        return backend.to_device(np.ascontiguousarray(array[::-1]), "cupy")[::-1]
    return backend.to_device(np.ascontiguousarray(array), "cupy")


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """Return the same numbers on the host in another order of memory."""
    if array.ndim == 0 or layout == "C":
        return array.copy()
    if layout == "F":
        return np.asfortranarray(array)
    return np.repeat(array, 2, axis=-1)[..., ::2] if layout == "strided" else array[::-1].copy()[::-1]
