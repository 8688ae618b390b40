"""Adam's and AdamW's step on a device: one launch per parameter.

It reads value, gradient and both moments and writes both moments and the new value: 7 passes over the parameter. The
array code launches 13 kernels and makes 30 passes, with an L2 penalty 15 and 35, with AdamW's decay 14 and 32.

The roundings are the array code's, one by one; a card may join a product and a sum into one rounding (FMA).
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.launch import THREADS, kernel


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
) -> Array:
    r"""Return the new value, after moving ``m`` and ``v`` in place.

    .. math::
        g &\leftarrow g + \mathrm{penalty} \, \theta \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta' &= \mathrm{shrink} \, \theta - \mathrm{rate} \, \frac{m}{\mathrm{correction} \sqrt v + \epsilon}

    Args:
        value: theta, float32 or float64; only read.
        grad: g, of its shape and dtype; only read.
        m: the first moment, of that shape and dtype, C-contiguous.
        v: the second moment, likewise.
        betas: the moments' decay rates.
        eps: > 0.
        rate: ``lr / (1 - beta1^t)``.
        correction: ``(1 - beta2^t)^(-1/2)``.
        penalty: >= 0, Adam's decay.
        shrink: 1 without AdamW's decay.
    """
    xp = backend.namespace(value, grad, m, v)
    moved: Array = xp.empty(value.shape, dtype=value.dtype)
    numbers = (*betas, eps, rate, correction, penalty, shrink)
    arrays = (xp.ascontiguousarray(value), xp.ascontiguousarray(grad), m, v, moved)
    blocks = -(-value.size // THREADS)
    kernel("adam", "adam", value.dtype.char)((blocks,), (THREADS,), (*arrays, value.size, *map(float, numbers)))
    return moved


def reference_step(
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
) -> Array:
    """:func:`step` in array code."""
    g = grad + penalty * value
    m[...] = betas[0] * m + (1.0 - betas[0]) * g
    v[...] = betas[1] * v + (1.0 - betas[1]) * g * g
    moved: Array = shrink * value - rate * m / (correction * backend.namespace(v).sqrt(v) + eps)
    return moved
