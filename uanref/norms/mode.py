"""Mode normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.kernels import accelerated
from uanref.layers.base import Layer, count, glorot_uniform, number
from uanref.norms.affine import ScaleAndShift
from uanref.norms.standardize import as_rows, moments


class ModeNorm(ScaleAndShift, Layer):
    r"""Mode normalization: a learned gate assigns each sample to modes, each mode normalizes (Deecke et al. 2018).

    With the spatial mean :math:`p_n` and variance :math:`s_n` of sample n (per channel; p = x and s = 0 at
    rank 2) the gate, the modes' moments over the batch and the output are

    .. math::
        g_n &= \mathrm{softmax}_k(W p_n + b), \qquad N_k = \sum_n g_{nk}, \qquad \bar g_{nk} = g_{nk} / N_k, \\
        \mu_k &= \sum_n \bar g_{nk}\, p_n, \qquad
        v_k = \sum_n \bar g_{nk} \left( s_n + (p_n - \mu_k)^2 \right), \qquad i_k = 1/\sqrt{v_k + \epsilon}, \\
        y_n &= \gamma \sum_k g_{nk} (x_n - \mu_k)\, i_k + \beta.

    This is the paper's v_k, because the spatial mean of :math:`(x_n - \mu_k)^2` is :math:`s_n + (p_n - \mu_k)^2`.
    In the same way the sum over modes leaves the loop over space: with :math:`c_{nk} = p_n - \mu_k`,

    .. math::
        y_n = \gamma \left( (x_n - p_n) A_n + D_n \right) + \beta, \qquad
        A_n = \sum_k g_{nk} i_k, \qquad D_n = \sum_k g_{nk} i_k c_{nk}.

    In eval mode mu and v are running moments; the gate still comes from the sample. The paper averages x and
    x^2 for them; this layer averages v itself, because a difference of squares cancels (this project's choice, as
    is the start of W: at W = 0 all modes are the same and the gate never wakes).

    Args:
        num_features: C, >= 1.
        num_modes: K, >= 1; K = 1 is batch normalization.
        eps: added to variances, > 0 (0 is allowed and divides by 0 where a variance is 0).
        momentum: weight of the new value in the running moments, in [0, 1].
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.
        rng: generator for W, ``default_rng(0)`` if None.

    Attributes:
        gate_weight: W, (K, C), starts Glorot-uniform. Not ``weight``: in a norm that name means gamma to many.
        gate_bias: b, (K,), starts at 0.
        gamma, beta: (C,), start at 1 and 0; None without ``affine``.
        running_mean, running_var: mu and v (biased), (K, C), start at 0 and 1.

    Range: a variance beyond the dtype (deviations above 1e19 in float32) saturates at its largest number: outputs
    stay finite and shrink.

    Raises:
        ValueError: an option out of range.
    """

    buffer_names = ("running_mean", "running_var")
    not_negative = ("running_var",)

    def __init__(
        self,
        num_features: int,
        num_modes: int = 2,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.num_features = channels = count("num_features", num_features)
        self.num_modes = modes = count("num_modes", num_modes)
        self.eps = number("eps", eps, 0.0)
        self.momentum = number("momentum", momentum, 0.0, 1.0)
        weight = glorot_uniform(backend.as_generator(rng), (modes, channels), channels, modes)
        self.gate_weight = self._new(weight)
        self.gate_bias = self._new([0.0] * modes)
        self._make_scale_and_shift(channels, affine, dtype)
        self.running_mean = self._new([[0.0] * channels] * modes).value
        self.running_var = self._new([[1.0] * channels] * modes).value

    def forward(self, x: Array) -> Array:
        """Normalize ``x`` by its modes' moments (train mode, which moves the running ones) or the running moments.

        A mode to which no sample of the batch belongs (N_k below the dtype's smallest normal number) adds
        nothing to y, passes on no gradient and keeps its running moments.

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
        double = backend.wide(x)  # what is as small as a sample's statistics is kept in double
        p, s = spatial_moments(rows)  # (N, C), (N, C)
        pooled, weight = p.astype(double), self.gate_weight.value.astype(double)

        # 1. The gate.
        logits = xp.matmul(pooled, weight.T) + self.gate_bias.value  # (N, K)
        gate = xp.exp(logits - logits.max(axis=1, keepdims=True))
        gate /= gate.sum(axis=1, keepdims=True)

        # 2. The modes' moments.
        if self.training:
            self._check_samples(rows[:, 0].size)
            total = gate.sum(axis=0)  # N_k, (K,)
            alive = (total >= backend.tiny(x.dtype)).astype(double)  # a mask, not a test: a device need not wait
            share = gate * (alive / (total + (1.0 - alive)))  # (N, K), 0 for a dead mode
            mean = xp.matmul(share.T, pooled)  # (K, C)
            centred = pooled[:, None] - mean  # (N, K, C)
            var = (share[:, :, None] * (s[:, None] + centred * centred)).sum(axis=0)  # (K, C)
            var = xp.minimum(var, backend.largest(x.dtype))  # saturates
            dead = 1.0 - alive[:, None]  # its variance is 0, and eps may be 0: it is divided by 1
            inverse_std = alive[:, None] / xp.sqrt(var + self.eps + dead)  # (K, C)
            self._move_state(mean, var, alive[:, None])
        else:
            share, mean, var = None, self.running_mean.astype(double), self.running_var.astype(double)
            centred = pooled[:, None] - mean
            inverse_std = 1.0 / xp.sqrt(var + self.eps)

        # 3. y = gamma ((x - p) A + D) + beta
        a = xp.matmul(gate, inverse_std)  # A, (N, C)
        d = (gate[:, :, None] * inverse_std * centred).sum(axis=1)  # D, (N, C)
        gamma, beta = self._scale_and_shift()
        scale, shift = (a, d) if gamma is None else (a * gamma, d * gamma)
        shift = shift if beta is None else shift + beta
        y = around(rows, p, scale, shift)  # (N, C, S)
        y = y.reshape(x.shape)
        self._keep(y, rows, p, s, weight, gate, share, centred, var, inverse_std, a, d, gamma)
        return y

    def backward(self, dy: Array) -> Array:
        r"""Return dL/dx for ``dy`` of the output's shape; fills ``grad`` of all parameters.

        The gate's natural variable is its logarithm: :math:`d\log g = g\, dg`, and of two factors of which one is a
        share :math:`\bar g` nothing overflows.
        """
        rows, p, s, weight, gate, share, centred, var, inverse_std, a, d, gamma = self._take(dy)
        xp, dy_rows = backend.namespace(dy, rows), dy.reshape(rows.shape)
        # 1. Each sample's sums over space, of dy and of dy (x - p); gamma and beta.
        plain, centred_sum = spatial_sums(dy_rows, rows, p)  # (N, C), (N, C)
        dgamma, dbeta = (centred_sum * a + plain * d).sum(axis=0), plain.sum(axis=0)  # (C,)
        self._receive_scale_and_shift(dgamma.astype(dy.dtype), dbeta.astype(dy.dtype))
        dd, da = (plain, centred_sum) if gamma is None else (plain * gamma, centred_sum * gamma)  # (N, C)

        # 2. Through A = sum_k g_k i_k and D = sum_k g_k i_k c_k. What p gets from D and from x - p cancels.
        dscaled = da[:, None] + dd[:, None] * centred  # d(g_k i_k), (N, K, C)
        dlog_gate = gate * (dscaled * inverse_std).sum(axis=2)  # (N, K)
        dp, ds = 0.0 * dd, 0.0 * dd  # (N, C)

        # 3. Through the batch's moments (train mode).
        if share is not None:
            dinverse_std = (gate[:, :, None] * dscaled).sum(axis=0)  # (K, C)
            dvar = -0.5 * inverse_std * inverse_std * inverse_std * dinverse_std  # (K, C)
            dmean = -inverse_std * xp.matmul(gate.T, dd)  # (K, C), through c in D; v's minimum is at mu
            ds = xp.matmul(share, dvar)  # (N, C)
            dp = (share[:, :, None] * (dmean + 2.0 * dvar * centred)).sum(axis=1)  # (N, C)
            deviation = s[:, None] + centred * centred - var  # (N, K, C)
            dlog_gate += share * (dmean * centred + dvar * deviation).sum(axis=2)  # (N, K)

        # 4. Through the softmax over the modes and the gate's linear map.
        dlogits = dlog_gate - gate * dlog_gate.sum(axis=1, keepdims=True)  # (N, K)
        self.gate_weight.receive(xp.matmul(dlogits.T, p.astype(gate.dtype)).astype(dy.dtype))  # (K, C)
        self.gate_bias.receive(dlogits.sum(axis=0).astype(dy.dtype))  # (K,)
        dp += xp.matmul(dlogits, weight)

        # 5. Directly, through the spatial variance and through the spatial mean.
        direct, spatial = a if gamma is None else a * gamma, rows.shape[2]
        dx = around_backward(dy_rows, rows, p, direct, 2.0 * ds / spatial, dp / spatial)
        return dx.reshape(dy.shape)

    def _move_state(self, mean: Array, var: Array, alive: Array) -> None:
        """Move the running moments of the modes that have samples."""
        xp, old, new, dtype = backend.namespace(mean), 1.0 - self.momentum, self.momentum, self.running_mean.dtype
        moved_mean, moved_var = old * self.running_mean + new * mean, old * self.running_var + new * var
        self.running_mean = xp.where(alive > 0, moved_mean, self.running_mean).astype(dtype)
        self.running_var = xp.where(alive > 0, moved_var, self.running_var).astype(dtype)


# --- what runs over all numbers of x, (N, C, S); the rest is as small as a sample's statistics, (N, C) --------


@accelerated
def spatial_moments(x: Array) -> tuple[Array, Array]:
    """Return each sample's spatial mean p and variance s per channel: ``(N, C, S)`` -> two arrays ``(N, C)``."""
    p, s = moments(x, axes=(2,))
    return p[:, :, 0].astype(x.dtype), s[:, :, 0].astype(x.dtype)


@accelerated
def around(x: Array, p: Array, scale: Array, shift: Array) -> Array:
    """Return ``(x - p) scale + shift``, ``(N, C, S)``, for p, scale and shift ``(N, C)``."""
    y = (x - p[:, :, None]) * scale[:, :, None] + shift[:, :, None]
    return y.astype(x.dtype)


@accelerated
def around_backward(dy: Array, x: Array, p: Array, direct: Array, through_s: Array, through_p: Array) -> Array:
    """Return ``dy direct + (x - p) through_s + through_p``, ``(N, C, S)``; the last three ``(N, C)``."""
    dx: Array = dy * direct[:, :, None] + (x - p[:, :, None]) * through_s[:, :, None] + through_p[:, :, None]
    return dx.astype(x.dtype)


@accelerated
def spatial_sums(dy: Array, x: Array, p: Array) -> tuple[Array, Array]:
    """Return each sample's sums over space of dy and of ``dy (x - p)``, ``(N, C)`` each, in ``backend.wide``."""
    wide = backend.wide(x)
    return dy.sum(axis=2, dtype=wide), (dy * (x - p[:, :, None])).sum(axis=2, dtype=wide)
