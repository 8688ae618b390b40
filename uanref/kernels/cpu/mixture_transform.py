"""The transform of UAN and Mixture Normalization in blocks; large posteriors do not outlive one."""

from __future__ import annotations

from typing import Any, TypeAlias

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu import mixture_kept
from uanref.kernels.cpu.merging import merge_sums
from uanref.kernels.cpu.mixture_blocks import Batch, MixtureArrays, near, posterior, posterior_backward
from uanref.kernels.cpu.mixture_lanes import Part, joined

Moments: TypeAlias = Any
"""A :class:`uanref.norms.mixture_moments.Moments`."""


def transform(
    x: Array, mixture: MixtureArrays, moments: Moments, rho: float, gamma: Array | None, beta: Array | None
) -> Array:
    """Serve :func:`uanref.norms.mixture_transform.transform`."""
    batch, xp = Batch(x, mixture), backend.namespace(x, moments.mean)
    from_batch = moments.total is not None
    if from_batch:
        batch.recall(moments.inverse_std)
    scale = moments.inverse_std * (rho if gamma is None else rho * gamma) / batch.root_prior  # (K, C)
    mean_, scale_ = batch.lanes.constants(moments.mean, scale)
    beta_ = None if beta is None else batch.lanes.constants(beta[None])[0]
    y: Array = xp.empty(x.shape, dtype=x.dtype)

    def task(part: Part) -> None:
        tau, x_b, out = posterior(part, batch), part.samples(x), part.target(y)
        (term,) = part.buffers("term", 1, (batch.components, *x_b.shape), x)
        xp.subtract(x_b, part.constant(mean_, x_b), out=term)
        term *= part.constant(scale_, x_b)
        term *= tau
        term.sum(axis=0, out=out)
        if beta_ is not None:
            out += part.constant(beta_, x_b)[0]

    batch.lanes.walk(task)
    if not from_batch and not backend.is_inference():
        batch.keep(moments.inverse_std)
    return y


def transform_backward(
    dy: Array, x: Array, mixture: MixtureArrays, moments: Moments, rho: float, gamma: Array | None
) -> tuple[Array, ...]:
    """Serve :func:`uanref.norms.mixture_transform.transform_backward`, whose numbered steps these are."""
    batch, xp = Batch(x, mixture), backend.namespace(dy, x)
    batch.recall(moments.inverse_std)
    mean_, *quadratic_ = batch.lanes.constants(moments.mean, batch.mean, 1.0 / batch.variance)

    def sums(part: Part) -> tuple[Array, Array, Array]:
        tau, x_b, dy_b = posterior(part, batch), part.samples(x), part.samples(dy)
        dy_tau, centred = part.buffers("sums", 2, (batch.components, *x_b.shape), x)
        xp.multiply(tau, dy_b, out=dy_tau)
        a = part.sums(dy_tau)
        xp.subtract(x_b, part.constant(mean_, x_b), out=centred)
        dy_tau *= centred
        return a, part.sums(dy_tau), part.sums(dy_b[None])[0]

    def merged(walked: list[list[tuple[Array, ...]]]) -> list[Array]:
        return [joined([merge_sums([part[i] for part in parts], dy.dtype) for parts in walked]) for i in range(3)]

    # 1. Sums per component.
    a, b, dbeta = merged(batch.lanes.walk(sums))  # (K, C), (K, C), (C,)
    a, b = a / batch.root_prior, b / batch.root_prior * moments.inverse_std  # w = tau / sqrt(lambda)
    dgamma = rho * b.sum(axis=0)  # (C,)
    scale = rho if gamma is None else rho * gamma
    dm = -scale * moments.inverse_std * a  # (K, C)
    dv = -0.5 * scale * moments.inverse_std * moments.inverse_std * b  # (K, C)

    direct = scale * moments.inverse_std / batch.root_prior  # (K, C)
    from_batch = moments.total is not None
    if from_batch:
        share = moments.alive / (moments.total * batch.root_prior + (1.0 - moments.alive))  # 1 / S_k, 0 for a dead one
        dm_w, dv_w = dm * share, dv * share
        direct_, dm_, dv_, dv_v_ = batch.lanes.constants(direct, dm_w, dv_w, dv_w * moments.variance)
    else:
        (direct_,) = batch.lanes.constants(direct)
    dx: Array = xp.empty(x.shape, dtype=dy.dtype)

    def propagate(part: Part) -> tuple[Array, Array, Array]:
        near_x, dy_b = near(part.samples(x)), part.samples(dy)
        tau = posterior(part, batch, near_x)
        dlog_w, dx_k, spare = buffers = part.buffers("propagate", 3, (batch.components, *near_x.shape), x)
        # 2. Directly: g i_k, times tau_k for dx, times tau_k (x - m_k) for d log w_k.
        xp.multiply(dy_b, part.constant(direct_, dy_b), out=dlog_w)
        # What is infinite shows in dx; the batch's moments have shown it before.
        seen = near_x if from_batch else part.samples(x)
        xp.subtract(seen, part.constant(mean_, seen), out=spare)
        # 3. Through the batch's moments: dm_k + 2 dv_k (x - m_k) and dm_k (x - m_k) + dv_k ((x - m_k)^2 - v_k).
        if from_batch:
            dlog_w += part.constant(dm_, dy_b)
            xp.multiply(spare, part.constant(dv_, dy_b), out=dx_k)
            dlog_w += dx_k
            dx_k += dlog_w
            dx_k *= tau
            dlog_w *= spare
            dlog_w -= part.constant(dv_v_, dy_b)
        else:
            xp.multiply(dlog_w, tau, out=dx_k)
            dlog_w *= spare
        dlog_w *= tau
        # 4. Through the weights.
        found = posterior_backward(part, batch, near_x, tau, buffers, quadratic_)
        dx_k.sum(axis=0, out=part.target(dx))
        return found

    dl_sum, dmean, dvariance = merged(batch.lanes.walk(propagate))
    mixture_kept.forget(moments.inverse_std)
    # w was divided by sqrt(lambda). Step 3 adds nothing to the sum of d log w: moments do not mind a factor of w_k.
    dlog_w_sum = (scale * b).sum(axis=1, keepdims=True) if batch.joint else scale * b  # (K, P)
    return dx, dgamma, dbeta, dm, dv, dl_sum - 0.5 * dlog_w_sum, dmean, dvariance
