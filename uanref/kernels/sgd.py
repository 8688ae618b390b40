"""The step of gradient descent on a device: one launch per parameter.

It reads value and gradient and writes the new value, 3 passes over the parameter, and 2 more for the velocity where
there is momentum. The array code launches 2 kernels (5 passes), 4 with momentum (10), 6 with Nesterov's (15), and 2
more (5) with a penalty.
"""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.launch import THREADS, kernel


def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> Array:
    r"""Return the new value, after moving ``velocity`` in place.

    .. math::
        g \leftarrow g + \mathrm{penalty} \, \theta, \qquad v \leftarrow \mu v + g, \qquad
        \theta' = \theta - \mathrm{lr} \, v \quad\text{or, Nesterov,}\quad \theta - \mathrm{lr} \, (g + \mu v)

    Args:
        value: theta, float32 or float64; only read.
        grad: g, of its shape and dtype; only read.
        velocity: v, of that shape and dtype, C-contiguous; None for no momentum, ``theta' = theta - lr g``.
        lr: learning rate.
        momentum: mu.
        nesterov: which of the two forms.
        penalty: >= 0, the weight decay.
    """
    xp = backend.namespace(value, grad, velocity)
    moved: Array = xp.empty(value.shape, dtype=value.dtype)
    arrays = (xp.ascontiguousarray(value), xp.ascontiguousarray(grad), 0 if velocity is None else velocity, moved)
    numbers = (float(lr), float(momentum), int(nesterov), float(penalty))
    blocks = -(-value.size // THREADS)
    kernel("sgd", "sgd", value.dtype.char)((blocks,), (THREADS,), (*arrays, value.size, *numbers))
    return moved


def reference_step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> Array:
    """:func:`step` in array code."""
    g = grad + penalty * value
    if velocity is not None:
        velocity[...] = momentum * velocity + g
        g = g + momentum * velocity if nesterov else velocity
    moved: Array = value - lr * g
    return moved
