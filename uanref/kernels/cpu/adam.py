"""Adam's step in pieces that stay in the cache, with both moments moved where they stand."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch
from uanref.kernels.cpu.elementwise import in_pieces


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
    """Serve :func:`uanref.optimizers.adam.step`: seven passes over memory, the rest within the cache."""
    xp, (beta1, beta2) = backend.namespace(value, grad), betas
    moved = xp.empty_like(value)

    def move(scratch: Scratch, theta: Array, g: Array, mean: Array, square: Array, out: Array) -> None:
        change = scratch("change", g.shape, g)
        if penalty > 0.0:
            g = xp.add(g, xp.multiply(theta, penalty, out=change), out=scratch("g", g.shape, g))
        # 1. Running averages of the gradient and of its square.
        mean *= beta1
        mean += xp.multiply(g, 1.0 - beta1, out=change)
        square *= beta2
        xp.multiply(g, 1.0 - beta2, out=change)
        change *= g  # in this order the square leaves the range last
        square += change
        # 2. Both started at 0: dividing by 1 - beta^t makes them averages again.
        xp.sqrt(square, out=change)
        change *= correction
        change += eps
        # 3. Step.
        xp.divide(mean, change, out=change)
        change *= rate
        if shrink != 1.0:
            theta = xp.multiply(theta, shrink, out=out)
        xp.subtract(theta, change, out=out)

    in_pieces(move, value, grad, m, v, moved)
    return moved, m, v
