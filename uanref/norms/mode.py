"""Mode normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.blocking import Scratch, as_rows, sample_blocks, sum_rows, walk
from uanref.layers.base import Layer, Parameter, count, glorot_uniform, number


class ModeNorm(Layer):
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
        self.gamma: Parameter | None = self._new([1.0] * channels) if affine else None
        self.beta: Parameter | None = self._new([0.0] * channels) if affine else None
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
        double = xp.result_type(x.dtype, "float64")  # what is as small as a sample's statistics is kept in double
        p, s = _spatial_moments(rows)  # (N, C), (N, C)
        pooled, weight = p.astype(double), self.gate_weight.value.astype(double)

        # 1. The gate.
        logits = xp.matmul(pooled, weight.T) + self.gate_bias.value  # (N, K)
        gate = xp.exp(logits - logits.max(axis=1, keepdims=True))
        gate /= gate.sum(axis=1, keepdims=True)

        # 2. The modes' moments.
        if self.training:
            self._check_samples(rows.shape[0] * rows.shape[2])
            total = gate.sum(axis=0)  # N_k, (K,)
            alive = (total >= backend.tiny(x.dtype)).astype(double)  # a mask, not a test: a device need not wait
            share = gate * (alive / (total + (1.0 - alive)))  # (N, K), 0 for a dead mode
            mean = xp.matmul(share.T, pooled)  # (K, C)
            centred = pooled[:, None] - mean  # (N, K, C)
            var = (share[:, :, None] * (s[:, None] + centred * centred)).sum(axis=0)  # (K, C)
            var = xp.minimum(var, backend.largest(x.dtype))  # saturates
            inverse_std = alive[:, None] / xp.sqrt(var + self.eps)  # (K, C)
            self._move_state(mean, var, alive[:, None])
        else:
            share, mean, var = None, self.running_mean.astype(double), self.running_var.astype(double)
            centred = pooled[:, None] - mean
            inverse_std = 1.0 / xp.sqrt(var + self.eps)

        # 3. y = gamma ((x - p) A + D) + beta
        a = xp.matmul(gate, inverse_std)  # A, (N, C)
        d = (gate[:, :, None] * inverse_std * centred).sum(axis=1)  # D, (N, C)
        gamma = None if self.gamma is None else self.gamma.value
        scale, shift = (a, d) if gamma is None else (a * gamma, d * gamma)
        shift = shift if self.beta is None else shift + self.beta.value
        y: Array = xp.empty(rows.shape, dtype=x.dtype)
        scale_, shift_, p_ = (q.astype(x.dtype)[:, :, None] for q in (scale, shift, p))  # (N, C, 1)

        def normalize(block: slice, scratch: Scratch) -> None:
            out = y[block]  # (b, C, S)
            xp.subtract(rows[block], p_[block], out=out)
            out *= scale_[block]
            out += shift_[block]

        walk(normalize, sample_blocks(rows, 2 * rows[0].size), rows.size)
        y = y.reshape(x.shape)
        self._keep(y, rows, p, s, weight, gate, share, centred, var, inverse_std, a, d, gamma)
        return y

    def backward(self, dy: Array) -> Array:
        r"""Return dL/dx for ``dy`` of the output's shape; fills ``grad`` of all parameters.

        The gate's natural variable is its logarithm: :math:`d\log g = g\, dg`, and of two factors of which one is a
        share :math:`\bar g` nothing overflows.
        """
        rows, p, s, weight, gate, share, centred, var, inverse_std, a, d, gamma = self._take(dy)
        xp = backend.namespace(dy, rows)
        dy_rows, double, spatial = as_rows(dy), gate.dtype, rows.shape[2]
        blocks = sample_blocks(rows, 3 * rows[0].size)

        def sums(block: slice, scratch: Scratch) -> None:
            product = scratch("product", rows[block].shape, dy)
            xp.subtract(rows[block], p[block, :, None], out=product)
            product *= dy_rows[block]
            plain[block], centred_sum[block] = sum_rows(dy_rows[block]), sum_rows(product)

        # 1. Each sample's sums over space, of dy and of dy (x - p); gamma and beta.
        plain, centred_sum = xp.empty(p.shape, dtype=double), xp.empty(p.shape, dtype=double)
        walk(sums, blocks, rows.size)
        if self.gamma is not None and self.beta is not None:
            self.gamma.receive((centred_sum * a + plain * d).sum(axis=0).astype(dy.dtype))  # (C,)
            self.beta.receive(plain.sum(axis=0).astype(dy.dtype))  # (C,)
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
        self.gate_weight.receive(xp.matmul(dlogits.T, p.astype(double)).astype(dy.dtype))  # (K, C)
        self.gate_bias.receive(dlogits.sum(axis=0).astype(dy.dtype))  # (K,)
        dp += xp.matmul(dlogits, weight)

        # 5. Directly, through the spatial variance and through the spatial mean.
        dx: Array = xp.empty(rows.shape, dtype=dy.dtype)
        direct = a if gamma is None else a * gamma
        through_s, through_p = 2.0 * ds / spatial, dp / spatial
        direct_, s_, p_ = (q.astype(dy.dtype)[:, :, None] for q in (direct, through_s, through_p))  # (N, C, 1)

        def propagate(block: slice, scratch: Scratch) -> None:
            out, term = dx[block], scratch("product", rows[block].shape, dy)  # (b, C, S)
            xp.multiply(dy_rows[block], direct_[block], out=out)
            xp.subtract(rows[block], p[block, :, None], out=term)
            term *= s_[block]
            out += term
            out += p_[block]

        walk(propagate, blocks, rows.size)
        return dx.reshape(dy.shape)

    def _move_state(self, mean: Array, var: Array, alive: Array) -> None:
        """Move the running moments of the modes that have samples."""
        step, dtype = self.momentum * alive, self.running_mean.dtype
        self.running_mean = ((1.0 - step) * self.running_mean + step * mean).astype(dtype)
        self.running_var = ((1.0 - step) * self.running_var + step * var).astype(dtype)


def _spatial_moments(rows: Array) -> tuple[Array, Array]:
    """Return each sample's spatial mean and variance per channel: ``(N, C, S)`` -> two arrays ``(N, C)``."""
    xp, (samples, channels, spatial) = backend.namespace(rows), rows.shape
    p, s = (xp.empty((samples, channels), dtype=rows.dtype) for _ in range(2))
    double = xp.result_type(rows.dtype, "float64")

    def task(block: slice, scratch: Scratch) -> None:
        x, centred = rows[block], scratch("centred", rows[block].shape, rows)  # (b, C, S)
        mean = sum_rows(x) / spatial  # (b, C)
        xp.subtract(x, mean[:, :, None], out=centred)
        left = sum_rows(centred) / spatial  # what rounding left of the mean, as in blocking.channel_moments
        centred *= centred
        p[block] = mean + left
        variance = sum_rows(centred) / spatial - left.astype(double) ** 2
        s[block] = xp.minimum(variance, backend.largest(x.dtype))  # saturates

    walk(task, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return p, s
