"""Batch normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.blocking import (
    Scratch,
    as_rows,
    channel_moments,
    merge_sums,
    per_channel,
    sample_blocks,
    sum_samples,
    walk,
)
from uanref.kernels import batch_norm as fused
from uanref.layers.base import Layer, Parameter, count, number


class BatchNorm(Layer):
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

    On a device the kernels of :mod:`uanref.kernels.batch_norm` compute the same in three launches each way.

    Raises:
        ValueError: an option out of range.
    """

    buffer_names = ("running_mean", "running_var")

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
        self.gamma: Parameter | None = self._new([1.0] * num_features) if affine else None
        self.beta: Parameter | None = self._new([0.0] * num_features) if affine else None
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
        self._check_channels(x, self.num_features)
        xp = backend.namespace(x, self.running_mean)
        rows = as_rows(x)  # (N, C, S)
        on_device = fused.serves(rows)
        if on_device:
            rows = xp.ascontiguousarray(rows)  # once for all kernels
        if self.training:
            samples = rows.shape[0] * rows.shape[2]
            self._check_samples(samples)
            if on_device:
                mean, var, self.running_mean, self.running_var = fused.moments(
                    rows, self.running_mean, self.running_var, self.momentum
                )
            else:
                mean, var = channel_moments(rows)  # (C,)
                new, old = self.momentum, 1.0 - self.momentum
                self.running_mean = old * self.running_mean + new * mean
                self.running_var = old * self.running_var + (new * samples / (samples - 1)) * var
        else:
            mean, var = self.running_mean, self.running_var
        gamma = None if self.gamma is None else self.gamma.value
        beta = None if self.beta is None else self.beta.value

        normalize = fused.normalize if on_device else _normalize
        y = normalize(rows, mean, var, gamma, beta, self.eps).reshape(x.shape)
        self._keep(y, rows, mean, var, gamma, self.training)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        rows, mean, var, gamma, from_batch = self._take(dy)
        backward = fused.backward if fused.serves(rows) else _backward
        dx, dgamma, dbeta = backward(dy, rows, mean, var, gamma, self.eps, from_batch)
        if self.gamma is not None and self.beta is not None:
            self.gamma.receive(dgamma)
            self.beta.receive(dbeta)
        return dx.reshape(dy.shape)


def _normalize(rows: Array, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> Array:
    """Return ``gamma (x - mean) / sqrt(var + eps) + beta``, ``(N, C, S)``; gamma and beta may be None, for 1 and 0."""
    xp = backend.namespace(rows, mean, var, gamma, beta)
    inverse_std = 1.0 / xp.sqrt(var + eps)  # (C,)
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)

    y: Array = xp.empty(rows.shape, dtype=rows.dtype)
    mean_, scale_ = per_channel(mean, rows.shape[2]), per_channel(scale, rows.shape[2])
    beta_ = None if beta is None else per_channel(beta, rows.shape[2])

    def normalize(block: slice, scratch: Scratch) -> None:
        out = y[block]  # (b, C, S)
        xp.subtract(rows[block], mean_, out=out)
        out *= scale_
        if beta_ is not None:
            out += beta_

    walk(normalize, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return y


def _backward(
    dy: Array, rows: Array, mean: Array, var: Array, gamma: Array | None, eps: float, from_batch: bool
) -> tuple[Array, Array, Array]:
    """Return dx ``(N, C, S)``, dgamma and dbeta ``(C,)``; ``from_batch`` tells whether the moments depend on x."""
    xp = backend.namespace(dy, rows, mean, var, gamma)
    dy_rows = as_rows(dy)  # (N, C, S)
    inverse_std = 1.0 / xp.sqrt(var + eps)  # (C,)
    scale = inverse_std if gamma is None else gamma * inverse_std  # (C,)
    samples, spatial = rows.shape[0] * rows.shape[2], rows.shape[2]
    mean_ = per_channel(mean, spatial)
    blocks = sample_blocks(rows, 3 * rows[0].size)

    def sums(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        dy_b = dy_rows[block]  # (b, C, S)
        product = scratch("product", dy_b.shape, dy)
        xp.subtract(rows[block], mean_, out=product)
        product *= dy_b
        return sum_samples(dy_b), sum_samples(product)

    # 1. Each channel's sums: beta is added to every sample, gamma multiplies every x_hat.
    parts = walk(sums, blocks, rows.size)
    dbeta = merge_sums([part[0] for part in parts], dy.dtype)  # (C,)
    dgamma = merge_sums([part[1] for part in parts], dy.dtype) * inverse_std  # (C,)

    # 2. Directly, minus what goes through the mean and through the variance (train mode).
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)
    scale_ = per_channel(scale, spatial)
    through_mean_ = per_channel(dbeta / samples, spatial)
    through_var_ = per_channel(dgamma * inverse_std / samples, spatial)

    def propagate(block: slice, scratch: Scratch) -> None:
        out = dx[block]
        if from_batch:
            xp.subtract(mean_, rows[block], out=out)
            out *= through_var_  # -x_hat dgamma / M
            out += dy_rows[block]
            out -= through_mean_
            out *= scale_
        else:
            xp.multiply(dy_rows[block], scale_, out=out)

    walk(propagate, blocks, rows.size)
    return dx, dgamma, dbeta
