r"""A Gaussian mixture over a channel's activations: every function beside its backward.

Notation, for a block of samples x of shape (b, C, S) and K components: prior
:math:`\lambda_k`, mean :math:`\mu_k`, variance :math:`s_k = \sigma_k^2 + \epsilon`,

.. math::
    l_k(x) = \log\lambda_k - \tfrac12 \log s_k - \frac{(x - \mu_k)^2}{2 s_k}, \qquad
    \tau_k(x) = \frac{e^{l_k}}{\sum_j e^{l_j}}, \qquad
    w_k(x) = \frac{\tau_k(x)}{\sqrt{\lambda_k}}.

tau is the posterior; w is what the components are weighted with in UAN and Mixture
Normalization. Weighted moments are the same for tau and w, since a factor per component
cancels, so the layers compute w alone. Dividing tau by sqrt(lambda) would be 0/0 for a tiny
prior; w is computed as :math:`e_k / \sum_j \sqrt{\lambda_j} e_j` with
:math:`e_k = \exp(l_k - \tfrac12 \log\lambda_k - \max_j ...)`, one exponential per component.

Shapes: P is C for one posterior per activation and channel, and 1 for the joint posterior of all
channels at a position, where l_k sums over the channels (diagonal covariance).
"""

from __future__ import annotations

import functools

from uanref import backend, kernels
from uanref.backend import Array
from uanref.blocking import Scratch, per_channel, sum_rows, sum_samples
from uanref.kernels import constraints


class Mixture:
    """The mixture's values in one forward pass, and the constants that blocks of samples need.

    The constants are made when they are first asked for: the fused kernels make their own.

    Args:
        log_prior: log lambda, ``(K, P)``, normalized over k.
        mean: mu, ``(K, C)``.
        variance: s = sigma^2 + eps, ``(K, C)``, > 0.
        spatial: S, the spatial elements of the samples that will be asked about.
    """

    def __init__(self, log_prior: Array, mean: Array, variance: Array, spatial: int) -> None:
        backend.namespace(log_prior, mean, variance)
        self.log_prior, self.mean, self.variance, self.spatial = log_prior, mean, variance, spatial
        self.joint = log_prior.shape[1] != mean.shape[1]

    @functools.cached_property
    def root_prior(self) -> Array:
        """Sqrt(lambda), ``(K, P)``."""
        root: Array = backend.namespace(self.mean).exp(0.5 * self.log_prior)
        return root

    @functools.cached_property
    def mean_(self) -> Array:
        """Mu, ``(K, 1, C, 1 or S)`` (:func:`uanref.blocking.per_channel`), as all below."""
        return per_channel(self.mean, self.spatial)

    @functools.cached_property
    def scale_(self) -> Array:
        """The factor of x - mu under the square, sqrt(1 / 2s)."""
        return per_channel(backend.namespace(self.mean).sqrt(0.5 / self.variance), self.spatial)

    @functools.cached_property
    def precision_(self) -> Array:
        """1 / s."""
        return per_channel(1.0 / self.variance, self.spatial)

    @functools.cached_property
    def root_prior_(self) -> Array:
        """Sqrt(lambda)."""
        return per_channel(self.root_prior, self.spatial)

    @functools.cached_property
    def offset_(self) -> Array:
        """``l_k - 1/2 log lambda_k`` at x = mu_k."""
        log_det = 0.5 * backend.namespace(self.mean).log(self.variance)
        if self.joint:
            log_det = log_det.sum(axis=1, keepdims=True)
        return per_channel(0.5 * self.log_prior - log_det, self.spatial)


def weights(x: Array, mixture: Mixture, scratch: Scratch) -> Array:
    """Return ``w_k = tau_k / sqrt(lambda_k)``.

    Args:
        x: ``(b, C, S)``.
        mixture: see :class:`Mixture`.
        scratch: buffers; the result is one of them, good until the next call.

    Returns:
        ``(K, b, P, S)``, >= 0.
    """
    xp = backend.namespace(x, mixture.mean)
    e = scratch("weights", (mixture.mean.shape[0], *x.shape), x)
    xp.subtract(_bounded(x), mixture.mean_, out=e)
    e *= mixture.scale_
    e *= e  # (x - mu)^2 / (2 s)
    if mixture.joint:
        e = e.sum(axis=2, keepdims=True)
    xp.subtract(mixture.offset_, e, out=e)  # l_k - 1/2 log lambda_k
    e -= e.max(axis=0)
    xp.exp(e, out=e)
    total = e[0] * mixture.root_prior_[0]  # (b, P, S)
    for k in range(1, e.shape[0]):
        total += e[k] * mixture.root_prior_[k]
    # A sum that underflows stands for weights at the end of the format's range. They saturate, early
    # enough that sums over many samples stay finite: in float32 at 4e28, a prior of 1e-57.
    e /= xp.maximum(total, backend.tiny(x.dtype) ** 0.75)
    return e


