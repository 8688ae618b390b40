"""Gradient descent in pieces that stay in the cache, with the velocity moved where it stands."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, walk
from uanref.kernels.cpu.elementwise import in_memory_order, pieces


def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> tuple[Array, Array | None]:
    """Serve :func:`uanref.optimizers.sgd.step`."""
    xp = backend.namespace(value, grad)
    moved = xp.empty_like(value)
    whole = in_memory_order(value, grad, moved, *(() if velocity is None else (velocity,)))

    def move(block: slice, scratch: Scratch) -> None:
        theta, g, out, *speed = [a[block] for a in whole]
        if penalty > 0.0:
            g = xp.add(g, xp.multiply(theta, penalty, out=out), out=scratch("g", g.shape, g))
        for v in speed:
            v *= momentum
            v += g
            g = xp.add(g, xp.multiply(v, momentum, out=out), out=out) if nesterov else v
        xp.subtract(theta, xp.multiply(g, lr, out=out), out=out)

    walk(move, pieces(whole[0]), value.size, products=False)
    return moved, velocity
