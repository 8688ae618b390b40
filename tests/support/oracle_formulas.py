"""The mixture norms as their definitions read, under PyTorch's autograd in float64.

Nothing here is derived, merged or arranged for speed or range: one statement per line of
the definition, on a matrix of samples (M, C), with every posterior at once. Gradients are autograd's.
Rows of all tensors: k components, m samples, c channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

TINY = float(np.finfo("float64").tiny)


class Batch(NamedTuple):
    """What a batch says about each component."""

    share: Any  # S_k = sum_m tau_k, (K, P)
    mean: Any  # m_k, (K, C)
    variance: Any  # v_k, (K, C)
    alive: Any  # whether S_k reaches the smallest normal number, (K, P)


def samples(x: Any) -> Any:
    """(N, C, ...) -> (M, C): every position of every sample is one sample of a channel."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def like(y: Any, x: Any) -> Any:
    """(M, C) -> (N, C, ...), the way back."""
    return y.reshape(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1)


def posterior(flat: Any, prior: Any, mean: Any, variance: Any) -> Any:
    """tau_k(x_m), (K, M, P); the joint one if the prior has one column for several channels' components.

    ``prior`` (K, P), ``mean`` and ``variance`` (K, C); eps is inside the variance already.
    """
    quadratic = (flat[None] - mean[:, None]) ** 2 / (2 * variance[:, None])
    log_density = -variance[:, None].log() / 2 - quadratic  # (K, M, C)
    if prior.shape[1] < mean.shape[1]:
        log_density = log_density.sum(2, keepdim=True)
    return (prior[:, None].log() + log_density).softmax(0)


def weighted_moments(flat: Any, tau: Any) -> Batch:
    """S_k, m_k and v_k; a dead component's moments are 0 and mean nothing."""
    share = tau.sum(1)
    alive = share >= TINY
    some = share.where(alive, share.new_ones(()))
    mean = (tau * flat).sum(1) / some
    variance = (tau * (flat - mean[:, None]) ** 2).sum(1) / some
    return Batch(share, mean, variance, alive)


def mixed(flat: Any, tau: Any, prior: Any, mean: Any, variance: Any, alive: Any, eps: float) -> Any:
    """sum_k tau_k / sqrt(lambda_k) (x - m_k) / sqrt(v_k + eps) over the living components, (M, C)."""
    normalized = (flat - mean[:, None]) / (variance[:, None] + eps).sqrt()  # (K, M, C)
    return (tau / prior[:, None].sqrt() * normalized * alive[:, None]).sum(0)


def uan(x: Any, t: dict[str, Any], options: dict[str, Any]) -> tuple[Any, Batch]:
    """UAN's output before gamma and beta, and what the batch says. ``t``: the layer's weights and buffers."""
    flat, eps = samples(x), options["eps"]
    prior, variance = t["prior_logits"].softmax(0), (1 + t["raw_variance"].exp()).log()
    if options["posterior"] == "channel":  # a shared prior is that of each channel
        prior = prior.expand(-1, flat.shape[1])
    tau = posterior(flat, prior, t["mean"], variance + eps)
    batch = weighted_moments(flat, tau)
    every = batch.alive | True
    by_mixture = options["inference"] == "mixture" and not options["training"]
    if options["statistics"] == "learned" or by_mixture:
        normalizing = t["mean"], variance, every
    elif options["training"]:
        normalizing = batch.mean, batch.variance, batch.alive
    else:
        normalizing = t["running_mean"], t["running_var"], every
    rho = len(prior) ** -0.5 if options["rescale"] else 1.0
    return like(rho * mixed(flat, tau, prior, *normalizing, eps), x), batch


def mixture_norm(x: Any, fit: tuple[Any, Any, Any], running: tuple[Any, Any] | None, eps: float) -> tuple[Any, Batch]:
    """Mixture normalization at a held fit (lambda, mu, sigma^2), by the batch's moments or by running ones."""
    flat, (prior, mean, variance) = samples(x), fit
    tau = posterior(flat, prior, mean, variance + eps)
    batch = weighted_moments(flat, tau)
    normalizing = (batch.mean, batch.variance, batch.alive) if running is None else (*running, batch.alive | True)
    return like(len(prior) ** -0.5 * mixed(flat, tau, prior, *normalizing, eps), x), batch


def mode_norm(x: Any, t: dict[str, Any], training: bool, eps: float) -> tuple[Any, Batch]:
    """Mode normalization before gamma and beta; ``t``: gate_weight (K, C), gate_bias (K,), running moments."""
    wide = x.reshape(*x.shape[:2], -1)  # (N, C, S)
    gate = (wide.mean(2) @ t["gate_weight"].T + t["gate_bias"]).softmax(1)  # (N, K)
    total = gate.sum(0)  # N_k
    alive = total >= TINY
    some = total.where(alive, total.new_ones(())).reshape(-1, 1)
    mean = (gate.T[:, :, None] * wide.mean(2)).sum(1) / some  # (K, C)
    spread = ((wide[None] - mean[:, None, :, None]) ** 2).mean(3)  # (K, N, C)
    variance = (gate.T[:, :, None] * spread).sum(1) / some
    batch = Batch(total[:, None], mean, variance, alive[:, None])
    normalizing = (mean, variance, alive) if training else (t["running_mean"], t["running_var"], alive | True)
    y = 0.0
    for k in range(len(mean)):
        normalized = (wide - normalizing[0][k, :, None]) / (normalizing[1][k, :, None] + eps).sqrt()
        y = y + gate[:, k, None, None] * normalized * normalizing[2][k]
    return y.reshape(x.shape), batch


def affine(y: Any, t: dict[str, Any]) -> Any:
    """gamma y + beta, per channel; y itself without them."""
    if "gamma" not in t:
        return y
    column = (-1,) + (1,) * (y.ndim - 2)
    return t["gamma"].reshape(column) * y + t["beta"].reshape(column)


def moved(old: Any, new: Any, momentum: float, alive: Any) -> np.ndarray:
    """A running average after one batch; a dead component keeps its own."""
    return ((1 - momentum) * old + momentum * new).where(alive, old).detach().numpy()