def weights_backward(
    dlog_w: Array, x: Array, w: Array, mixture: Mixture, scratch: Scratch
) -> tuple[Array, Array, Array, Array]:
    r"""Backward of :func:`weights`, from the gradient with respect to :math:`\log w_k`.

    With :math:`\log w_k = l_k - \log\sum_j e^{l_j} - \tfrac12\log\lambda_k`:

    1. softmax: :math:`dl_k = d\log w_k - \tau_k \sum_j d\log w_j`;
    2. :math:`d\log\lambda_k = \sum_m dl_k - \tfrac12 \sum_m d\log w_k`;
    3. with :math:`u_k = (x - \mu_k) / s_k`: :math:`d\mu_k = \sum_m dl_k u_k`,
       :math:`ds_k = \tfrac12 \sum_m dl_k (u_k^2 - 1/s_k)`, :math:`dx = -\sum_k dl_k u_k`.

    Args:
        dlog_w: ``(K, b, C, S)``; overwritten. For a joint posterior the channels' parts, which add up.
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)`` from :func:`weights`; overwritten.
        mixture: see :class:`Mixture`.
        scratch: buffers.

    Returns:
        ``dx (b, C, S)``, ``dlog_prior (K, P)``, ``dmean (K, C)``, ``dvariance (K, C)``, the last three
        summed over this block. ``dlog_prior`` is not yet projected on normalized priors: see
        :func:`log_softmax_backward`.
    """
    xp = backend.namespace(dlog_w, x)
    # 1. Through the softmax over k.
    if mixture.joint:
        dlog_w = dlog_w.sum(axis=2, keepdims=True)  # (K, b, 1, S)
    dlog_prior = -0.5 * sum_samples(dlog_w)  # (K, P), from the division by sqrt(lambda)
    w *= mixture.root_prior_  # tau
    w *= dlog_w.sum(axis=0)
    dlog_w -= w
    dl = dlog_w  # (K, b, P, S)
    # 2. The prior's logarithm stands in l_k as a summand.
    dl_sum = sum_samples(dl)  # (K, P)
    dlog_prior += dl_sum
    # 3. Through the quadratic form.
    u = scratch("quadratic", (dl.shape[0], *x.shape), x)
    xp.subtract(_bounded(x), mixture.mean_, out=u)
    u *= mixture.precision_
    dl_u = scratch("product", u.shape, x)
    xp.multiply(dl, u, out=dl_u)
    dx = -dl_u.sum(axis=0)  # (b, C, S)
    dmean = sum_samples(dl_u)  # (K, C)
    dl_u *= u
    dvariance = 0.5 * (sum_samples(dl_u) - dl_sum / mixture.variance)  # (K, C)
    return dx, dlog_prior, dmean, dvariance


def _bounded(x: Array) -> Array:
    """Return ``x`` where its square is far from overflow, else that bound: 3e15 in float32, 1e123 in float64.

    Out there one component has all the weight, and the posterior no slope.
    """
    xp, bound = backend.namespace(x), backend.largest(x.dtype) ** 0.4
    bounded: Array = xp.minimum(xp.maximum(x, -bound), bound)
    return bounded


def posterior(x: Array, mixture: Mixture) -> Array:
    """Return ``tau_k(x)``, the probability that component k produced x.

    Args:
        x: ``(N, C, S)``.
        mixture: see :class:`Mixture`.

    Returns:
        ``(K, N, P, S)`` in [0, 1], summing to 1 over k.
    """
    tau: Array = weights(x, mixture, Scratch()) * mixture.root_prior_
    return tau


