"""Adam's and AdamW's step on a device: one launch per parameter.

It reads value, gradient and both moments and writes both moments and the new value: 7 passes over the parameter. The
array code launches 13 kernels and makes 30 passes, with an L2 penalty 15 and 35, with AdamW's decay 14 and 32.

The roundings are the array code's, one by one; a card may join a product and a sum into one rounding (FMA).
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel, serves


def step(
    value: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    betas: tuple[float, float],
    eps: float,
    rate: float,
    correction: float,
    penalty: float,
    shrink: float,
) -> tuple[Array, Array, Array]:
    """Serve :func:`uanref.optimizers.adam.step`: 1 launch. The kernel walks through slots in the order of memory."""
    if not serves(value, grad, m, v) or not (m.flags.c_contiguous and v.flags.c_contiguous):
        return NotImplemented
    xp = backend.namespace(value, grad, m, v)
    moved: Array = xp.empty(value.shape, dtype=value.dtype)
    numbers = (*betas, eps, rate, correction, penalty, shrink)
    arrays = (xp.ascontiguousarray(value), xp.ascontiguousarray(grad), m, v, moved)
    blocks = -(-value.size // THREADS)
    kernel("adam", "adam", value.dtype.char)((blocks,), (THREADS,), (*arrays, value.size, *map(float, numbers)))
    return moved, m, v
