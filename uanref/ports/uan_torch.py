"""Unsupervised Adaptive Normalization (Faye, Azzag, Lebbah & Feng 2024) as a PyTorch module, in this one file.

Written by ``uanref vectors``, whose README has the same mathematics, and held to those vectors: outputs, gradients and
state after the call agree to 1e-12 in float64. PyTorch's autograd derives the backward pass. Parameters and buffers are
named as in ``uanref``'s own layer: ``module.load_state_dict`` takes ``{name: torch.from_numpy(a) for name, a in
uanref.to_torch(layer).items()}``, ``uanref.from_torch(module.state_dict(), layer)`` goes back.

Shapes: samples x are (N, C, S), S the positions of a channel; there are K components; P is C with a posterior for each
channel, and 1 with a joint one. Range: activations up to 1e15 in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class UAN(nn.Module):
    """Normalize by a trained Gaussian mixture: every component normalizes, its posterior mixes the results.

    Args:
        num_features: C, channels on axis 1.
        num_components: K; K = 1 with batch statistics is batch normalization.
        posterior: ``"channel"``, one per activation and channel, or ``"joint"``, one per position over all channels.
        prior: ``"channel"``, one per component and channel, or ``"shared"``, one per component for all channels (a joint
            posterior has no other).
        statistics: ``"batch"``, posterior-weighted moments of the batch (running ones in eval mode), or ``"learned"``,
            the mixture's own mean and variance.
        inference: by what batch statistics normalize in eval mode: ``"running"`` moments, or the ``"mixture"``'s own mean
            and variance.
        update: ``"backprop"`` trains the mixture by gradient; ``"em"`` makes it a buffer that each training forward
            moves by online EM.
        start: ``"paper"``, random numbers, or ``"data"``, around the moments of the first training batch.
        rescale: divide by sqrt(K), without which the output of separated components has variance K.
        eps: added to variances, inside the root.
        momentum: weight of the new value in running moments and EM.
        affine: whether to learn gamma and beta.

    Raises:
        ValueError: an unknown option.
    """

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        choices = {"posterior": (posterior, "channel", "joint"), "statistics": (statistics, "batch", "learned")}
        choices |= {"update": (update, "backprop", "em"), "start": (start, "paper", "data")}
        choices |= {"prior": (prior, "channel", "shared"), "inference": (inference, "running", "mixture")}
        for name, (given, *known) in choices.items():
            if given not in known:
                raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {given!r}")
        self.num_features, self.num_components = num_features, num_components
        self.posterior, self.statistics, self.update, self.start = posterior, statistics, update, start
        self.prior, self.inference = prior, inference
        self.rescale, self.eps, self.momentum, self.affine = rescale, eps, momentum, affine

        where = {"device": device, "dtype": dtype}
        shape = (num_components, num_features)
        if start == "paper":
            mean = torch.empty(shape, **where).uniform_(-1.0, 1.0)
            raw_variance = torch.empty(shape, **where).uniform_(0.001, 0.01)
        else:  # until the first batch comes: as if it were standard normal
            self.register_buffer("start_jitter", torch.randn(shape, **where))
            self.register_buffer("initialized", torch.tensor(False, device=device))
            mean = 0.3 * self.start_jitter
            raw_variance = inverse_softplus(torch.ones(shape, **where), eps)
        prior_width = num_features if posterior == prior == "channel" else 1
        mixture = {
            "prior_logits": torch.zeros((num_components, prior_width), **where),
            "mean": mean,
            "raw_variance": raw_variance,
        }
        for name, value in mixture.items():
            if update == "backprop":
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_parameter("gamma", nn.Parameter(torch.ones(num_features, **where)) if affine else None)
        self.register_parameter("beta", nn.Parameter(torch.zeros(num_features, **where)) if affine else None)
        if statistics == "batch":
            self.register_buffer("running_mean", torch.zeros(shape, **where))
            self.register_buffer("running_var", torch.ones(shape, **where))

    def forward(self, x: Tensor) -> Tensor:
        """Return the transform of ``x (N, C, ...)``; in train mode move running moments and, with EM, the mixture.

        Raises:
            ValueError: another number of channels, or a single sample per channel in train mode.
        """
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"UAN expects (N, {self.num_features}, ...), got {tuple(x.shape)}")
        rows = x.reshape(x.shape[0], x.shape[1], -1)  # (N, C, S)
        from_batch = self.training and self.statistics == "batch"
        starting = self.training and self.start == "data" and not self.initialized
        if (from_batch or starting) and rows[:, 0].numel() < 2:
            raise ValueError("UAN in train mode needs at least 2 samples per channel")
        if starting:
            self.start_on(rows)

        # 1. The mixture as its unconstrained weights give it.
        log_prior = torch.log_softmax(self.prior_logits, dim=0)  # log lambda, (K, P), or (K, 1) if shared
        sigma2 = softplus(self.raw_variance)  # (K, C)
        q = sigma2 + self.eps

        # 2. The posterior tau, and the weights w = tau / sqrt(lambda), from logarithms: nothing is divided by a prior.
        log_density = -0.5 * (column(q).log() + (rows - column(self.mean)) ** 2 / column(q))  # (K, N, C, S)
        if self.posterior == "joint":
            log_density = log_density.sum(dim=2, keepdim=True)  # (K, N, 1, S)
        log_tau = torch.log_softmax(column(log_prior) + log_density, dim=0)  # (K, N, P, S)
        w = torch.exp(log_tau - 0.5 * column(log_prior))

        # 3. The moments that normalize each component.
        if from_batch or (self.training and self.update == "em"):
            batch_mean, batch_variance, total, alive = batch_moments(rows, log_tau)
        if from_batch:
            m, v = batch_mean, batch_variance
            inverse_std = alive / torch.sqrt(v + self.eps + (~alive).to(v.dtype))  # a dead component adds nothing
        else:
            is_running = self.statistics == "batch" and (self.training or self.inference == "running")
            m, v = (self.running_mean, self.running_var) if is_running else (self.mean, sigma2)
            inverse_std = 1.0 / torch.sqrt(v + self.eps)  # (K, C)

        # 4. Every component normalizes, the weights mix.
        rho = self.num_components**-0.5 if self.rescale else 1.0
        y = rho * (w * (rows - column(m)) * column(inverse_std)).sum(dim=0)  # (N, C, S)
        if self.affine:
            y = self.gamma[:, None] * y + self.beta[:, None]

        # 5. State moves last: y was computed with the old values.
        if from_batch:
            self.move("running_mean", batch_mean, alive)
            self.move("running_var", batch_variance, alive)
        if self.training and self.update == "em" and self.momentum > 0.0:
            self.em_step(log_prior, sigma2, batch_mean, batch_variance, total, alive)
        return y.reshape(x.shape)

    @torch.no_grad()
    def start_on(self, rows: Tensor) -> None:
        """Place the components on a first batch: jittered around the channel's mean, with its variance."""
        mean, variance = rows.mean(dim=(0, 2)), rows.var(dim=(0, 2), correction=0)  # (C,)
        self.mean.copy_(mean + 0.3 * variance.sqrt() * self.start_jitter)
        self.raw_variance.copy_(inverse_softplus(variance, self.eps).expand_as(self.raw_variance))
        self.initialized.fill_(True)

    @torch.no_grad()
    def move(self, name: str, found: Tensor, alive: Tensor) -> None:
        """Move a running moment toward the batch's, except where the component is dead."""
        old = getattr(self, name)
        old.copy_(torch.where(alive, (1.0 - self.momentum) * old + self.momentum * found, old))

    @torch.no_grad()
    def em_step(
        self, log_prior: Tensor, sigma2: Tensor, mean: Tensor, variance: Tensor, total: Tensor, alive: Tensor
    ) -> None:
        """Move the mixture one step of online EM toward the batch's moments; ``total`` is sum(tau), ``(K, P)``."""
        share = total / total.sum(dim=0)
        if self.prior == "shared":
            share = share.mean(dim=1, keepdim=True)
        prior = ((1.0 - self.momentum) * log_prior.exp() + self.momentum * share).clamp(min=1e-6)
        self.prior_logits.copy_(torch.log(prior / prior.sum(dim=0)))
        self.move("mean", mean, alive)
        raw = inverse_softplus((1.0 - self.momentum) * sigma2 + self.momentum * variance, self.eps)
        self.raw_variance.copy_(torch.where(alive, raw, self.raw_variance))

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows between the parentheses."""
        return (
            f"{self.num_features}, {self.num_components}, posterior={self.posterior!r}, prior={self.prior!r}, "
            f"statistics={self.statistics!r}, inference={self.inference!r}, update={self.update!r}, start={self.start!r}, rescale={self.rescale}, "
            f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        )


def batch_moments(rows: Tensor, log_tau: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return each component's posterior-weighted mean and biased variance (K, C), sum(tau), and whether it is alive.

    A component is dead if its posteriors sum to less than the smallest normal number, (K, P).
    """
    log_total = torch.logsumexp(log_tau, dim=(1, 3))  # (K, P)
    share = torch.exp(log_tau - column(log_total))  # tau / sum(tau), never 0/0, (K, N, P, S)
    mean = (share * rows).sum(dim=(1, 3))
    variance = (share * (rows - column(mean)) ** 2).sum(dim=(1, 3))
    total = log_total.exp()
    return mean, variance, total, total >= torch.finfo(total.dtype).tiny


def column(a: Tensor) -> Tensor:
    """Give (K, C) the shape (K, 1, C, 1), which broadcasts against samples (N, C, S)."""
    return a[:, None, :, None]


def softplus(s: Tensor) -> Tensor:
    """Return log(1 + e^s). PyTorch's own is s itself from 20 on, which is 2e-9 off."""
    return functional.softplus(s, threshold=40.0)


def inverse_softplus(v: Tensor, floor: float) -> Tensor:
    """Return s with softplus(s) = max(v, floor): v + log(1 - e^-v), for log(e^v - 1) overflows."""
    v = v.clamp(min=max(floor, torch.finfo(v.dtype).tiny))
    return v + torch.log(-torch.expm1(-v))
