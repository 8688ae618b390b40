"""Unsupervised Adaptive Normalization."""

from __future__ import annotations

from typing import Any, NamedTuple

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.blocking import (
    Scratch,
    as_rows,
    channel_moments,
    merge_moments,
    merge_sums,
    per_channel,
    sample_blocks,
    sum_samples,
    walk,
)
from uanref.layers.base import Layer, Parameter, choice, count, number
from uanref.norms.gaussian_mixture import (
    Mixture,
    inverse_softplus,
    log_softmax,
    log_softmax_backward,
    softplus,
    softplus_backward,
    weighted_moments,
    weighted_moments_backward,
    weights,
    weights_backward,
)


class _Moments(NamedTuple):
    """What the components are normalized with: batch, running or learned moments."""

    mean: Array  # m_k, (K, C)
    variance: Array  # v_k, (K, C)
    inverse_std: Array  # i_k = 1 / sqrt(v_k + eps), 0 for a dead component, (K, C)
    total: Array | None  # W_k = sum_m w_k, (K, P); None unless these are the batch's own moments
    alive: Array | None  # 1 where a component has samples in the batch, else 0, (K, P); None as above


class UAN(Layer):
    r"""Unsupervised Adaptive Normalization (Faye, Azzag, Lebbah & Feng 2024): a trained mixture normalizes.

    A channel's activations are samples of a Gaussian mixture whose parameters are weights of the
    network. Each component normalizes the activation in its own way and the posterior mixes the results,

    .. math::
        y = \gamma \rho \sum_k w_k(x)\, \hat x^k + \beta, \qquad w_k = \frac{\tau_k(x)}{\sqrt{\lambda_k}}, \qquad
        \hat x^k = (x - m_k)\, i_k, \quad i_k = \frac{1}{\sqrt{v_k + \epsilon}}

    (the paper's transform; the factor :math:`\rho = 1/\sqrt K` is this project's choice, without it the
    published sum has variance K on separated components). :mod:`uanref.norms.gaussian_mixture` defines
    tau and w. The moments m, v are the batch's w-weighted ones (``statistics="batch"``; running averages
    in eval mode) or the mixture's own mu, sigma^2 (``"learned"``: no quantity of the batch enters).

    Backward, with :math:`g = \gamma \rho\, dy`. :math:`\log w` is the natural variable: its gradient is w dL/dw.

    1. Per component :math:`A_k = \sum_m g w_k` and :math:`B_k = \sum_m g w_k \hat x^k`, so
       :math:`dm_k = -i_k A_k` and :math:`dv_k = -\tfrac12 i_k^2 B_k`; :math:`d\gamma = \rho \sum_{k,m} dy\, w_k \hat x^k`.
    2. Directly: :math:`d\log w_k = g w_k \hat x^k` and :math:`dx = \sum_k g w_k i_k`.
    3. Batch moments depend on x and w: ``weighted_moments_backward`` adds to both. Learned ones hand
       :math:`dm_k, dv_k` to mu and sigma^2. Running ones are constants.
    4. The weights depend on x, lambda, mu, sigma^2: ``weights_backward``.
    5. Constraints: softmax gives :math:`da_k`, softplus gives :math:`ds_k`.

    Args:
        num_features: C, >= 1.
        num_components: K, >= 1; K = 1 with batch statistics is batch normalization.
        posterior: ``"channel"``, one per activation and channel, or ``"joint"``, one per position over all channels.
        statistics: ``"batch"`` or ``"learned"``.
        update: ``"backprop"`` trains the mixture by gradient; ``"em"`` moves it by online EM after each training
            forward and gives it no gradient (this project's choice, as are both starts' details).
        start: ``"paper"``: mean U(-1, 1), raw variance U(0.001, 0.01). ``"data"``: on the first training batch
            the channel's mean + 0.3 standard deviations * N(0, 1), and the channel's variance.
        rescale: whether to multiply by rho; else rho = 1.
        eps: added to variances, > 0 (0 is allowed and divides by 0 where a variance is 0).
        momentum: weight of the new value in running moments and EM, in [0, 1].
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.
        rng: generator for the start, ``default_rng(0)`` if None.

    Attributes:
        prior_logits: a, lambda = softmax_k(a), shape (K, C), (K, 1) for the joint posterior; starts at 0.
        mean: mu, (K, C).
        raw_variance: s, sigma^2 = softplus(s), (K, C).
        gamma, beta: (C,), or None.
        running_mean, running_var: (K, C), start 0 and 1, biased; with batch statistics only.
        initialized: with ``start="data"``, whether the first training batch was seen.

    With ``update="em"`` the three mixture attributes are buffers: absent from ``parameters()``, in ``state_dict()``.

    Raises:
        ValueError: an option out of range or unknown.
    """

    def __init__(
        self,
        num_features: int,
        num_components: int = 3,
        *,
        posterior: str = "channel",
        statistics: str = "batch",
        update: str = "backprop",
        start: str = "paper",
        rescale: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.num_features = channels = count("num_features", num_features)
        self.num_components = components = count("num_components", num_components)
        self.posterior = choice("posterior", posterior, ("channel", "joint"))
        self.statistics = choice("statistics", statistics, ("batch", "learned"))
        self.update = choice("update", update, ("backprop", "em"))
        self.start = choice("start", start, ("paper", "data"))
        self.rescale = bool(rescale)
        self.eps = number("eps", eps, 0.0)
        self.momentum = number("momentum", momentum, 0.0, 1.0)

        rng, shape, trained = backend.as_generator(rng), (components, channels), update == "backprop"
        prior_width = channels if posterior == "channel" else 1
        self.prior_logits = self._new([[0.0] * prior_width] * components, trainable=trained)
        if start == "paper":
            self.mean = self._new(rng.uniform(-1.0, 1.0, shape), trainable=trained)
            self.raw_variance = self._new(rng.uniform(0.001, 0.01, shape), trainable=trained)
        else:  # until the first batch comes: as if it were standard normal
            jitter = rng.standard_normal(shape)
            self.start_jitter = self._new(jitter).value
            self.mean = self._new(0.3 * jitter, trainable=trained)
            self.raw_variance = self._new(inverse_softplus(0.0 * jitter + 1.0, eps), trainable=trained)
            self.initialized = False
            self.buffer_names += ("start_jitter", "initialized")
        self.gamma: Parameter | None = self._new([1.0] * channels) if affine else None
        self.beta: Parameter | None = self._new([0.0] * channels) if affine else None
        if statistics == "batch":
            self.running_mean = self._new([[0.0] * channels] * components).value
            self.running_var = self._new([[1.0] * channels] * components).value
            self.buffer_names += ("running_mean", "running_var")

    def forward(self, x: Array) -> Array:
        """Return the transform of ``x``; in train mode move running moments and, with EM, the mixture.

        A component to which no sample of the batch belongs (its posteriors sum to less than the dtype's
        smallest normal number) adds nothing to y and keeps its running moments.

        Args:
            x: ``(N, C, ...)``, rank >= 2.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels; in train mode, a single sample per channel with batch
                statistics, or on the first batch of the "data" start.
            TypeError: another dtype than the parameters'.
        """
        self._check_channels(x, self.num_features)
        xp = backend.namespace(x, self.mean.value)
        rows = as_rows(x)  # (N, C, S)
        samples, spatial = rows.shape[0] * rows.shape[2], rows.shape[2]
        from_batch = self.training and self.statistics == "batch"
        starting = self.training and self.start == "data" and not self.initialized
        if from_batch or starting:
            self._check_samples(samples)
        if starting:
            self._start_on(rows)

        # 1. The mixture as its unconstrained weights give it now.
        log_prior = log_softmax(self.prior_logits.value)  # (K, P)
        learned_variance = softplus(self.raw_variance.value)  # sigma^2, (K, C)
        mixture = Mixture(log_prior, self.mean.value, learned_variance + self.eps, spatial)

        # 2. The moments that normalize each component.
        batch = self._batch_moments(rows, mixture) if from_batch or (self.training and self.update == "em") else None
        if from_batch:
            assert batch is not None
            moments = batch
        elif self.statistics == "batch":
            moments = self._moments(self.running_mean, self.running_var)
        else:
            moments = self._moments(self.mean.value, learned_variance)

        # 3. y = gamma rho sum_k w_k (x - m_k) i_k + beta
        rho = self.num_components**-0.5 if self.rescale else 1.0
        scale = rho * moments.inverse_std if self.gamma is None else rho * self.gamma.value * moments.inverse_std
        mean_, scale_ = per_channel(moments.mean, spatial), per_channel(scale, spatial)
        beta_ = None if self.beta is None else per_channel(self.beta.value, spatial)
        y: Array = xp.empty(rows.shape, dtype=x.dtype)

        def transform(block: slice, scratch: Scratch) -> None:
            x_b, y_b = rows[block], y[block]  # (b, C, S)
            w = weights(x_b, mixture, scratch)  # (K, b, P, S)
            term = scratch("product", (w.shape[0], *x_b.shape), x_b)
            xp.subtract(x_b, mean_, out=term)
            term *= scale_
            term *= w
            term.sum(axis=0, out=y_b)
            if beta_ is not None:
                y_b += beta_

        walk(transform, self._blocks(rows), rows.size)

        # 4. State moves last: y was computed with the old values.
        if batch is not None:
            self._move_state(batch, mixture, from_batch)
        y = y.reshape(x.shape)
        self._keep(y, rows, mixture, moments, rho, None if self.gamma is None else self.gamma.value)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``grad`` of all trained parameters."""
        rows, mixture, moments, rho, gamma = self._take(dy)
        xp = backend.namespace(dy, rows)
        dy_rows = as_rows(dy)
        spatial = rows.shape[2]
        mean_, inverse_std_ = per_channel(moments.mean, spatial), per_channel(moments.inverse_std, spatial)
        blocks = self._blocks(rows)

        # 1. Sums per component, before the factor gamma rho.
        def sums(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
            x, dy_b = rows[block], dy_rows[block]  # (b, C, S)
            w = weights(x, mixture, scratch)  # (K, b, P, S)
            shape = (w.shape[0], *x.shape)
            dy_w, x_hat = scratch("product", shape, x), scratch("quadratic", shape, x)
            xp.multiply(w, dy_b, out=dy_w)
            xp.subtract(x, mean_, out=x_hat)
            a = sum_samples(dy_w)
            dy_w *= x_hat
            return a, sum_samples(dy_w), sum_samples(dy_b)

        parts = walk(sums, blocks, rows.size)
        a = merge_sums([part[0] for part in parts], dy.dtype)  # (K, C)
        b = merge_sums([part[1] for part in parts], dy.dtype) * moments.inverse_std  # (K, C)
        if self.gamma is not None and self.beta is not None:
            self.gamma.receive(rho * b.sum(axis=0))
            self.beta.receive(merge_sums([part[2] for part in parts], dy.dtype))
        scale = rho if gamma is None else rho * gamma
        dm = -scale * a * moments.inverse_std  # (K, C)
        dv = -0.5 * scale * b * moments.inverse_std * moments.inverse_std  # (K, C)

        from_batch = moments.total is not None
        if from_batch:  # per unit of weight, as weighted_moments_backward takes them
            inverse_total = moments.alive / (moments.total + (1.0 - moments.alive))
            dm_, dv_ = per_channel(dm * inverse_total, spatial), per_channel(dv * inverse_total, spatial)
            variance_ = per_channel(moments.variance, spatial)
        scale_ = None if gamma is None else per_channel(scale, spatial)
        dx: Array = xp.empty(rows.shape, dtype=dy.dtype)

        def propagate(block: slice, scratch: Scratch) -> tuple[Array, Array, Array]:
            x, out = rows[block], dx[block]  # (b, C, S)
            w = weights(x, mixture, scratch)  # (K, b, P, S)
            shape = (w.shape[0], *x.shape)
            # 3. Through the batch's moments.
            if from_batch:
                out[...], dlog_w = weighted_moments_backward(dm_, dv_, x, w, mean_, variance_, scratch)
            else:
                out[...], dlog_w = 0.0, scratch("dlog_w", shape, x)
                dlog_w[...] = 0.0
            # 2. Directly.
            g = dy_rows[block] * (rho if scale_ is None else scale_)
            g_w_i, x_centred = scratch("product", shape, x), scratch("quadratic", shape, x)
            xp.multiply(w, g, out=g_w_i)
            g_w_i *= inverse_std_
            out += g_w_i.sum(axis=0)
            xp.subtract(x, mean_, out=x_centred)
            g_w_i *= x_centred
            dlog_w += g_w_i
            # 4. Through the weights.
            dx_w, dlog_prior, dmean, dvariance = weights_backward(dlog_w, x, w, mixture, scratch)
            out += dx_w
            return dlog_prior, dmean, dvariance

        parts = walk(propagate, blocks, rows.size)
        if self.update == "backprop":
            dlog_prior, dmean, dvariance = (merge_sums([part[i] for part in parts], dy.dtype) for i in range(3))
            if self.statistics == "learned":
                dmean, dvariance = dmean + dm, dvariance + dv
            elif moments.alive is not None:  # a dead component's mean and variance stay where they are
                dmean, dvariance = dmean * moments.alive, dvariance * moments.alive
            # 5. Through the constraints.
            self.prior_logits.receive(log_softmax_backward(dlog_prior, mixture.log_prior))
            self.mean.receive(dmean)
            self.raw_variance.receive(softplus_backward(dvariance, self.raw_variance.value))
        return dx.reshape(dy.shape)

    # --- moments and state ----------------------------------------------------------------------

    def _blocks(self, rows: Array) -> list[slice]:
        """Cut the batch so that a block's buffers, four per component, stay in the cache."""
        return sample_blocks(rows, 4 * self.num_components * rows[0].size)

    def _moments(self, mean: Array, variance: Array) -> _Moments:
        inverse_std = 1.0 / backend.namespace(mean).sqrt(variance + self.eps)
        return _Moments(mean, variance, inverse_std, None, None)

    def _batch_moments(self, rows: Array, mixture: Mixture) -> _Moments:
        """Return the posterior-weighted moments of the batch, dead components masked."""

        def task(block: slice, scratch: Scratch) -> tuple[Any, Array, Array]:
            x = rows[block]
            return weighted_moments(x, weights(x, mixture, scratch), scratch)

        total, mean, variance = merge_moments(walk(task, self._blocks(rows), rows.size), rows.dtype)
        share = mixture.root_prior * total  # S_k = sum_m tau_k, (K, P)
        alive = (share >= backend.tiny(rows.dtype)).astype(rows.dtype)
        inverse_std = alive / backend.namespace(rows).sqrt(variance + self.eps)
        return _Moments(mean, variance, inverse_std, total, alive)

    def _move_state(self, batch: _Moments, mixture: Mixture, from_batch: bool) -> None:
        """Move the running moments (batch statistics) and, with EM, the mixture itself."""
        xp = backend.namespace(batch.mean)
        step = self.momentum * batch.alive
        if from_batch:
            self.running_mean = self.running_mean + step * (batch.mean - self.running_mean)
            self.running_var = self.running_var + step * (batch.variance - self.running_var)
        if self.update == "em":
            share = mixture.root_prior * batch.total  # (K, P)
            prior = xp.exp(mixture.log_prior)
            prior = xp.maximum(prior + self.momentum * (share / share.sum(axis=0) - prior), 1e-6)
            self.prior_logits.value = xp.log(prior / prior.sum(axis=0))
            mean, variance = self.mean.value, softplus(self.raw_variance.value)
            self.mean.value = mean + step * (batch.mean - mean)
            self.raw_variance.value = inverse_softplus(variance + step * (batch.variance - variance), self.eps)

    def _start_on(self, rows: Array) -> None:
        """Place the components on a first batch: jittered around the channel's mean, with its variance."""
        xp = backend.namespace(rows)
        mean, variance = channel_moments(rows)  # (C,)
        self.mean.value = mean + 0.3 * xp.sqrt(variance) * self.start_jitter  # (K, C)
        same = variance + xp.zeros_like(self.start_jitter)
        self.raw_variance.value = inverse_softplus(same, self.eps)
        self.initialized = True
