"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from uanref import backend
from uanref.backend import Array, DType
from uanref.kernels import accelerated
from uanref.layers.base import Parameter, number
from uanref.optimizers.base import Optimizer, as_rounded, share

Slots: TypeAlias = tuple[Array, ...]


@accelerated
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
    r"""Return theta and both moments after a step; a faster version may write the moments where they stand.

    .. math::
        g &\leftarrow g + \mathrm{penalty} \, \theta \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta' &= \mathrm{shrink} \, \theta - \mathrm{rate} \, \frac{m}{\mathrm{correction} \sqrt v + \epsilon}

    Args:
        value: theta, any shape; only read.
        grad: g, of its shape and dtype; only read.
        m, v: the moments, alike.
        betas: their decay rates.
        eps: > 0.
        rate: ``lr / (1 - beta1^t)``.
        correction: ``(1 - beta2^t)^(-1/2)``.
        penalty: >= 0, Adam's decay.
        shrink: 1 without AdamW's decay.
    """
    g = grad + penalty * value if penalty > 0.0 else grad  # 0 times infinity is NaN
    m = betas[0] * m + (1.0 - betas[0]) * g
    v = betas[1] * v + (1.0 - betas[1]) * g * g
    return shrink * value - rate * m / (correction * backend.namespace(v).sqrt(v) + eps), m, v


class Adam(Optimizer):
    r"""Adam (Kingma & Ba 2015, algorithm 1), with the decay as an L2 penalty.

    .. math::
        g &\leftarrow g + w \theta \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2,
            \quad m_0 = v_0 = 0 \\
        \theta &\leftarrow \theta - \mathrm{lr} \,
            \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        betas: decay rates of the two moments, each in [0, 1).
        eps: > 0, keeps the quotient finite.
        weight_decay: w, >= 0.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
        TypeError: betas that are no pair of numbers.
    """

    _squares = ("second_moment",)

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}") from None
        self.betas = (share("betas[0]", beta1), share("betas[1]", beta2))
        self.eps = number("eps", eps, 0.0, open_low=True)
        self.weight_decay = number("weight_decay", weight_decay, 0.0)
        super().__init__(parameters, lr, ("first_moment", "second_moment"))

    def _check_rounding(self, dtype: DType) -> None:
        super()._check_rounding(dtype)
        for i, beta in enumerate(self.betas):
            as_rounded(f"betas[{i}]", beta, dtype, below_one=True)
        if as_rounded("eps", self.eps, dtype) == 0.0:
            raise ValueError(f"eps must be > 0, but {dtype} rounds {self.eps} to 0: raise it or compute in float64")
        as_rounded("weight_decay", self.weight_decay, dtype)

    def _update(self, value: Array, grad: Array, *slots: Array) -> Slots:
        return self._step(value, grad, slots, penalty=self.weight_decay, shrink=1.0)

    def _step(self, value: Array, grad: Array, slots: Slots, penalty: float, shrink: float) -> Slots:
        """Take the step; both moments started at 0, and dividing by 1 - beta^t makes them averages again."""
        rate = self.lr / (1.0 - self.betas[0] ** self.steps)
        correction = (1.0 - self.betas[1] ** self.steps) ** -0.5
        numbers = {"rate": rate, "correction": correction, "penalty": penalty, "shrink": shrink}
        return step(value, grad, *slots, betas=self.betas, eps=self.eps, **numbers)


class AdamW(Adam):
    r"""Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, in PyTorch's form).

    The decay does not pass through the moments: :math:`\theta \leftarrow (1 - \mathrm{lr} \, w) \theta`,
    then Adam's step with the plain gradient.

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        betas: decay rates of the two moments, each in [0, 1).
        eps: > 0.
        weight_decay: w, >= 0.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
        TypeError: betas that are no pair of numbers.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _update(self, value: Array, grad: Array, *slots: Array) -> Slots:
        return self._step(value, grad, slots, penalty=0.0, shrink=1.0 - self.lr * self.weight_decay)
