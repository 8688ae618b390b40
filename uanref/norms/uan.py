"""Unsupervised Adaptive Normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.layers.base import Layer, choice, count, number
from uanref.norms.affine import ScaleAndShift
from uanref.norms.mixture_constraints import constrained, constrained_backward, inverse_softplus
from uanref.norms.mixture_em import em_step_of_weights, moved_moments
from uanref.norms.mixture_moments import Moments, batch_moments, fixed_moments
from uanref.norms.mixture_transform import Gradients, transform, transform_backward
from uanref.norms.mixture_weights import Mixture
from uanref.norms.standardize import as_rows, channel_moments


class UAN(ScaleAndShift, Layer):
    r"""Unsupervised Adaptive Normalization (Faye, Azzag, Lebbah & Feng 2024): a trained mixture normalizes.

    A channel's activations are samples of a Gaussian mixture whose parameters are weights of the
    network. Each component normalizes the activation in its own way and the posterior mixes the results,

    .. math::
        y = \gamma \rho \sum_k w_k(x)\, \hat x^k + \beta, \qquad w_k = \frac{\tau_k(x)}{\sqrt{\lambda_k}}, \qquad
        \hat x^k = (x - m_k)\, i_k, \quad i_k = \frac{1}{\sqrt{v_k + \epsilon}}

    (the paper's transform; the factor :math:`\rho = 1/\sqrt K` is this project's choice, without it the
    published sum has variance K on separated components). :mod:`uanref.norms.mixture_weights` defines
    tau and w. The moments m, v are the batch's w-weighted ones (``statistics="batch"``; running averages
    in eval mode) or the mixture's own mu, sigma^2 (``"learned"``: no quantity of the batch enters).

    Backward: :func:`~uanref.norms.mixture_transform.transform_backward` goes through the component
    normalization, the batch moments and the weights. What remains here:

    1. learned moments, and the mixture's in eval mode, hand their gradient to mu and sigma^2; running ones are constants;
    2. :math:`\lambda = \mathrm{softmax}(a)`, so :math:`da_k = d\log\lambda_k - \lambda_k \sum_j d\log\lambda_j`;
    3. a shared prior gets what reaches it in every channel: :math:`d\log\lambda_k = \sum_c d\log\lambda_{kc}`;
    4. :math:`\sigma^2 = \mathrm{softplus}(s)`, so :math:`ds_k = \mathrm{sigmoid}(s_k)\, d\sigma_k^2`.

    Args:
        num_features: C, >= 1.
        num_components: K, >= 1; K = 1 with batch statistics is batch normalization.
        posterior: ``"channel"``, one per activation and channel, or ``"joint"``, one per position over all channels.
        prior: ``"channel"``, one per component and channel, or ``"shared"``, one per component for all channels, the
            shape in the authors' public code. A joint posterior has one per component anyway.
        statistics: ``"batch"`` or ``"learned"``.
        inference: by what batch statistics normalize in eval mode: ``"running"`` moments, or the ``"mixture"``'s own mu
            and sigma^2, as two later public releases of the authors do: the function of learned statistics. Running
            moments are kept in both cases; with learned statistics nothing changes.
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
        prior_logits: a, lambda = softmax_k(a), shape (K, C), (K, 1) for a joint posterior or a shared
            prior; starts at 0.
        mean: mu, (K, C).
        raw_variance: s, sigma^2 = softplus(s), (K, C).
        gamma, beta: (C,), or None.
        running_mean, running_var: (K, C), start 0 and 1, biased; with batch statistics only.
        initialized: with ``start="data"``, whether the first training batch was seen.

    Range: variances beyond the dtype saturate at its largest number, and activations beyond 3e15 in float32
    (1e123 in float64) meet the posterior as if they were there. Outputs and dx stay finite to 1e30 and further;
    parameter gradients of learned statistics, of order x^2, need not. In float64, deviations must stay below 1e150.
    What w divides by stops at the root of a prior of 1e-57 (3e-462 in float64): weights saturate at 4e28, the posterior
    and the signs of the gradients are those of the definition. ``eps = 0`` wants every variance above 1e-30.

    With ``update="em"`` the three mixture attributes are buffers: absent from ``parameters()``, in ``state_dict()``.

    Raises:
        ValueError: an option out of range or unknown.
    """

    not_negative = ("running_var",)

    def __init__(
        self,
        num_features: int,
        num_components: int = 3,
        *,
        posterior: str = "channel",
        prior: str = "channel",
        statistics: str = "batch",
        inference: str = "running",
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
        self.prior = choice("prior", prior, ("channel", "shared"))
        self.statistics = choice("statistics", statistics, ("batch", "learned"))
        self.inference = choice("inference", inference, ("running", "mixture"))
        self.update = choice("update", update, ("backprop", "em"))
        self.start = choice("start", start, ("paper", "data"))
        self.rescale = bool(rescale)
        self.eps = number("eps", eps, 0.0)
        self.momentum = number("momentum", momentum, 0.0, 1.0)

        rng, shape, trained = backend.as_generator(rng), (components, channels), update == "backprop"
        prior_width = channels if posterior == prior == "channel" else 1
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
        self._make_scale_and_shift(channels, affine, dtype)
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
        self._check_channels(x, self.num_features, self.mean.value)
        rows = as_rows(x)  # (N, C, S)
        from_batch = self.training and self.statistics == "batch"
        starting = self.training and self.start == "data" and not self.initialized
        if from_batch or starting:
            self._check_samples(rows[:, 0].size)
        if starting:
            self._start_on(rows)

        # 1. The mixture as its unconstrained weights give it now.
        width = self.num_features if self.posterior == "channel" else 1  # P
        weights = self.prior_logits.value, self.raw_variance.value
        log_prior, variance, with_eps = constrained(*weights, self.eps, width)
        mixture = Mixture(log_prior, self.mean.value, with_eps)  # log lambda (K, P), mu and sigma^2 + eps (K, C)

        # 2. The moments that normalize each component.
        needs_batch = from_batch or (self.training and self.update == "em")
        batch = Moments(*batch_moments(rows, mixture, self.eps)) if needs_batch else None
        own = self.statistics == "learned" or (not self.training and self.inference == "mixture")
        if from_batch and batch is not None:
            moments = batch
        elif own:
            moments = fixed_moments(self.mean.value, variance, self.eps)
        else:
            moments = fixed_moments(self.running_mean, self.running_var, self.eps)

        # 3. y = gamma rho sum_k w_k (x - m_k) i_k + beta
        rho = self.num_components**-0.5 if self.rescale else 1.0
        gamma, beta = self._scale_and_shift()
        y = transform(rows, mixture, moments, rho, gamma, beta).reshape(x.shape)

        # 4. State moves last: y was computed with the old values.
        if batch is not None:
            self._move_state(batch, mixture, variance)
        self._keep(y, rows, mixture, moments, rho, gamma, self.raw_variance.value, own)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``grad`` of all trained parameters."""
        rows, mixture, moments, rho, gamma, raw_variance, own = self._take(dy)
        dx, *others = transform_backward(dy.reshape(rows.shape), rows, mixture, moments, rho, gamma)
        d = Gradients(*others)
        self._receive_scale_and_shift(d.gamma, d.beta)  # (C,), (C,)
        if self.update == "backprop":
            # 1. Learned moments are the mixture's own.
            own_mean, own_variance = (d.moments_mean, d.moments_variance) if own else (None, None)
            # 2. to 4. Through softmax and softplus. A dead component of a batch stays where it is.
            dlogits, dmean, draw_variance = constrained_backward(
                d.log_prior,
                d.mean,
                d.variance,
                own_mean,
                own_variance,
                mixture.log_prior,
                raw_variance,
                moments.alive,
                self.prior == "shared",
            )
            self.prior_logits.receive(dlogits)  # (K, P), or (K, 1)
            self.mean.receive(dmean)  # (K, C)
            self.raw_variance.receive(draw_variance)  # (K, C)
        return dx.reshape(dy.shape)

    def _move_state(self, batch: Moments, mixture: Mixture, variance: Array) -> None:
        """Move the running moments (batch statistics) and, with EM, the mixture itself."""
        assert batch.alive is not None  # batch_moments always gives both
        assert batch.total is not None
        if self.statistics == "batch":
            self.running_mean, self.running_var = moved_moments(
                self.running_mean, self.running_var, batch.mean, batch.variance, batch.alive, self.momentum
            )
        if self.update == "em" and self.momentum > 0.0:
            self.prior_logits.value, self.mean.value, self.raw_variance.value = em_step_of_weights(
                mixture.log_prior,
                self.mean.value,
                self.raw_variance.value,
                variance,
                batch.total,
                batch.mean,
                batch.variance,
                batch.alive,
                self.momentum,
                self.eps,
                self.prior == "shared",
            )

    def _start_on(self, rows: Array) -> None:
        """Place the components on a first batch: jittered around the channel's mean, with its variance."""
        mean, variance = channel_moments(rows)  # (C,)
        self.mean.value = mean + 0.3 * variance**0.5 * self.start_jitter  # (K, C)
        same = variance + 0.0 * self.start_jitter  # (K, C)
        self.raw_variance.value = inverse_softplus(same, self.eps)
        self.initialized = True
