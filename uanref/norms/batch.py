"""Batch normalization."""

from __future__ import annotations

from uanref.backend import Array, DTypeLike
from uanref.kernels import accelerated
from uanref.layers.base import Layer, count, number
from uanref.norms.affine import ScaleAndShift
from uanref.norms.standardize import (
    as_rows,
    channel_moments,
    scale_and_shift,
    scale_and_shift_backward,
    standardize,
    standardize_backward,
)


@accelerated
def statistics(x: Array, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array, Array, Array]:
    """Return the batch's mean and biased variance, and the running moments after it; all ``(C,)``, x ``(N, C, S)``."""
    mean, var = channel_moments(x)
    samples = x[:, 0].size  # M; the running variance is the unbiased one
    running_mean = (1.0 - momentum) * running_mean + momentum * mean
    running_var = (1.0 - momentum) * running_var + (momentum * samples / (samples - 1)) * var
    return mean, var, running_mean, running_var


@accelerated
def normalize(x: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> Array:
    """Return ``y = gamma (x - mean) / sqrt(var + eps) + beta``, ``(N, C, S)``."""
    x_hat = standardize(x, mean[:, None], var[:, None], eps)  # (N, C, S)
    return scale_and_shift(x_hat, gamma, beta)


@accelerated
def backward(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Return dL/dx ``(N, C, S)``, dL/dgamma and dL/dbeta ``(C,)`` where mean and var are the batch's."""
    x_hat = standardize(x, mean[:, None], var[:, None], eps)  # (N, C, S)
    dx_hat, dgamma, dbeta = scale_and_shift_backward(dy, x_hat, gamma)
    dx = standardize_backward(dx_hat, x_hat, var[:, None], eps, axes=(0, 2))
    return dx, dgamma, dbeta


@accelerated
def backward_fixed(
    dy: Array, x: Array, mean: Array, var: Array, gamma: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Return what :func:`backward` does where mean and var are constants (eval mode)."""
    x_hat = standardize(x, mean[:, None], var[:, None], eps)  # (N, C, S)
    dx_hat, dgamma, dbeta = scale_and_shift_backward(dy, x_hat, gamma)
    dx = dx_hat / ((var + eps) ** 0.5)[:, None]
    return dx, dgamma, dbeta


class BatchNorm(ScaleAndShift, Layer):
    r"""Batch normalization: each channel gets mean 0 and variance 1 over the mini-batch (Ioffe & Szegedy 2015).

    With the M = N S samples of a channel (S spatial elements), :math:`i = 1/\sqrt{v + \epsilon}`,

    .. math::
        \mu = \frac1M \sum_m x_m, \quad v = \frac1M \sum_m (x_m - \mu)^2, \quad
        \hat x_m = (x_m - \mu)\, i, \quad y_m = \gamma \hat x_m + \beta.

    Backward: x reaches the loss directly, through the mean and through the variance. With
    :math:`d\gamma = \sum_m dy_m \hat x_m` and :math:`d\beta = \sum_m dy_m` the three collapse to

    .. math:: dx_m = \gamma\, i \left( dy_m - \frac{d\beta}{M} - \hat x_m \frac{d\gamma}{M} \right).

    In eval mode mu and v are the running moments, constants, and :math:`dx_m = \gamma\, i\, dy_m`.

    Args:
        num_features: C, >= 1.
        eps: added to the variance inside the root, > 0 (0 is allowed and divides by 0 on a constant channel).
        momentum: weight of the new value in the running moments, in [0, 1].
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.

    Attributes:
        gamma: scale, shape (C,), starts at 1; None without ``affine``.
        beta: shift, shape (C,), starts at 0; None without ``affine``.
        running_mean: shape (C,), starts at 0.
        running_var: shape (C,), starts at 1; averages the *unbiased* M/(M-1) v, as PyTorch stores it,
            while the batch itself is normalized by the biased v.

    Range: a variance beyond the dtype (deviations above 1e19 in float32) saturates at its largest number: outputs
    stay finite and shrink. In float64, deviations must stay below 1e150: there is no wider format to sum in.

    Raises:
        ValueError: an option out of range.
    """

    buffer_names = ("running_mean", "running_var")
    not_negative = ("running_var",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(dtype)
        self.num_features = count("num_features", num_features)
        self.eps = number("eps", eps, 0.0)
        self.momentum = number("momentum", momentum, 0.0, 1.0)
        self._make_scale_and_shift(num_features, affine, dtype)
        self.running_mean = self._new([0.0] * num_features).value
        self.running_var = self._new([1.0] * num_features).value

    def forward(self, x: Array) -> Array:
        """Normalize ``x`` by the batch's moments (train mode, which moves the running ones) or the running moments.

        Args:
            x: ``(N, C, ...)``, rank >= 2.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels; a single sample per channel in train mode.
            TypeError: another dtype than the parameters'.
        """
        self._check_channels(x, self.num_features, self.running_mean)
        rows = as_rows(x)  # (N, C, S)
        if self.training:
            self._check_samples(rows[:, 0].size)
            running = self.running_mean, self.running_var
            mean, var, self.running_mean, self.running_var = statistics(rows, *running, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        gamma, beta = self._scale_and_shift()

        y = normalize(rows, mean, var, gamma, beta, self.eps)  # (N, C, S)
        y = y.reshape(x.shape)
        self._keep(y, rows, mean, var, gamma, self.training)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        rows, mean, var, gamma, from_batch = self._take(dy)
        back = backward if from_batch else backward_fixed
        dx, dgamma, dbeta = back(dy.reshape(rows.shape), rows, mean, var, gamma, self.eps)
        self._receive_scale_and_shift(dgamma, dbeta)  # (C,), (C,)
        return dx.reshape(dy.shape)
