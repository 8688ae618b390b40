"""The small functions between a network's weights and a mixture, one kernel each.

Their arrays hold K x C numbers: what counts is the number of launches. All arrays of a call have one dtype, float32
or float64. The references are short and plain; on the host :mod:`uanref.norms.gaussian_mixture` computes the same.
"""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels.launch import THREADS, kernel


def softplus(s: Array) -> Array:
    """Return ``log(1 + e^s)`` without overflow, elementwise; any shape."""
    y: Array = backend.namespace(s).empty(s.shape, dtype=s.dtype)
    _launch("softplus", s.size, y, _like(s, s), y, s.size)
    return y


def softplus_backward(dy: Array, s: Array) -> Array:
    """Return ``dy * sigmoid(s)``; both of one shape."""
    ds: Array = backend.namespace(dy, s).empty(s.shape, dtype=s.dtype)
    _launch("softplus_backward", s.size, ds, _like(s, dy), _like(s, s), ds, s.size)
    return ds


def log_softmax(logits: Array) -> Array:
    """Return ``log softmax_k(a)`` over axis 0, ``(K, P) -> (K, P)``."""
    log_prior: Array = backend.namespace(logits).empty(logits.shape, dtype=logits.dtype)
    _launch("log_softmax", logits.shape[1], log_prior, _like(logits, logits), log_prior, *logits.shape)
    return log_prior


def log_softmax_backward(dlog_prior: Array, log_prior: Array) -> Array:
    r"""Return :math:`da_k = d\log\lambda_k - \lambda_k \sum_j d\log\lambda_j`. Shapes (K, P)."""
    dlogits: Array = backend.namespace(dlog_prior, log_prior).empty(log_prior.shape, dtype=log_prior.dtype)
    arguments = (_like(log_prior, dlog_prior), _like(log_prior, log_prior), dlogits, *log_prior.shape)
    _launch("log_softmax_backward", log_prior.shape[1], dlogits, *arguments)
    return dlogits


def inverse_std(variance: Array, eps: float) -> Array:
    """Return ``1 / sqrt(v + eps)``, elementwise; any shape."""
    result: Array = backend.namespace(variance).empty(variance.shape, dtype=variance.dtype)
    _launch("inverse_std", variance.size, result, _like(variance, variance), result, float(eps), variance.size)
    return result


def moved(old: Array, found: Array, alive: Array, momentum: float) -> Array:
    r"""Return :math:`(1 - \eta\,a)\, old + \eta\,a\, found`: what is alive moves by the share ``momentum``.

    Args:
        old, found: ``(K, C)``.
        alive: 1 or 0, ``(K, P)``, P = C or 1.
        momentum: eta, in [0, 1].

    Returns:
        ``(K, C)``.
    """
    result: Array = backend.namespace(old, found, alive).empty(old.shape, dtype=old.dtype)
    sizes = (float(momentum), old.shape[1], alive.shape[1], old.size)
    given = _like(old, old), _like(old, found), _like(old, alive, alive.shape)
    _launch("moved", old.size, result, *given, result, *sizes)
    return result


def inverse_softplus(v: Array, floor: float) -> Array:
    """Return s with ``softplus(s) = max(v, floor, tiny)``, elementwise; any shape."""
    s: Array = backend.namespace(v).empty(v.shape, dtype=v.dtype)
    _launch("inverse_softplus", v.size, s, _like(v, v), s, max(float(floor), backend.tiny(v.dtype)), v.size)
    return s


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
    """Return the log prior, mean and variance after one online EM step: :func:`uanref.norms.gaussian_mixture.em_step`.

    Args:
        log_prior, share, alive: ``(K, P)``, P = C or 1.
        mean, variance, moments_mean, moments_variance: ``(K, C)``.
        momentum: in [0, 1].
    """
    found = tuple(backend.namespace(mean).empty(a.shape, dtype=mean.dtype) for a in (log_prior, mean, variance))
    per_prior = (_like(mean, a, log_prior.shape) for a in (log_prior, share, alive))
    per_channel = (_like(mean, a) for a in (mean, variance, moments_mean, moments_variance))
    sizes = (float(momentum), *mean.shape, log_prior.shape[1])
    _launch("em_step", mean.shape[1], mean, *per_prior, *per_channel, *found, *sizes)
    new_log_prior, new_mean, new_variance = found
    return new_log_prior, new_mean, new_variance


def _launch(name: str, threads: int, like: Array, *arguments: Any) -> None:
    kernel("constraints", name, like.dtype.char)((-(-threads // THREADS),), (THREADS,), arguments)


def _like(model: Array, a: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return ``a`` as the kernels read it: in ``model``'s dtype and shape (or ``shape``), C-contiguous."""
    xp, shape = backend.namespace(model, a), model.shape if shape is None else shape
    same = a if a.shape == shape else xp.broadcast_to(a, shape)
    ready: Array = xp.ascontiguousarray(same, dtype=model.dtype)
    return ready


# --- the same in plain array code -------------------------------------------------------------------------------------


def reference_softplus(s: Array) -> Array:
    """Return what :func:`softplus` returns."""
    y: Array = backend.namespace(s).logaddexp(s, 0.0)
    return y


def reference_softplus_backward(dy: Array, s: Array) -> Array:
    """Return what :func:`softplus_backward` returns."""
    ds: Array = dy * backend.namespace(s).exp(-backend.namespace(s).logaddexp(-s, 0.0))
    return ds


def reference_log_softmax(logits: Array) -> Array:
    """Return what :func:`log_softmax` returns."""
    xp, shifted = backend.namespace(logits), logits - logits.max(axis=0)
    log_prior: Array = shifted - xp.log(xp.exp(shifted).sum(axis=0))
    return log_prior


def reference_log_softmax_backward(dlog_prior: Array, log_prior: Array) -> Array:
    """Return what :func:`log_softmax_backward` returns."""
    dlogits: Array = dlog_prior - backend.namespace(log_prior).exp(log_prior) * dlog_prior.sum(axis=0)
    return dlogits


def reference_inverse_std(variance: Array, eps: float) -> Array:
    """Return what :func:`inverse_std` returns."""
    inverse: Array = (variance + eps) ** -0.5
    return inverse


def reference_moved(old: Array, found: Array, alive: Array, momentum: float) -> Array:
    """Return what :func:`moved` returns."""
    new: Array = old * (1.0 - momentum * alive) + found * (momentum * alive)
    return new


def reference_inverse_softplus(v: Array, floor: float) -> Array:
    """Return what :func:`inverse_softplus` returns."""
    xp = backend.namespace(v)
    bounded = xp.maximum(v, max(floor, backend.tiny(v.dtype)))
    s: Array = bounded + xp.log(-xp.expm1(-bounded))
    return s


def reference_em_step(
    log_prior: Array,
    mean: Array,
    variance: Array,
    share: Array,
    moments_mean: Array,
    moments_variance: Array,
    alive: Array,
    momentum: float,
) -> tuple[Array, Array, Array]:
    """Return what :func:`em_step` returns."""
    xp = backend.namespace(mean)
    prior = xp.maximum((1.0 - momentum) * xp.exp(log_prior) + momentum * share / share.sum(axis=0), 1e-6)
    new_mean = reference_moved(mean, moments_mean, alive, momentum)
    return xp.log(prior / prior.sum(axis=0)), new_mean, reference_moved(variance, moments_variance, alive, momentum)
