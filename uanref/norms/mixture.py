"""Mixture normalization."""

from __future__ import annotations

from typing import NamedTuple

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.layers.base import Layer, choice, count, number
from uanref.norms.affine import ScaleAndShift
from uanref.norms.mixture_em import em_step, kmeans_plus_plus, moved_moments
from uanref.norms.mixture_moments import Moments, batch_moments, fixed_moments
from uanref.norms.mixture_transform import Gradients, transform, transform_backward
from uanref.norms.mixture_weights import Mixture, near
from uanref.norms.standardize import as_rows, channel_moments


class Fit(NamedTuple):
    """A fitted mixture."""

    log_prior: Array  # log lambda, (K, P)
    mean: Array  # mu, (K, C)
    variance: Array  # sigma^2, (K, C)

    def like(self, x: Array) -> Fit:
        """Return the same mixture on the backend and in the dtype of ``x``."""
        name = backend.name_of(x)
        return Fit(*(backend.to_device(a, name).astype(x.dtype, copy=False) for a in self))


class MixtureNorm(ScaleAndShift, Layer):
    r"""Mixture normalization (Kalayeh & Shah 2018): a mixture fitted to each mini-batch normalizes it.

    The two-stage method that UAN replaces. In train mode EM fits a Gaussian mixture of diagonal covariance
    to the batch; the fit's lambda, mu, sigma^2 then take the place of UAN's trained ones,

    .. math::
        y = \gamma \rho \sum_k \frac{\tau_k(x)}{\sqrt{\lambda_k}} \frac{x - m_k}{\sqrt{v_k + \epsilon}} + \beta,
        \qquad \rho = 1/\sqrt K,

    with the batch's posterior-weighted moments m, v (:mod:`uanref.norms.mixture_transform`, which holds the
    derivation of the backward pass). The factor rho is UAN's default and gives the output unit variance.

    Backward: the fit is a constant. The gradient flows through x itself, through tau's dependence on x and through
    m and v, but not through lambda, mu and sigma^2, so it is the derivative of the forward pass at a held fit
    (``frozen_fit``); through EM's iterations no gradient is taken.

    How often the paper refits, its number of iterations and its test-time statistics could not be verified. This
    project's choices are: on the first training batch k-means++ places the components (uniform prior, each channel's
    mean squared distance to the nearest centre as variance) and the fit is taken whole; every later batch
    starts EM from the running parameters, since a fresh seeding would average switched labels; eval mode uses
    running averages of the fitted parameters and of the moments; rho; the floor of the prior at 1e-6.

    The uniform numbers of the seeding are drawn on the host when the layer is made: no forward pass, the first one
    included, copies anything from a device or waits for it.

    Args:
        num_features: C, >= 1.
        num_components: K, >= 1; K = 1 is batch normalization.
        posterior: ``"joint"``, one mixture over the vectors of all channels; ``"channel"``, one for each channel.
        em_steps: EM iterations per training batch, >= 1.
        eps: added to variances, > 0 (0 is allowed and divides by 0 where a variance is 0).
        momentum: weight of the new value in all running averages, in [0, 1].
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.
        rng: generator for the seeding, ``default_rng(0)`` if None.

    Attributes:
        gamma, beta: (C,), start at 1 and 0; None without ``affine``.
        prior: running average of lambda, (K, 1) for the joint posterior, else (K, C); starts at 1/K.
        mean, variance: running averages of mu and sigma^2, (K, C), start at 0 and 1.
        running_mean, running_var: running averages of m and v (biased), (K, C), start at 0 and 1.
        initialized: whether the first training batch was seen.
        seed_draws: the seeding's uniform numbers, shape of ``prior``.
        fit: the last training batch's fit, None before. No state: it is not in ``state_dict()``.
        frozen_fit: set it to True to hold ``fit`` still in training forwards (a fit is made if there is none yet): what
            a gradient check needs.

    Range: as :class:`~uanref.norms.uan.UAN`; the fit sees activations bounded as the posterior does. EM has no floor
    but eps under the variances: a component that shrinks to one sample maps it to 0.

    Raises:
        ValueError: an option out of range or unknown.
    """

    buffer_names = ("prior", "mean", "variance", "running_mean", "running_var", "seed_draws", "initialized")
    not_negative = ("prior", "variance", "running_var", "seed_draws")

    def __init__(
        self,
        num_features: int,
        num_components: int = 3,
        *,
        posterior: str = "joint",
        em_steps: int = 2,
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
        self.em_steps = count("em_steps", em_steps)
        self.eps = number("eps", eps, 0.0)
        self.momentum = number("momentum", momentum, 0.0, 1.0)
        self._make_scale_and_shift(channels, affine, dtype)

        prior_width = channels if posterior == "channel" else 1
        self.prior = self._new([[1.0 / components] * prior_width] * components).value
        self.mean, self.running_mean = (self._new([[0.0] * channels] * components).value for _ in range(2))
        self.variance, self.running_var = (self._new([[1.0] * channels] * components).value for _ in range(2))
        self.seed_draws = self._new(backend.as_generator(rng).uniform(size=(components, prior_width))).value
        self.initialized = False
        self.fit: Fit | None = None
        self.frozen_fit = False

    def forward(self, x: Array) -> Array:
        """Return the transform of ``x``; in train mode fit the mixture first and move all running averages.

        A component to which no sample of the batch belongs (its posteriors sum to less than the dtype's
        smallest normal number) adds nothing to y and keeps its running moments.

        Args:
            x: ``(N, C, ...)``, rank >= 2.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels; a single sample per channel in train mode.
            TypeError: another dtype than the parameters'.
        """
        self._check_channels(x, self.num_features, self.mean)
        rows = as_rows(x)  # (N, C, S)

        # 1. The mixture, and the moments that normalize each component.
        if self.training:
            self._check_samples(rows[:, 0].size)
            self.fit = fit = self._fit(rows) if self.fit is None or not self.frozen_fit else self.fit.like(rows)
            mixture = self._mixture(fit)
            moments = Moments(*batch_moments(rows, mixture, self.eps))
            self._move_state(fit, moments)
        else:
            mixture = self._mixture(self._running_fit())
            moments = fixed_moments(self.running_mean, self.running_var, self.eps)

        # 2. y = gamma rho sum_k w_k (x - m_k) i_k + beta
        rho = self.num_components**-0.5
        gamma, beta = self._scale_and_shift()
        y = transform(rows, mixture, moments, rho, gamma, beta).reshape(x.shape)
        self._keep(y, rows, mixture, moments, rho, gamma)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx at a held fit for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        rows, mixture, moments, rho, gamma = self._take(dy)
        # Through x, the posterior and the moments. What arrives at the fit's parameters ends there.
        dx, *others = transform_backward(dy.reshape(rows.shape), rows, mixture, moments, rho, gamma)
        d = Gradients(*others)
        self._receive_scale_and_shift(d.gamma, d.beta)  # (C,), (C,)
        return dx.reshape(dy.shape)

    def _fit(self, rows: Array) -> Fit:
        """Fit the mixture to ``rows (N, C, S)`` by EM from the running parameters, on the first batch from seeds."""
        rows = near(rows)  # as the posterior sees them
        fit = self._running_fit() if self.initialized else self._seed(rows)
        for _ in range(self.em_steps):
            # E step: the posteriors' moments. M step: with momentum 1 they are the new mixture.
            m, v, _, total, alive = batch_moments(rows, self._mixture(fit), self.eps)
            fit = Fit(*em_step(*fit, total, m, v, alive, 1.0))
        return fit

    def _seed(self, rows: Array) -> Fit:
        """Place the components on a first batch by k-means++, with the same variance and prior for all."""
        xp = backend.namespace(rows)
        _, variance = channel_moments(rows)  # (C,)
        points = rows.swapaxes(0, 1).reshape(self.num_features, -1)  # (C, M)
        centres, spread = kmeans_plus_plus(points, xp.sqrt(variance + self.eps), self.seed_draws)  # (K, C), (C,)
        uniform = xp.zeros_like(self.prior) + 1.0 / self.num_components
        same = spread + xp.zeros_like(centres)
        return Fit(xp.log(uniform), centres.astype(rows.dtype), same.astype(rows.dtype))

    def _running_fit(self) -> Fit:
        return Fit(backend.namespace(self.prior).log(self.prior), self.mean, self.variance)

    def _mixture(self, fit: Fit) -> Mixture:
        return Mixture(fit.log_prior, fit.mean, fit.variance + self.eps)

    def _move_state(self, fit: Fit, batch: Moments) -> None:
        """Move the running averages; the first fit is taken whole, the start that it replaces means nothing."""
        assert batch.alive is not None  # batch_moments always gives it
        found = backend.namespace(fit.mean).exp(fit.log_prior), fit.mean, fit.variance
        if self.initialized:
            # So written, what the fit kept, as it does with a dead component's mean and variance, stays to the bit.
            running = self.prior, self.mean, self.variance
            found = tuple(old + self.momentum * (new - old) for old, new in zip(running, found, strict=True))
        self.prior, self.mean, self.variance = found
        self.initialized = True
        self.running_mean, self.running_var = moved_moments(
            self.running_mean, self.running_var, batch.mean, batch.variance, batch.alive, self.momentum
        )