def posterior_backward(dtau: Array, x: Array, mixture: Mixture) -> tuple[Array, Array, Array, Array]:
    r"""Backward of :func:`posterior`: :math:`d\log\tau_k = \tau_k d\tau_k`, then :func:`weights_backward`.

    The posterior has no division by sqrt(lambda): what that one adds to ``dlog_prior`` is taken back.

    Args:
        dtau: ``(K, N, P, S)``.
        x: ``(N, C, S)``.
        mixture: see :class:`Mixture`.

    Returns:
        ``dx (N, C, S)``, ``dlog_prior (K, P)``, ``dmean (K, C)``, ``dvariance (K, C)``.
    """
    scratch = Scratch()
    w = weights(x, mixture, scratch)
    dlog_tau = w * mixture.root_prior_ * dtau
    division = 0.5 * sum_samples(dlog_tau)
    dx, dlog_prior, dmean, dvariance = weights_backward(dlog_tau, x, w, mixture, scratch)
    return dx, dlog_prior + division, dmean, dvariance


def weighted_moments(x: Array, w: Array, scratch: Scratch) -> tuple[Array, Array, Array]:
    r"""Return each component's total weight, mean and scatter over a block.

    .. math::
        W_k = \sum_m w_{km}, \quad m_k = \frac{1}{W_k} \sum_m w_{km} x_m, \quad
        W_k v_k = \sum_m w_{km} (x_m - m_k)^2.

    Args:
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)``, posteriors or weights: a factor per component changes W alone.
        scratch: buffers.

    Returns:
        ``W (K, P)``, ``m (K, C)`` (0 where W is 0) and ``W v (K, C)``, the last two in double precision:
        what :func:`uanref.blocking.merge_moments` merges over blocks.
    """
    xp = backend.namespace(x, w)
    total = sum_samples(w)  # (K, P)
    product = scratch("product", (w.shape[0], *x.shape), x)
    xp.multiply(w, x, out=product)
    some = total + (total == 0)
    mean = sum_samples(product) / some  # (K, C)
    centred = scratch("quadratic", product.shape, x)
    xp.subtract(x, per_channel(mean, x.shape[2]), out=centred)
    xp.multiply(w, centred, out=product)
    # What is left of the first moment corrects both, as in blocking.channel_moments.
    left = sum_samples(product).astype(xp.result_type(x.dtype, "float64"))
    product *= centred
    return total, mean + left / some, sum_samples(product) - left * (left / some)


def weighted_moments_backward(
    dmean: Array, dvariance: Array, x: Array, w: Array, mean: Array, variance: Array, scratch: Scratch
) -> tuple[Array, Array]:
    r"""Backward of :func:`weighted_moments` for one block, with respect to x and :math:`\log w`.

    With :math:`\bar w_k = w_k / W_k` and because :math:`\sum_m w_k (x - m_k) = 0`:

    .. math::
        dx = \sum_k \bar w_k \left( dm_k + 2\, dv_k (x - m_k) \right), \qquad
        d\log w_k = \bar w_k \left( dm_k (x - m_k) + dv_k ((x - m_k)^2 - v_k) \right).

    Args:
        dmean: dL/dm_k divided by W_k, ``(K, 1, C, 1 or S)`` (:func:`uanref.blocking.per_channel`).
        dvariance: dL/dv_k divided by W_k, as ``dmean``.
        x: ``(b, C, S)``.
        w: ``(K, b, P, S)``.
        mean: m_k of the whole batch, as ``dmean``.
        variance: v_k of the whole batch, as ``dmean``.
        scratch: buffers; the second result is one of them.

    Returns:
        ``dx (b, C, S)`` and ``dlog_w (K, b, C, S)``.
    """
    xp = backend.namespace(x, w)
    shape = (w.shape[0], *x.shape)
    centred, dx_k, dlog_w = (scratch(name, shape, x) for name in ("quadratic", "product", "dlog_w_moments"))
    xp.subtract(_bounded(x), mean, out=centred)
    xp.multiply(centred, dvariance, out=dx_k)  # dv (x - m)
    xp.add(dx_k, dmean, out=dlog_w)  # dm + dv (x - m)
    dx_k += dlog_w  # dm + 2 dv (x - m)
    dlog_w *= centred
    dlog_w -= dvariance * variance
    dlog_w *= w
    dx_k *= w
    dx: Array = dx_k.sum(axis=0)
    return dx, dlog_w


