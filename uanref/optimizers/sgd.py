"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping

from uanref.backend import Array, DType
from uanref.kernels import accelerated
from uanref.layers.base import Parameter, number
from uanref.optimizers.base import Optimizer, as_rounded, share


@accelerated
def step(
    value: Array, grad: Array, velocity: Array | None, *, lr: float, momentum: float, nesterov: bool, penalty: float
) -> tuple[Array, Array | None]:
    """Return theta and the velocity after a step; a faster version may write the velocity where it stands.

    Args:
        value: theta, any shape; only read.
        grad: g, of its shape and dtype; only read.
        velocity: v, alike; None for no momentum, ``theta - lr g``.
        lr: learning rate.
        momentum: mu.
        nesterov: which of the two forms of :class:`SGD`.
        penalty: w, >= 0.
    """
    g = grad + penalty * value if penalty > 0.0 else grad  # 0 times infinity is NaN
    if velocity is None:
        return value - lr * g, None
    velocity = momentum * velocity + g
    direction = g + momentum * velocity if nesterov else velocity
    return value - lr * direction, velocity


class SGD(Optimizer):
    r"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov as Sutskever et al. 2013, PyTorch's form).

    .. math::
        g &\leftarrow g + w \theta \\
        v &\leftarrow \mu v + g, \quad v_0 = 0 \\
        \theta &\leftarrow \theta - \mathrm{lr} \cdot
            \begin{cases} v & \text{momentum} \\ g + \mu v & \text{Nesterov} \end{cases}

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        momentum: mu, in [0, 1).
        nesterov: look one momentum step ahead; needs momentum > 0.
        weight_decay: w, >= 0, the weight of an L2 penalty ``w/2 theta^2``.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = share("momentum", momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = number("weight_decay", weight_decay, 0.0)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum > 0, got momentum=0.0")
        super().__init__(parameters, lr, ("momentum",) if self.momentum > 0.0 else ())

    def _check_rounding(self, dtype: DType) -> None:
        super()._check_rounding(dtype)
        as_rounded("momentum", self.momentum, dtype, below_one=True)
        as_rounded("weight_decay", self.weight_decay, dtype)

    def _update(self, value: Array, grad: Array, *slots: Array) -> tuple[Array, ...]:
        moved, velocity = step(
            value,
            grad,
            slots[0] if slots else None,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            penalty=self.weight_decay,
        )
        return (moved,) if velocity is None else (moved, velocity)
