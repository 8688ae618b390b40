"""The step of gradient descent on a device: one launch per parameter.

It reads value and gradient and writes the new value, 3 passes over the parameter, and 2 more for the velocity where
there is momentum. The array code launches 2 kernels (5 passes), 4 with momentum (10), 6 with Nesterov's (15), and 2
more (5) with a penalty.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel, serves


def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> tuple[Array, Array | None]:
    """Serve :func:`uanref.optimizers.sgd.step`: 1 launch. The kernel walks through slots in the order of memory."""
    if not serves(value, grad, velocity) or not (velocity is None or velocity.flags.c_contiguous):
        return NotImplemented
    xp = backend.namespace(value, grad, velocity)
    moved: Array = xp.empty(value.shape, dtype=value.dtype)
    arrays = (xp.ascontiguousarray(value), xp.ascontiguousarray(grad), 0 if velocity is None else velocity, moved)
    numbers = (float(lr), float(momentum), int(nesterov), float(penalty))
    blocks = -(-value.size // THREADS)
    kernel("sgd", "sgd", value.dtype.char)((blocks,), (THREADS,), (*arrays, value.size, *numbers))
    return moved, velocity
