"""Group normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.blocking import as_rows
from uanref.layers.base import Layer, Parameter, count, number
from uanref.norms.sample_statistics import normalize, normalize_backward


class GroupNorm(Layer):
    r"""Group normalization: G groups of channels get mean 0 and variance 1 in each sample (Wu & He 2018).

    With the L = (C/G) S numbers of sample n and group j, :math:`i_{nj} = 1/\sqrt{v_{nj} + \epsilon}` and
    :math:`g = \gamma\, dy`,

    .. math::
        y = \gamma\, (x - \mu_{nj})\, i_{nj} + \beta, \qquad
        dx = i_{nj} \left( g - \frac1L \sum_l g_l - \hat x \frac1L \sum_l g_l \hat x_l \right).

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
        self.gamma: Parameter | None = self._new([1.0] * num_channels) if affine else None
        self.beta: Parameter | None = self._new([0.0] * num_channels) if affine else None

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
        self._check_channels(x, self.num_channels)
        gamma, beta = (None if p is None else p.value for p in (self.gamma, self.beta))
        backend.namespace(x, gamma, beta)
        rows = as_rows(x)  # (N, C, S)
        y, mean, inverse_std = normalize(rows, self.num_groups, self.eps, gamma, beta)
        y = y.reshape(x.shape)
        self._keep(y, rows, mean, inverse_std, gamma)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        rows, mean, inverse_std, gamma = self._take(dy)
        backend.namespace(dy, rows)
        dx, dgamma, dbeta = normalize_backward(as_rows(dy), rows, mean, inverse_std, gamma)
        if self.gamma is not None and self.beta is not None:
            self.gamma.receive(dgamma)  # (C,)
            self.beta.receive(dbeta)  # (C,)
        return dx.reshape(dy.shape)
