"""Layer normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.blocking import as_rows
from uanref.layers.base import Layer, Parameter, count, number
from uanref.norms.sample_statistics import normalize, normalize_backward


class LayerNorm(Layer):
    r"""Layer normalization: each sample gets mean 0 and variance 1 over all its numbers (Ba, Kiros & Hinton 2016).

    With the L = C S numbers of sample n, :math:`i_n = 1/\sqrt{v_n + \epsilon}` and :math:`g = \gamma\, dy`,

    .. math::
        y = \gamma\, (x - \mu_n)\, i_n + \beta, \qquad
        dx = i_n \left( g - \frac1L \sum_l g_l - \hat x \frac1L \sum_l g_l \hat x_l \right).

    It is group normalization with one group. Statistics run over all axes but 0, while gamma and
    beta have one entry per channel (for images PyTorch's ``LayerNorm`` has one per pixel; its
    ``GroupNorm(1, C)`` is this layer).

    Args:
        num_features: C, >= 1.
        eps: added to the variance inside the root, >= 0.
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.

    Range: a variance beyond the dtype (deviations above 1e19 in float32) saturates at its largest number: outputs
    stay finite and shrink.

    Attributes:
        gamma: scale, shape (C,), starts at 1; None without ``affine``.
        beta: shift, shape (C,), starts at 0; None without ``affine``.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = True, *, dtype: DTypeLike = "float32"
    ) -> None:
        super().__init__(dtype)
        self.num_features = count("num_features", num_features)
        self.eps = number("eps", eps, 0.0)
        self.gamma: Parameter | None = self._new([1.0] * num_features) if affine else None
        self.beta: Parameter | None = self._new([0.0] * num_features) if affine else None

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
        self._check_channels(x, self.num_features)
        gamma, beta = (None if p is None else p.value for p in (self.gamma, self.beta))
        backend.namespace(x, gamma, beta)
        rows = as_rows(x)  # (N, C, S)
        y, mean, inverse_std = normalize(rows, 1, self.eps, gamma, beta)
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
