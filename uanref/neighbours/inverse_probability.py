"""The adaptively normalized inverse-probability-weighted mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import number


@dataclass(frozen=True)
class Estimate:
    """A mean and how it was normalized.

    Attributes:
        value: the estimated mean.
        lam: the lambda in use; NaN for an adaptive value of 0, which no finite lambda gives.
        variance: estimated variance of ``value``, the asymptotic one divided by n.
    """

    value: float
    lam: float
    variance: float


@backend.quiet_underflow()
def weighted_mean(y: Array, observed: Array, probability: Array, lam: float | None = None) -> Estimate:
    r"""Estimate a mean from units that were observed with known, unequal probabilities (Khan & Ugander 2023).

    Unit i has the value Y_i and is observed, I_i = 1, with probability p_i, independently of all others. With

    .. math::
        S = \sum_i Y_i I_i / p_i, \quad \hat n = \sum_i I_i / p_i, \qquad
        \hat\mu_\lambda = \frac{S}{(1 - \lambda)\, n + \lambda\, \hat n}

    lambda = 0 is Horvitz & Thompson's estimator, lambda = 1 Hajek's. Both sums are random and move together; how far
    S should be corrected by what :math:`\hat n` missed depends on the data, and so lambda is chosen.

    **Asymptotic variance.** S / n tends to mu and :math:`\hat n / n` to 1. Linearized there,

    .. math::
        \hat\mu_\lambda - \mu \approx \Bigl(\frac Sn - \mu\Bigr) - \lambda\mu \Bigl(\frac{\hat n}{n} - 1\Bigr)
        = \frac1n \sum_i \Bigl[ (Y_i - \lambda\mu) \frac{I_i}{p_i} - (1 - \lambda)\mu \Bigr].

    The terms have mean 0. With A = Y I / p and B = I / p their variance is a parabola,

    .. math::
        V(\lambda) = \mathrm{var} A - 2\lambda\mu\, \mathrm{cov}(A, B) + (\lambda\mu)^2\, \mathrm{var} B,

    with its minimum at :math:`\lambda^* = \mathrm{cov}(A, B) / (\mu\, \mathrm{var} B)`. Since I is 1 with
    probability p, :math:`\mathrm{cov}(A, B) = E[Y \frac{1-p}{p}]` and :math:`\mathrm{var} B = E[\frac{1-p}{p}]`, so

    .. math::
        V(\lambda) = \mathrm{var}\, Y + E\Bigl[\frac{1-p}{p} (Y - \lambda\mu)^2\Bigr], \qquad
        \lambda^* \mu = c = \frac{E[Y (1-p)/p]}{E[(1-p)/p]}:

    sampling adds the spread of Y around the point lambda mu. That is 0 for Horvitz-Thompson and mu for Hajek; the best
    point is Y's mean with the weights (1-p)/p.

    **Estimate.** Each expectation is replaced by its own inverse-probability-weighted sum,

    .. math::
        \hat c = \frac{\sum_i q_i Y_i}{\sum_i q_i}, \quad q_i = \frac{I_i}{p_i} \frac{1 - p_i}{p_i}, \qquad
        \hat V(\lambda) = \widehat{\mathrm{var}}\, Y + \frac1n \sum_i q_i (Y_i - \lambda\hat\mu)^2,

    with var Y estimated by Hajek's weights. lambda needs mu and mu needs lambda; with lambda mu = c both follow at
    once,

    .. math::
        \hat\mu = \frac Sn + \hat c \Bigl(1 - \frac{\hat n}{n}\Bigr)
        = \hat c + \frac1n \sum_i (Y_i - \hat c) \frac{I_i}{p_i}, \qquad \hat\lambda = \hat c / \hat\mu,

    which minimises V-hat exactly: Horvitz-Thompson for the distances from c. Where all observed units were certain
    (p = 1) c cannot be estimated and Hajek's lambda, 1, is taken.

    Args:
        y: values, ``(n,)``; what stands where a unit was not observed is not read and may be NaN.
        observed: booleans, ``(n,)``, at least one True.
        probability: p, ``(n,)``, in (0, 1].
        lam: a fixed lambda, or None to choose it.

    Returns:
        An :class:`Estimate`. The variance uses the adaptive mean as mu for every lambda, so that variances compare.

    Raises:
        ValueError: wrong shapes, nothing observed, an observed value that is not finite, a probability outside
            (0, 1] or so small that the sums overflow, a normalizer of 0.
        TypeError: ``observed`` holds no booleans, ``lam`` is no number.
    """
    y, observed, p = (backend.to_host(a) for a in (y, observed, probability))
    p = p.astype("float64")
    xp = backend.namespace(y)
    if y.ndim != 1 or not (y.shape == observed.shape == p.shape):
        shapes = ", ".join(backend.shape_text(a.shape) for a in (y, observed, p))
        raise ValueError(f"weighted_mean expects y, observed and probability of one shape (n,), got {shapes}")
    if observed.dtype.kind != "b":
        raise TypeError(f"weighted_mean expects observed as booleans, got {observed.dtype}: use observed == 1")
    if not observed.any():
        raise ValueError("weighted_mean needs at least one observed unit, got none")
    if not bool(((p > 0.0) & (p <= 1.0)).all()):
        raise ValueError("weighted_mean needs probabilities in (0, 1], got some outside")
    seen = xp.where(observed, y, 0.0).astype("float64")
    if not bool(xp.isfinite(seen).all()):
        raise ValueError("weighted_mean got an observed value that is not finite: drop the unit or repair it")

    # 1. The sums.
    n = int(y.shape[0])
    weight = observed / p  # I / p, (n,)
    q = weight * (1.0 - p) / p  # (n,)
    s, n_hat = float((weight * seen).sum()), float(weight.sum())
    q_sum, q_seen = float(q.sum()), float((q * seen).sum())
    if not all(map(math.isfinite, (s, n_hat, q_sum, q_seen))):
        raise ValueError("weighted_mean overflowed: an observed unit has a probability too near to 0")
    # 2. The point c, then the mean that is its own plug-in, in the form that subtracts no two large sums.
    certain = q_sum == 0.0
    c = s / n_hat if certain else q_seen / q_sum
    mean = c + float((weight * (seen - c)).sum()) / n
    # 3. The asked lambda's value and variance.
    if lam is None:
        point, value = c, mean
        lam = 1.0 if certain else c / mean if mean != 0.0 else math.nan
    else:
        lam = number("lam", lam, -math.inf)
        normalizer = (1.0 - lam) * n + lam * n_hat
        if normalizer == 0.0:
            raise ValueError(f"weighted_mean's normalizer is 0 for lam = {lam}: choose another lam")
        point, value = lam * mean, s / normalizer
    hajek = s / n_hat
    var_y = float((weight * (seen - hajek) ** 2).sum()) / n_hat
    asymptotic = var_y + float((q * (seen - point) ** 2).sum()) / n
    return Estimate(value, lam, asymptotic / n)
