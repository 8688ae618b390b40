"""Posterior and EM against scikit-learn's GaussianMixture: diagonal, no regularization on its side, eps 0 on ours.

Its variances are E[x^2] - E[x]^2, so the comparison of several steps cannot be closer than what cancels there.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requirements import require

from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_constraints import inverse_softplus, log_softmax, softplus
from uanref.norms.mixture_em import em_step
from uanref.norms.mixture_moments import weighted_moments
from uanref.norms.mixture_weights import Mixture, posterior
from uanref.norms.uan import UAN

Start = tuple[np.ndarray, np.ndarray, np.ndarray]  # lambda (K, P), mu (K, C), sigma^2 (K, C)

POSTERIORS = st.sampled_from(["channel", "joint"])
SEEDS = st.integers(0, 10**6)
SHAPES = st.tuples(st.integers(15, 30), st.integers(1, 3), st.integers(2, 5))  # enough that no component collapses
COMPONENTS = st.integers(1, 4)


@pytest.fixture(autouse=True)
def _sklearn() -> None:
    require("sklearn.mixture", extra="oracle")


def drawn(shape: tuple[int, ...], components: int, posterior: str, seed: int) -> tuple[np.ndarray, Start]:
    """Samples (N, C, S) around a few centres, and a start that is neither right nor far off."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-3, 3, (components, shape[1]))
    x = centres[rng.integers(0, components, (shape[0], shape[2]))].swapaxes(1, 2) + rng.standard_normal(shape)
    prior = rng.uniform(0.5, 2.0, (components, shape[1] if posterior == "channel" else 1))
    mean = centres + 0.5 * rng.standard_normal(centres.shape)
    return x, (prior / prior.sum(0), mean, rng.uniform(0.5, 2.0, centres.shape))


def views(x: np.ndarray, start: Start) -> list[tuple[np.ndarray, Start]]:
    """Cut into scikit-learn's problems, samples (M, D): one per channel, or one of all channels (joint)."""
    prior, mean, variance = start
    flat = x.swapaxes(1, 2).reshape(-1, x.shape[1])  # (M, C)
    if prior.shape[1] == 1:
        return [(flat, start)]
    cuts = [slice(c, c + 1) for c in range(flat.shape[1])]
    return [(flat[:, c], (prior[:, c], mean[:, c], variance[:, c])) for c in cuts]


def theirs(samples: np.ndarray, start: Start, steps: int) -> Any:
    """Return scikit-learn's mixture after ``steps`` EM iterations from ``start``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    prior, mean, variance = start
    mixture = GaussianMixture(
        len(prior),
        covariance_type="diag",
        reg_covar=0.0,
        tol=0.0,
        max_iter=max(steps, 1),
        weights_init=prior[:, 0],
        means_init=mean,
        precisions_init=1.0 / variance,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps are all that is wanted
        mixture.fit(samples)
    if steps == 0:  # the start itself: it knows no other way to be set than by its fitted attributes
        mixture.weights_, mixture.means_, mixture.covariances_ = prior[:, 0], mean, variance
        mixture.precisions_cholesky_ = 1.0 / np.sqrt(variance)
    return mixture


def posterior_of(x: np.ndarray, start: Start) -> np.ndarray:
    """Our posteriors, (K, N, P, S)."""
    prior, mean, variance = start
    return posterior(x, Mixture(np.log(prior), mean, variance))


def em(x: np.ndarray, start: Start, steps: int) -> Start:
    """Our EM: posteriors, their moments, and a step with momentum 1."""
    log_prior, mean, variance = np.log(start[0]), start[1], start[2]
    for _ in range(steps):
        tau = posterior(x, Mixture(log_prior, mean, variance))
        share, m, v = weighted_moments(x, tau)
        alive = np.ones_like(share)
        total = share / np.exp(0.5 * log_prior)  # W, the sum of the weights
        log_prior, mean, variance = em_step(log_prior, mean, variance, total, m, v, alive, 1.0)
    return np.exp(log_prior), mean, variance


def assert_same_mixture(ours: Start, x: np.ndarray, start: Start, steps: int) -> None:
    """Compare every channel's mixture (or the joint one) with scikit-learn's after the same steps."""
    for c, (samples, its_start) in enumerate(views(x, start)):
        mixture = theirs(samples, its_start, steps)
        cut = slice(None) if start[0].shape[1] == 1 else slice(c, c + 1)
        np.testing.assert_allclose(ours[0][:, cut][:, 0], mixture.weights_, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(ours[1][:, cut], mixture.means_, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(ours[2][:, cut], mixture.covariances_, rtol=1e-7, atol=1e-9)


@given(SHAPES, COMPONENTS, POSTERIORS, SEEDS)
def test_posterior(shape, components, posterior, seed):
    x, start = drawn(shape, components, posterior, seed)
    tau = posterior_of(x, start)  # (K, N, P, S)
    for c, (samples, its_start) in enumerate(views(x, start)):
        expected = theirs(samples, its_start, 0).predict_proba(samples)  # (M, K)
        ours = tau[:, :, c].reshape(components, -1).T
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13)


@given(SHAPES, COMPONENTS, POSTERIORS, SEEDS, st.integers(1, 4))
def test_em_steps(shape, components, posterior, seed, steps):
    x, start = drawn(shape, components, posterior, seed)
    assert_same_mixture(em(x, start, steps), x, start, steps)


@pytest.mark.parametrize("statistics", ["batch", "learned"])
@pytest.mark.parametrize("posterior", ["channel", "joint"])
def test_uan_with_em_and_momentum_1_is_em(posterior, statistics):
    x, start = drawn((20, 3, 4), 3, posterior, 11)
    layer = UAN(3, 3, posterior=posterior, statistics=statistics, update="em", eps=0.0, momentum=1.0, dtype="float64")
    layer.prior_logits.value, layer.mean.value = np.log(start[0]), start[1]
    layer.raw_variance.value = inverse_softplus(start[2], 0.0)
    for steps in range(1, 4):
        layer.forward(x)
        ours = np.exp(log_softmax(layer.prior_logits.value)), layer.mean.value, softplus(layer.raw_variance.value)
        assert_same_mixture(ours, x, start, steps)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("posterior", ["channel", "joint"])
def test_mixture_norm_fits_by_em(posterior, steps):
    """From the running parameters, as on every batch but the first."""
    x, start = drawn((20, 3, 4), 3, posterior, 12)
    layer = MixtureNorm(3, 3, posterior=posterior, em_steps=steps, eps=0.0, momentum=1.0, dtype="float64")
    layer.prior, layer.mean, layer.variance = start
    layer.initialized = True
    layer.forward(x)
    assert layer.fit is not None
    assert_same_mixture((np.exp(layer.fit.log_prior), layer.fit.mean, layer.fit.variance), x, start, steps)
    assert_same_mixture((layer.prior, layer.mean, layer.variance), x, start, steps)  # momentum 1 takes the fit whole
