"""UAN's forward pass as the specification writes it (channel posterior, batch statistics), for anybody's autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operations:
    """What the formula needs of a library.

    Attributes:
        exp, log, sqrt, square, softplus: of each number.
        sum: ``sum(x, axes)`` over several axes, which stay with length 1.
        logsumexp, log_softmax: ``f(x)`` over axis 0, which stays.
        reshape: ``reshape(x, shape)``.
        number: makes a constant that leaves float32 as it is.
    """

    exp: Callable[[Any], Any]
    log: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    square: Callable[[Any], Any]
    softplus: Callable[[Any], Any]
    sum: Callable[[Any, tuple[int, ...]], Any]
    logsumexp: Callable[[Any], Any]
    log_softmax: Callable[[Any], Any]
    reshape: Callable[[Any, tuple[int, ...]], Any]
    number: Callable[[float], Any]


def uan(
    of: Operations, x: Any, prior_logits: Any, mean: Any, raw_variance: Any, gamma: Any, beta: Any, eps: float = 1e-5
) -> Any:
    """Return y, of x's shape.

    Args:
        of: the library's operations.
        x: ``(N, C)`` or ``(N, C, H, W)``.
        prior_logits: ``(K, C)``.
        mean: ``(K, C)``.
        raw_variance: ``(K, C)``, before the softplus.
        gamma: scale ``(C,)``.
        beta: shift ``(C,)``.
        eps: added to variances.
    """
    components, channels = mean.shape
    ones = (1,) * (len(x.shape) - 2)
    column = (components, 1, channels, *ones)
    samples = (1, *range(3, 3 + len(ones)))
    half, floor, root = of.number(0.5), of.number(eps), of.number(math.sqrt(components))
    mu = of.reshape(mean, column)
    variance = of.reshape(of.softplus(raw_variance), column) + floor
    log_prior = of.reshape(of.log_softmax(prior_logits), column)
    x = of.reshape(x, (1, *x.shape))
    # 1. Posterior: l_k = log lambda_k - 1/2 log var_k - (x - mu_k)^2 / (2 var_k), log tau = l - logsumexp(l)
    score = log_prior - half * of.log(variance) - half * of.square(x - mu) / variance  # (K, N, C, ...)
    log_tau = score - of.logsumexp(score)
    tau = of.exp(log_tau)
    # 2. Weighted moments, in two passes
    total = of.sum(tau, samples)  # (K, 1, C, ...)
    m = of.sum(tau * x, samples) / total
    v = of.sum(tau * of.square(x - m), samples) / total
    # 3. y = gamma rho sum_k tau_k / sqrt(lambda_k) x_hat_k + beta
    weight = of.exp(log_tau - half * log_prior)
    mixed = of.sum(weight * (x - m) / of.sqrt(v + floor), (0,)) / root  # (1, N, C, ...)
    row = (1, channels, *ones)
    return of.reshape(gamma, row) * of.reshape(mixed, tuple(x.shape[1:])) + of.reshape(beta, row)
