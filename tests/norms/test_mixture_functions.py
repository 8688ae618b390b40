from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from support.arrays import draw_array

from uanref.gradcheck import central_difference
from uanref.kernels.cpu import mixture_blocks
from uanref.kernels.cpu.merging import merge_moments
from uanref.norms.mixture_constraints import (
    inverse_softplus,
    log_softmax,
    log_softmax_backward,
    softplus,
    softplus_backward,
)
from uanref.norms.mixture_em import em_step
from uanref.norms.mixture_moments import weighted_moments, weighted_moments_backward
from uanref.norms.mixture_weights import Mixture, column, posterior, posterior_backward, weights
from uanref.norms.standardize import as_rows

SEEDS = st.integers(0, 2**32 - 1)


def draw_mixture(components, channels, seed, joint, spread=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((components, 1 if joint else channels))
    return Mixture(
        log_softmax(logits),
        spread * rng.standard_normal((components, channels)),
        rng.uniform(0.3, 2.0, (components, channels)),
    )


@pytest.mark.parametrize("joint", [False, True])
def test_posterior_is_bayes_rule(joint):
    """Against scipy's normal densities, the prior times the likelihood normalized over the components."""
    x = as_rows(draw_array((5, 3, 4), 0))
    m = draw_mixture(3, 3, 1, joint)
    log_density = stats.norm.logpdf(x, m.mean[:, None, :, None], np.sqrt(m.variance)[:, None, :, None])
    if joint:
        log_density = log_density.sum(axis=2, keepdims=True)
    log_joint = m.log_prior[:, None, :, None] + log_density
    expected = np.exp(log_joint - special.logsumexp(log_joint, axis=0))
    tau = posterior(x, m)
    np.testing.assert_allclose(tau, expected, rtol=1e-11)
    np.testing.assert_allclose(tau.sum(axis=0), 1.0, rtol=1e-14)
    w = weights(x, m)
    np.testing.assert_allclose(w, expected / np.exp(0.5 * m.log_prior)[:, None, :, None], rtol=1e-11)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), SEEDS, st.booleans())
def test_posterior_backward(components, channels, spatial, seed, joint):
    x = draw_array((3, channels, spatial), seed)
    m = draw_mixture(components, channels, seed, joint)
    dtau = draw_array((components, 3, m.log_prior.shape[1], spatial), seed + 1)
    dx, dlog_prior, dmean, dvariance = posterior_backward(dtau, x, m)

    def loss(x=x, log_prior=m.log_prior, mean=m.mean, variance=m.variance):
        return (dtau * posterior(x, Mixture(log_prior, mean, variance))).sum()

    for name, analytic, value in [
        ("x", dx, x),
        ("log_prior", dlog_prior, m.log_prior),  # off the simplex too: the posterior is a softmax of any numbers
        ("mean", dmean, m.mean),
        ("variance", dvariance, m.variance),
    ]:
        along = draw_array(value.shape, seed + 2)
        numerical = central_difference(lambda v, name=name: loss(**{name: v}), value, along, 1e-4)
        claimed = (analytic * along).sum()
        assert abs(claimed - numerical) <= 1e-7 * max(abs(claimed), abs(numerical), 1e-2), name


def whole_moments(x, w):
    return weighted_moments(x, w)


@given(st.integers(1, 3), st.integers(1, 3), SEEDS)
def test_weighted_moments_backward(components, channels, seed):
    x = draw_array((4, channels, 2), seed)
    log_w = draw_array((components, 4, channels, 2), seed + 1)
    total, mean, variance = whole_moments(x, np.exp(log_w))
    dmean, dvariance = draw_array(mean.shape, seed + 2), draw_array(mean.shape, seed + 3)
    share = np.exp(log_w) / column(total)
    dx, dlog_w = weighted_moments_backward(dmean, dvariance, x, share, mean, variance)

    def loss(x=x, log_w=log_w):
        _, mean, variance = whole_moments(x, np.exp(log_w))
        return (dmean * mean + dvariance * variance).sum()

    for analytic, value, name in [(dx, x, "x"), (dlog_w, log_w, "log_w")]:
        along = draw_array(value.shape, seed + 4)
        numerical = central_difference(lambda v, name=name: loss(**{name: v}), value, along, 1e-4)
        claimed = (analytic * along).sum()
        assert abs(claimed - numerical) <= 1e-7 * max(abs(claimed), abs(numerical), 1e-2), name


def part_moments(x, w):
    """Return the moments of one block, whose weights are given: priors of 1 have no root to divide by."""
    even = np.zeros((len(w), x.shape[1]))
    batch = mixture_blocks.Batch(x, (even, even, even + 1.0))
    ((found,),) = batch.lanes.walk(
        lambda part: mixture_blocks.weighted_moments(part, batch, part.samples(x), w.reshape(len(w), part.rows, -1))
    )
    return found


