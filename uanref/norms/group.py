"""Group normalization."""

from __future__ import annotations

from uanref.backend import Array, DTypeLike
from uanref.kernels import accelerated
from uanref.layers.base import Layer, count, number
from uanref.norms.affine import ScaleAndShift
from uanref.norms.standardize import (
    as_rows,
    moments,
    scale_and_shift,
    scale_and_shift_backward,
    standardize,
    standardize_backward,
)


@accelerated
def forward(x: Array, groups: int, gamma: Array | None, beta: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Normalize ``x (N, C, S)``: return y, and each group's mean and variance, ``(N, G, 1)``."""
    cells = x.reshape(len(x), groups, -1)  # (N, G, M)
    mean, var = moments(cells, axes=(2,))  # (N, G, 1)
    x_hat = standardize(cells, mean, var, eps).reshape(x.shape)  # (N, C, S)
    return scale_and_shift(x_hat, gamma, beta), mean.astype(x.dtype), var.astype(x.dtype)


@accelerated
def backward(
    dy: Array, x: Array, groups: int, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Return dL/dx ``(N, C, S)``, dL/dgamma and dL/dbeta ``(C,)`` for ``dy (N, C, S)``."""
    cells = (len(x), groups, -1)  # (N, G, M)
    x_hat = standardize(x.reshape(cells), mean, var, eps)  # (N, G, M)
    dx_hat, dgamma, dbeta = scale_and_shift_backward(dy, x_hat.reshape(x.shape), gamma)
    dx = standardize_backward(dx_hat.reshape(cells), x_hat, var, eps, axes=(2,))
    return dx.reshape(x.shape), dgamma, dbeta


class GroupNorm(ScaleAndShift, Layer):
    r"""Group normalization: G groups of channels get mean 0 and variance 1 in each sample (Wu & He 2018).

    With the M = (C/G) S numbers of sample n and group j, :math:`i_{nj} = 1/\sqrt{v_{nj} + \epsilon}` and
    :math:`h = \gamma\, dy`,

    .. math::
        y = \gamma\, (x - \mu_{nj})\, i_{nj} + \beta, \qquad
        dx = i_{nj} \left( h - \frac1M \sum_l h_l - \hat x \frac1M \sum_l h_l \hat x_l \right).

    One group is layer normalization, C groups are instance normalization.

    Args:
        num_groups: G, >= 1, divides C.
        num_channels: C, >= 1.
        eps: added to the variance inside the root, >= 0.
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.

    Range: a variance beyond the dtype (deviations above 1e19 in float32) saturates at its largest number: outputs
    stay finite and shrink.

    Attributes:
        gamma: scale, shape (C,), starts at 1; None without ``affine``.
        beta: shift, shape (C,), starts at 0; None without ``affine``.

    Raises:
        ValueError: an option out of range, groups that do not divide the channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(dtype)
        self.num_groups = count("num_groups", num_groups)
        self.num_channels = count("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"num_groups must divide num_channels, got {num_groups} groups for {num_channels} channels"
            )
        self.eps = number("eps", eps, 0.0)
        self._make_scale_and_shift(num_channels, affine, dtype)

    def forward(self, x: Array) -> Array:
        """Normalize ``x``, the same way in train and eval mode.

        Args:
            x: ``(N, C, ...)``, rank >= 2.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels.
            TypeError: another dtype than the parameters'.
        """
        gamma, beta = self._scale_and_shift()
        self._check_channels(x, self.num_channels, gamma, beta)
        rows = as_rows(x)  # (N, C, S)
        y, mean, var = forward(rows, self.num_groups, gamma, beta, self.eps)
        y = y.reshape(x.shape)
        self._keep(y, rows, mean, var, gamma)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        rows, mean, var, gamma = self._take(dy)
        dx, dgamma, dbeta = backward(dy.reshape(rows.shape), rows, self.num_groups, mean, var, gamma, self.eps)
        self._receive_scale_and_shift(dgamma, dbeta)  # (C,), (C,)
        return dx.reshape(dy.shape)
