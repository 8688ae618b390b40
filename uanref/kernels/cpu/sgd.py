"""Gradient descent in pieces that stay in the cache, with the velocity moved where it stands."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch
from uanref.kernels.cpu.elementwise import in_pieces


def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> tuple[Array, Array | None]:
    """Serve :func:`uanref.optimizers.sgd.step`."""
    xp = backend.namespace(value, grad)
    moved = xp.empty_like(value)

    def move(scratch: Scratch, theta: Array, g: Array, out: Array, v: Array | None = None) -> None:
        if penalty > 0.0:
            g = xp.add(g, xp.multiply(theta, penalty, out=out), out=scratch("g", g.shape, g))
        if v is not None:
            v *= momentum
            v += g
            g = xp.add(g, xp.multiply(v, momentum, out=out), out=out) if nesterov else v
        xp.subtract(theta, xp.multiply(g, lr, out=out), out=out)

    in_pieces(move, value, grad, moved, *([] if velocity is None else [velocity]))
    return moved, velocity
