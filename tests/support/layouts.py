"""Arrays on a device in any order of memory: a plain copy to the device may straighten a host array's."""

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
