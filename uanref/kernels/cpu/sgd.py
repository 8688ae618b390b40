"""Gradient descent with the velocity moved where it stands."""

from __future__ import annotations

from uanref.backend import Array


def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> tuple[Array, Array | None]:
    """Serve :func:`uanref.optimizers.sgd.step`."""
    if penalty > 0.0:
        grad = grad + penalty * value
    if velocity is not None:
        velocity *= momentum
        velocity += grad
        grad = grad + momentum * velocity if nesterov else velocity
    return value - lr * grad, velocity
