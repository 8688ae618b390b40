"""Adam's step with both moments moved where they stand."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array


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
    """Serve :func:`uanref.optimizers.adam.step`."""
    xp, (beta1, beta2) = backend.namespace(value, grad), betas
    if penalty > 0.0:
        grad = grad + penalty * value
    if shrink != 1.0:
        value = value * shrink
    # 1. Running averages of the gradient and of its square.
    m *= beta1
    m += (1.0 - beta1) * grad
    v *= beta2
    v += (1.0 - beta2) * grad * grad  # in this order the square leaves the range last
    # 2. Both started at 0: dividing by 1 - beta^t makes them averages again.
    denominator = xp.sqrt(v)
    denominator *= correction
    denominator += eps
    # 3. Step.
    change = m / denominator
    change *= rate
    return value - change, m, v
