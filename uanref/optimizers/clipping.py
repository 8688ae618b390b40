"""Gradients scaled down together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Parameter, number
from uanref.layers.sums import sum_squares
from uanref.optimizers.base import checked, gradients_of


@backend.quiet_underflow()
def clip_grad_norm(parameters: Mapping[str, Parameter], max_norm: float) -> Array:
    r"""Scale all gradients together so that their joint norm is at most ``max_norm`` (Pascanu et al. 2013).

    .. math::
        \|g\| = \sqrt{\textstyle\sum_i g_i^2}, \qquad
        g \leftarrow g \min\bigl(1, \mathrm{max\_norm} / (\|g\| + 10^{-6})\bigr)

    Squares are summed in float64, where those of float32 cannot overflow (float64 gradients above 1e154 can:
    the norm is then infinite and every gradient becomes 0). Every ``parameter.grad``
    is assigned a new array. A gradient that is not finite makes the norm so: NaN reaches every
    gradient, an infinity turns into NaN where it stands, and the trainer's guard sees it.

    Args:
        parameters: by dotted name.
        max_norm: > 0.

    Returns:
        The norm before clipping, 0-d float64, on the gradients' backend.

    Raises:
        ValueError: no parameters, one of them under two names, max_norm out of range, or a gradient of another shape
            than its parameter; nothing was changed.
        TypeError: a gradient is no array or has another dtype than its parameter; nothing was changed.
        BackendMismatch: gradients and parameters lie on different backends; nothing was changed.
        RuntimeError: a parameter has no gradient; nothing was changed.
    """
    max_norm = number("max_norm", max_norm, 0.0, open_low=True)
    found = checked(parameters, "clip_grad_norm")
    gradients = gradients_of(found, "clip_grad_norm")
    xp = backend.namespace(*gradients.values())

    squares: Any = 0.0
    for grad in gradients.values():
        squares = squares + sum_squares(grad)
    norm: Array = xp.sqrt(squares)
    scale = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for name, grad in gradients.items():
        found[name].grad = grad * scale.astype(grad.dtype)
    return norm
