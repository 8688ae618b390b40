"""How a mixture is fitted: one step of EM, a start by k-means++, running averages that the dead leave alone."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.layers.sums import sum_rows
from uanref.norms.mixture_constraints import inverse_softplus
from uanref.norms.mixture_weights import half_log


@accelerated
def em_step(
    log_prior: Array,
    mean: Array,
    variance: Array,
    total: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
    shared: bool = False,
) -> tuple[Array, Array, Array]:
    r"""Move a mixture by one online EM step towards the moments that its posteriors gave.

    .. math::
        \lambda \leftarrow (1 - \eta) \lambda + \eta \frac{S_k}{\sum_j S_j}, \quad
        S_k = \sum_m \tau_{km} = \sqrt{\lambda_k}\, W_k, \quad
        \mu_k \leftarrow (1 - \eta) \mu_k + \eta m_k, \quad
        \sigma_k^2 \leftarrow (1 - \eta) \sigma_k^2 + \eta v_k

    With ``momentum`` eta = 1 this is the M step of EM. The prior is floored at 1e-6 and normalized
    again; a dead component keeps mean and variance; a prior that all channels share moves towards the mean of their
    shares :math:`S_k / \sum_j S_j` (this project's choices).

    Args:
        log_prior: ``(K, P)``.
        mean, variance: mu and sigma^2, ``(K, C)``.
        total: W_k, the weights' sums, ``(K, P)``.
        moments_mean, moments_variance: m_k and v_k, ``(K, C)``.
        alive: 1, or 0 for a dead component, ``(K, P)``.
        momentum: eta in [0, 1].
        shared: whether all columns of ``log_prior`` are one prior.

    Returns:
        The new ``log_prior``, ``(K, 1)`` if it is shared, ``mean`` and ``variance``.
    """
    xp = backend.namespace(mean)
    share = xp.exp(half_log(log_prior)) * total  # S, (K, P)
    share = share / share.sum(axis=0)
    if shared:
        log_prior, share = log_prior[:, :1], share.mean(axis=1, keepdims=True)  # (K, 1)
    prior = xp.maximum((1.0 - momentum) * xp.exp(log_prior) + momentum * share, 1e-6)
    return (
        xp.log(prior / prior.sum(axis=0)),
        moved(mean, moments_mean, alive, momentum),
        moved(variance, moments_variance, alive, momentum),
    )


@accelerated
def em_step_of_weights(
    log_prior: Array,
    mean: Array,
    raw_variance: Array,
    variance: Array,
    total: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
    eps: float,
    shared: bool = False,
) -> tuple[Array, Array, Array]:
    r"""Move the weights behind a mixture by one :func:`em_step`: a, mu and s, :math:`\sigma^2 = \mathrm{softplus}(s)`.

    Args:
        raw_variance: s, which a dead component keeps to the bit, ``(K, C)``.
        eps: :math:`\sigma^2` does not fall below it.
        log_prior, mean, variance, total, moments_mean, moments_variance, alive, momentum, shared: as :func:`em_step`.

    Returns:
        The new logits (the logarithms of the prior), mean and s.
    """
    found = moments_mean, moments_variance, alive
    logits, mean, variance = em_step(log_prior, mean, variance, total, *found, momentum, shared)
    raw = inverse_softplus(variance, eps)
    return logits, mean, backend.namespace(raw).where(alive > 0, raw, raw_variance)


@accelerated
def moved_moments(
    mean: Array, variance: Array, found_mean: Array, found_variance: Array, alive: Array, momentum: float
) -> tuple[Array, Array]:
    """Return running means and variances ``(K, C)`` after a batch, each :func:`moved`."""
    return moved(mean, found_mean, alive, momentum), moved(variance, found_variance, alive, momentum)


def moved(old: Array, found: Array, alive: Array, momentum: float) -> Array:
    r"""Return running moments after a batch, :math:`(1 - \eta)\, old_k + \eta\, found_k` where alive, else old_k.

    Args:
        old, found: ``(K, C)``.
        alive: 1, or 0 for a dead component, which stays as it was to the bit, ``(K, P)``.
        momentum: eta, in [0, 1].

    Returns:
        ``(K, C)``.
    """
    new: Array = backend.namespace(old).where(alive > 0, (1.0 - momentum) * old + momentum * found, old)
    return new


def kmeans_plus_plus(points: Array, scale: Array, draws: Array) -> tuple[Array, Array]:
    r"""Choose K of the samples as centres: k-means++ (Arthur & Vassilvitskii 2007, section 2.2).

    The first centre is any sample; each further one is sample m with probability
    :math:`D_m^2 / \sum_j D_j^2`, D the distance to the nearest centre so far. The uniform numbers come from
    outside, so that nothing here waits for a device.

    Args:
        points: ``(C, M)``.
        scale: distances are measured in this unit, per channel, > 0, ``(C,)``.
        draws: uniform numbers in [0, 1], ``(K, P)``: P = C chooses for each channel by itself, P = 1
            (with C > 1) one sample of all channels.

    Returns:
        The centres ``(K, C)``, and per channel the mean squared distance to the nearest centre ``(C,)``.
        With fewer than K different samples, centres coincide.
    """
    xp = backend.namespace(points, scale, draws)
    points, scale, draws = (a.astype(xp.result_type(a.dtype, "float64")) for a in (points, scale, draws))
    joint, (channels, samples) = draws.shape[1] != points.shape[0], points.shape
    rows = xp.arange(channels)[:, None]
    nearest = xp.ones((draws.shape[1], samples))  # squared distances; all alike before the first centre
    squares: Array | None = None  # the same per channel
    centres = []
    for draw in draws:
        reached = xp.cumsum(nearest, axis=1)  # (P, M)
        found = (reached <= draw[:, None] * reached[:, -1:]).sum(axis=1, keepdims=True)  # (P, 1)
        centre = points[rows, xp.minimum(found, samples - 1)]  # (C, 1)
        centres.append(centre[:, 0])
        square = ((points - centre) / scale[:, None]) ** 2  # (C, M)
        distance = square.sum(axis=0, keepdims=True) if joint else square  # (P, M)
        if squares is None:
            nearest, squares = distance, square
        else:
            closer = distance < nearest
            nearest, squares = xp.where(closer, distance, nearest), xp.where(closer, square, squares)
    assert squares is not None  # K >= 1
    return xp.stack(centres), scale * scale * sum_rows(squares) / samples