# --- EM -----------------------------------------------------------------------------------------


def em_step(
    log_prior: Array,
    mean: Array,
    variance: Array,
    share: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
) -> tuple[Array, Array, Array]:
    r"""Move a mixture by one online EM step towards the moments that its posteriors gave.

    .. math::
        \lambda \leftarrow (1 - \eta) \lambda + \eta \frac{S_k}{\sum_j S_j}, \quad
        \mu_k \leftarrow (1 - \eta) \mu_k + \eta m_k, \quad
        \sigma_k^2 \leftarrow (1 - \eta) \sigma_k^2 + \eta v_k

    With ``momentum`` eta = 1 this is the M step of EM. The prior is floored at 1e-6 and normalized
    again; a dead component keeps mean and variance (this project's choices).

    Args:
        log_prior: ``(K, P)``.
        mean, variance: mu and sigma^2, ``(K, C)``.
        share: S_k, the posteriors' sums, ``(K, P)``.
        moments_mean, moments_variance: m_k and v_k, ``(K, C)``.
        alive: 1, or 0 for a dead component, ``(K, P)``.
        momentum: eta in [0, 1].

    Returns:
        The new ``log_prior``, ``mean`` and ``variance``.
    """
    if kernels.serves(log_prior, mean, variance, share, moments_mean, moments_variance, alive):
        moments = moments_mean, moments_variance
        return constraints.em_step(log_prior, mean, variance, share, *moments, alive, momentum)
    xp = backend.namespace(mean)
    prior = xp.exp(log_prior)
    prior = xp.maximum((1.0 - momentum) * prior + momentum * (share / share.sum(axis=0)), 1e-6)
    step = momentum * alive
    return (
        xp.log(prior / prior.sum(axis=0)),
        (1.0 - step) * mean + step * moments_mean,
        (1.0 - step) * variance + step * moments_variance,
    )


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


# --- from unconstrained weights to the mixture's parameters -------------------------------------


def log_softmax(logits: Array) -> Array:
    """Return ``log softmax_k(a)`` over axis 0, ``(K, P) -> (K, P)``."""
    if kernels.serves(logits):
        return constraints.log_softmax(logits)
    shifted = logits - logits.max(axis=0)
    log_prior: Array = shifted - backend.namespace(logits).log(backend.namespace(logits).exp(shifted).sum(axis=0))
    return log_prior


def log_softmax_backward(dlog_prior: Array, log_prior: Array) -> Array:
    r"""Return :math:`da_k = d\log\lambda_k - \lambda_k \sum_j d\log\lambda_j`; sums to 0 over k. Shapes (K, P)."""
    if kernels.serves(dlog_prior, log_prior):
        return constraints.log_softmax_backward(dlog_prior, log_prior)
    dlogits: Array = dlog_prior - backend.namespace(log_prior).exp(log_prior) * dlog_prior.sum(axis=0)
    return dlogits


def softplus(s: Array) -> Array:
    """Return ``log(1 + e^s)`` without overflow, elementwise."""
    if kernels.serves(s):
        return constraints.softplus(s)
    xp = backend.namespace(s)
    positive = (s > 0).astype(s.dtype)
    y: Array = s * positive + xp.log1p(xp.exp(s * (1.0 - 2.0 * positive)))
    return y


def softplus_backward(dy: Array, s: Array) -> Array:
    """Return ``dy * sigmoid(s)``, with ``sigmoid(s) = exp(s - softplus(s))``: nothing overflows."""
    if kernels.serves(dy, s):
        return constraints.softplus_backward(dy, s)
    ds: Array = dy * backend.namespace(s).exp(s - softplus(s))
    return ds


def inverse_softplus(v: Array, floor: float) -> Array:
    """Return s with ``softplus(s) = max(v, floor, tiny)``: ``v + log(1 - e^-v)``, for ``log(e^v - 1)`` overflows."""
    if kernels.serves(v):
        return constraints.inverse_softplus(v, floor)
    xp = backend.namespace(v)
    v = xp.maximum(v, max(floor, backend.tiny(v.dtype)))
    s: Array = v + xp.log(-xp.expm1(-v))
    return s