@pytest.mark.versions("the merge of blocks")
@given(st.integers(2, 6), SEEDS)
def test_moments_merge_over_blocks(blocks, seed):
    x, w = 100.0 + draw_array((12, 2, 3), seed), np.exp(draw_array((2, 12, 2, 3), seed + 1))
    cuts = np.array_split(np.arange(12), blocks)
    parts = [part_moments(x[c], w[:, c]) for c in cuts]
    for merged, whole in zip(merge_moments(parts, x.dtype), whole_moments(x, w), strict=True):
        np.testing.assert_allclose(merged, whole, rtol=1e-11)


def test_a_factor_per_component_leaves_moments_alone():
    x, w = draw_array((6, 2, 3), 0), np.exp(draw_array((2, 6, 2, 3), 1))
    _, mean, variance = whole_moments(x, w)
    _, mean_scaled, variance_scaled = whole_moments(x, w * np.array([3.0, 0.01])[:, None, None, None])
    np.testing.assert_allclose(mean_scaled, mean, rtol=1e-13)
    np.testing.assert_allclose(variance_scaled, variance, rtol=1e-13)


def test_weights_survive_logits_far_apart():
    """A literal tau / sqrt(lambda) would be 0 / 0 here in float32: lambda_2 = e^-120, its root e^-60, tau_2 0 or 1."""
    log_prior = log_softmax(np.array([[0.0], [-120.0]], "f4"))
    m = Mixture(log_prior, np.array([[0.0], [25.0]], "f4"), np.ones((2, 1), "f4"))
    w = weights(np.array([[[0.0]], [[25.0]]], "f4"), m)[:, :, 0, 0]
    # Exactly: log w_2(25) = log tau_2 + 60 with log tau_2 = -log1p(exp(120 - 312.5)).
    np.testing.assert_allclose(w[:, 0], [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.log(w[1, 1].astype("f8")), 60.0, rtol=1e-5)


def test_one_em_step_with_momentum_one_is_the_m_step():
    """Likelihood never falls under EM: the classical guarantee, over ten full steps."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 0.5, 60), rng.normal(1, 1.0, 40)]).reshape(-1, 1, 1)
    log_prior, mean, variance = np.log([[0.5], [0.5]]), np.array([[-0.5], [0.5]]), np.array([[1.0], [1.0]])

    def log_likelihood():
        density = stats.norm.logpdf(x[:, 0, 0], mean, np.sqrt(variance))
        return special.logsumexp(log_prior + density, axis=0).sum()

    values = [log_likelihood()]
    for _ in range(10):
        tau = posterior(x, Mixture(log_prior, mean, variance))
        share, m, v = whole_moments(x, tau)
        total = share / np.exp(0.5 * log_prior)  # W, the sum of the weights
        log_prior, mean, variance = em_step(log_prior, mean, variance, total, m, v, np.ones((2, 1)), 1.0)
        values.append(log_likelihood())
    assert (np.diff(values) >= -1e-9).all()
    assert values[-1] > values[0] + 5.0
    np.testing.assert_allclose(np.exp(log_prior).sum(), 1.0, rtol=1e-12)


def test_an_em_step_floors_and_normalizes_the_prior():
    log_prior, mean, variance, share = (
        np.log([[0.5], [0.5]]),
        np.zeros((2, 1)),
        np.ones((2, 1)),
        np.array([[0.0], [9.0]]),
    )
    new, *_ = em_step(log_prior, mean, variance, share, mean, variance, np.ones((2, 1)), 1.0)
    np.testing.assert_allclose(np.exp(new), [[1e-6 / (1 + 1e-6)], [1 / (1 + 1e-6)]], rtol=1e-12)


@pytest.mark.parametrize("s", [-800.0, -30.0, -1.0, 0.0, 0.005, 3.0, 40.0, 800.0])
def test_softplus_and_its_backward(s):
    a = np.array([s])
    np.testing.assert_allclose(softplus(a), np.logaddexp(0.0, s), rtol=1e-14)
    np.testing.assert_allclose(softplus_backward(np.array([2.0]), a), 2.0 * special.expit(s), rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("v", [1e-5, 0.01, 0.7, 5.0, 50.0, 1e4])
def test_inverse_softplus(v):
    np.testing.assert_allclose(softplus(inverse_softplus(np.array([v]), 1e-5)), v, rtol=1e-11)


def test_inverse_softplus_floors():
    np.testing.assert_allclose(softplus(inverse_softplus(np.array([0.0]), 1e-5)), 1e-5, rtol=1e-9)


def test_log_softmax_backward():
    logits, dlog = draw_array((3, 2), 0), draw_array((3, 2), 1)
    along = draw_array((3, 2), 2)
    analytic = log_softmax_backward(dlog, log_softmax(logits))
    numerical = central_difference(lambda a: (dlog * log_softmax(a)).sum(), logits, along)
    np.testing.assert_allclose((analytic * along).sum(), numerical, rtol=1e-8)
    np.testing.assert_allclose(analytic.sum(axis=0), 0.0, atol=1e-14)
