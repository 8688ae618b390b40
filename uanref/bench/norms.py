"""Batch normalization and UAN, forward and backward in train mode, beside PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from uanref import backend
from uanref.bench.peer import leaf, torch_beside
from uanref.bench.timing import Contest, Task
from uanref.layers.base import Layer

Shape = tuple[int, int, int, int]


def batch_norm(shape: Shape, backend_name: str = "numpy") -> Contest:
    """Batch normalization beside PyTorch's. Each contestant returns (y, dx, dgamma, dbeta)."""
    x, dy = _draw(shape)
    layer = _batch_norm(shape[1], backend_name)
    ours = _both_ways(layer, x, dy, backend_name)
    torch, note = torch_beside(backend_name)
    if torch is None:
        return Contest(ours, None, "torch", note)
    peer_layer = torch.nn.BatchNorm2d(shape[1])
    x_peer, dy_peer = leaf(torch, x), torch.from_numpy(dy)

    def peer() -> tuple[Any, ...]:
        y = peer_layer(x_peer)
        return (y.detach(), *torch.autograd.grad(y, [x_peer, peer_layer.weight, peer_layer.bias], dy_peer))

    return Contest(ours, peer, "torch")


def uan(shape: Shape, backend_name: str = "numpy") -> Contest:
    """UAN with three components beside its formula under PyTorch's autograd.

    Each contestant returns y, dx and the gradients of prior_logits, mean, raw_variance, gamma, beta.
    """
    x, dy = _draw(shape)
    layer = _uan(shape[1], backend_name)
    ours = _both_ways(layer, x, dy, backend_name)
    torch, note = torch_beside(backend_name)
    if torch is None:
        return Contest(ours, None, "torch autograd", note)
    names = ("prior_logits", "mean", "raw_variance", "gamma", "beta")
    weights = [leaf(torch, backend.to_host(layer.parameters()[name].value)) for name in names]
    x_peer, dy_peer = leaf(torch, x), torch.from_numpy(dy)

    def peer() -> tuple[Any, ...]:
        y = uan_formula(torch, x_peer, *weights)
        return (y.detach(), *torch.autograd.grad(y, [x_peer, *weights], dy_peer))

    return Contest(ours, peer, "torch autograd")


def uan_beside_batch_norm(shape: Shape, backend_name: str = "numpy") -> Contest:
    """What UAN costs more than batch normalization, both ours."""
    x, dy = _draw(shape)
    return Contest(
        _both_ways(_uan(shape[1], backend_name), x, dy, backend_name),
        _both_ways(_batch_norm(shape[1], backend_name), x, dy, backend_name),
        "our BatchNorm",
    )


def uan_formula(
    torch: Any, x: Any, prior_logits: Any, mean: Any, raw_variance: Any, gamma: Any, beta: Any, eps: float = 1e-5
) -> Any:
    """UAN's forward pass as the specification writes it (channel posterior, batch statistics), for autograd.

    Args:
        torch: the module.
        x: ``(N, C, H, W)``.
        prior_logits: ``(K, C)``, like ``mean`` and ``raw_variance``.
        mean: mu.
        raw_variance: s, sigma^2 = softplus(s).
        gamma: ``(C,)``, like ``beta``.
        beta: shift.
        eps: added to variances.

    Returns:
        y ``(N, C, H, W)``.
    """
    components, channels = mean.shape
    column, samples = (components, 1, channels, 1, 1), (1, 3, 4)
    mu = mean.view(column)
    variance = torch.nn.functional.softplus(raw_variance).view(column) + eps
    log_prior = torch.log_softmax(prior_logits, dim=0).view(column)
    # 1. Posterior: l_k = log lambda_k - 1/2 log var_k - (x - mu_k)^2 / (2 var_k), log tau = l - logsumexp(l)
    score = log_prior - 0.5 * torch.log(variance) - (x - mu) ** 2 / (2 * variance)  # (K, N, C, H, W)
    log_tau = score - torch.logsumexp(score, dim=0, keepdim=True)
    tau = torch.exp(log_tau)
    # 2. Weighted moments, in two passes
    total = tau.sum(samples, keepdim=True)  # (K, 1, C, 1, 1)
    m = (tau * x).sum(samples, keepdim=True) / total
    v = (tau * (x - m) ** 2).sum(samples, keepdim=True) / total
    # 3. y = gamma rho sum_k tau_k / sqrt(lambda_k) x_hat_k + beta
    weight = torch.exp(log_tau - 0.5 * log_prior)
    mixed = (weight * (x - m) / torch.sqrt(v + eps)).sum(0) / math.sqrt(components)  # (N, C, H, W)
    return gamma.view(1, -1, 1, 1) * mixed + beta.view(1, -1, 1, 1)


def _draw(shape: Shape) -> tuple[Any, Any]:
    draw = np.random.default_rng(0)
    return draw.standard_normal(shape).astype("float32"), draw.standard_normal(shape).astype("float32")


def _batch_norm(channels: int, backend_name: str) -> Layer:
    from uanref.norms.batch import BatchNorm

    with backend.using(backend_name):
        return BatchNorm(channels)


def _uan(channels: int, backend_name: str) -> Layer:
    from uanref.norms.uan import UAN

    with backend.using(backend_name):
        return UAN(channels, 3, posterior="channel", statistics="batch")


def _both_ways(layer: Layer, x: Any, dy: Any, backend_name: str) -> Task:
    x, dy = backend.to_device(x, backend_name), backend.to_device(dy, backend_name)
    order = [name for name in ("prior_logits", "mean", "raw_variance", "gamma", "beta") if name in layer.parameters()]

    def run() -> tuple[Any, ...]:
        y = layer.forward(x)
        dx = layer.backward(dy)
        parameters = layer.parameters()
        return (y, dx, *(parameters[name].grad for name in order))

    return run
