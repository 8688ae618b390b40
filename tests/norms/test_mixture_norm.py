from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.heavy import every
from support.mutants import both, outcome

from uanref import backend, gradcheck
from uanref.kernels.cpu import blocks
from uanref.norms.batch import BatchNorm
from uanref.norms.mixture import Fit, MixtureNorm
from uanref.norms.mixture_em import kmeans_plus_plus

SEEDS = st.integers(0, 2**32 - 1)
POSTERIORS = st.sampled_from(["joint", "channel"])
BOTH = pytest.mark.parametrize("posterior", ["joint", "channel"])


def make(channels, components=3, seed=0, **options):
    """A float64 layer off its symmetric start."""
    options = {"dtype": "float64", "rng": np.random.default_rng(seed)} | options
    return shake(MixtureNorm(channels, components, **options), seed + 1)


def place(layer, seed):
    """Give the running averages values as after some training."""
    rng = np.random.default_rng(seed)
    shape = layer.mean.shape
    prior = rng.uniform(0.2, 1.0, layer.prior.shape)
    layer.prior = prior / prior.sum(axis=0)
    layer.mean, layer.running_mean = rng.standard_normal(shape), rng.standard_normal(shape)
    layer.variance, layer.running_var = rng.uniform(0.3, 1.5, shape), rng.uniform(0.3, 1.5, shape)
    layer.initialized = True
    return layer


# The definition in plain NumPy, in float64: x as (M, C), one posterior (M, K, P).


def as_points(x):
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype("float64")


def log_densities(points, prior, mean, variance):
    """log lambda_k + log N(x; mu_k, variance_k), (M, K, P)."""
    terms = -0.5 * np.log(2 * np.pi * variance) - (points[:, None] - mean) ** 2 / (2 * variance)
    return np.log(prior) + (terms.sum(-1, keepdims=True) if prior.shape[1] != mean.shape[1] else terms)


def posterior_of(points, prior, mean, variance):
    logs = log_densities(points, prior, mean, variance)
    tau = np.exp(logs - logs.max(1, keepdims=True))
    return tau / tau.sum(1, keepdims=True)


def moments_of(points, tau):
    share = tau.sum(0)
    mean = (tau * points[:, None]).sum(0) / share
    return share, mean, (tau * (points[:, None] - mean) ** 2).sum(0) / share


def likelihood(points, prior, mean, variance):
    """Mean log-likelihood of a sample, summed over separate mixtures."""
    logs = log_densities(points, prior, mean, variance)
    top = logs.max(1, keepdims=True)
    return (top[:, 0] + np.log(np.exp(logs - top).sum(1))).mean(0).sum()


def expected_output(layer, points, prior, mean, variance, moments=None):
    tau = posterior_of(points, prior, mean, variance + layer.eps)
    m, v = moments_of(points, tau)[1:] if moments is None else moments
    terms = tau / np.sqrt(prior) * (points[:, None] - m) / np.sqrt(v + layer.eps)
    gamma, beta = layer.gamma.value.astype("float64"), layer.beta.value.astype("float64")
    return gamma * terms.sum(1) / np.sqrt(layer.num_components) + beta


# --- gradients ----------------------------------------------------------------------------------


@given(channel_shapes(), st.integers(1, 4), SEEDS, POSTERIORS, st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients_in_train_mode(shape, components, seed, posterior, affine, layout):
    """At any held mixture. A fit to fewer samples than components puts one on each sample: y is 0 to rounding there."""
    layer = place(make(shape[1], components, seed, posterior=posterior, affine=affine, eps=0.05), seed + 2)
    layer.fit, layer.frozen_fit = Fit(np.log(layer.prior), layer.mean, layer.variance), True
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=True)


@given(channel_shapes(min_samples=10), st.integers(1, 3), SEEDS, POSTERIORS, st.booleans())
def test_gradients_at_the_batchs_own_fit(shape, components, seed, posterior, started):
    layer = make(shape[1], components, seed, posterior=posterior, eps=0.05)
    if started:
        place(layer, seed + 2)
    layer.frozen_fit = True
    gradcheck.assert_ok(layer, draw_array(shape, seed), seed=seed, complex_step=True)


@given(
    channel_shapes(min_samples=1),
    st.integers(1, 4),
    SEEDS,
    POSTERIORS,
    st.booleans(),
    st.sampled_from(LAYOUTS),
)
def test_gradients_in_eval_mode(shape, components, seed, posterior, affine, layout):
    layer = place(make(shape[1], components, seed, posterior=posterior, affine=affine), seed + 2).eval()
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=True)


@pytest.mark.versions("blocks")
@BOTH
def test_gradients_over_many_blocks(posterior, monkeypatch):
    monkeypatch.setattr(blocks, "THREADED_ELEMENTS", 0)
    monkeypatch.setattr(blocks.sample_blocks, "__defaults__", (1,))
    x = draw_array((5, 3, 2, 2), 0)
    with backend.limit_threads(2):
        assert len(blocks.sample_blocks(x, 12)) == 5
        layer = make(3, posterior=posterior, eps=0.05)
        layer.frozen_fit = True
        gradcheck.assert_ok(layer, x)


@BOTH
def test_the_fit_is_outside_the_gradient(posterior):
    """What a plain training step propagates is the derivative at a held fit, and not that of the refitted output."""
    x, dy = draw_array((12, 2), 0), draw_array((12, 2), 1)
    layer = place(make(2, posterior=posterior), 2)
    layer.forward(x)
    dx = layer.backward(dy)
    along, h = draw_array(x.shape, 3), 1e-6
    state = layer.state_dict()

    def slope(frozen):
        layer.frozen_fit = frozen
        values = []
        for t in (h, -h):
            layer.load_state_dict(before if not frozen else state)
            values.append((dy * layer.forward(x + t * along)).sum())
        return (values[0] - values[1]) / (2 * h)

    before = place(make(2, posterior=posterior), 2).state_dict()
    assert abs(slope(frozen=True) - (dx * along).sum()) < 1e-7
    assert abs(slope(frozen=False) - (dx * along).sum()) > 1e-3


# --- identities -----------------------------------------------------------------------------------


@given(channel_shapes(), SEEDS, POSTERIORS)
def test_one_component_is_batch_norm(shape, seed, posterior):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    ours = MixtureNorm(shape[1], 1, posterior=posterior, dtype="float64")
    bn = BatchNorm(shape[1], dtype="float64")
    shake(ours, seed)
    shake(bn, seed)
    assert close(ours.forward(x), bn.forward(x), 1e-12)
    assert close(ours.backward(dy), bn.backward(dy), 1e-12)
    assert close(ours.gamma.grad, bn.gamma.grad, 1e-12)
    assert close(ours.beta.grad, bn.beta.grad, 1e-12)


@given(channel_shapes(), SEEDS, POSTERIORS, st.integers(1, 3))
def test_every_channel_has_mean_zero_so_ones_upstream_give_zero(shape, seed, posterior, components):
    layer = make(shape[1], components, seed, posterior=posterior, affine=False, eps=0.05)
    y = layer.forward(draw_array(shape, seed))
    axes = (0, *range(2, len(shape)))
    assert (np.abs(y.sum(axes)) <= 1e-10 * (1.0 + np.abs(y).sum(axes))).all()
    assert np.abs(layer.backward(np.ones_like(y))).max() < 1e-10  # all ones on purpose


@BOTH
def test_separated_components_give_unit_variance(posterior):
    """rho = 1/sqrt(K) makes of the published sum's variance K a 1."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 1.0, n) for c, n in ((0.0, 3000), (15.0, 5000), (30.0, 2000))])[:, None]
    layer = MixtureNorm(1, 3, posterior=posterior, em_steps=5, affine=False, dtype="float64")
    assert abs(layer.forward(x).var() - 1.0) < 0.01


# --- definition -----------------------------------------------------------------------------------


@given(channel_shapes(), st.integers(1, 3), SEEDS, POSTERIORS, st.sampled_from(["float32", "float64"]))
def test_output_is_the_definition(shape, components, seed, posterior, dtype):
    x = draw_array(shape, seed, dtype=dtype)
    before = x.copy()
    layer = make(shape[1], components, seed, posterior=posterior, dtype=dtype, eps=0.05)
    y = layer.forward(x)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(x, before)
    for name, array in layer.state_dict().items():
        assert name == "initialized" or array.dtype == dtype, name
    fit = [a.astype("float64") for a in (np.exp(layer.fit.log_prior), layer.fit.mean, layer.fit.variance)]
    expected = expected_output(layer, as_points(x), *fit)
    assert close(as_points(y), expected, 5e-4 if dtype == "float32" else 1e-11)


@given(channel_shapes(min_samples=4), SEEDS, POSTERIORS, st.integers(1, 3))
def test_the_fit_is_em_from_the_running_parameters(shape, seed, posterior, em_steps):
    x = draw_array(shape, seed)
    layer = place(make(shape[1], 3, seed, posterior=posterior, em_steps=em_steps, eps=0.05, momentum=0.2), seed)
    prior, mean, variance = start = layer.prior, layer.mean, layer.variance
    points = as_points(x)
    for _ in range(em_steps):
        share, mean, variance = moments_of(points, posterior_of(points, prior, mean, variance + layer.eps))
        prior = np.maximum(share / len(points), 1e-6)
        prior = prior / prior.sum(0)
    layer.forward(x)
    fitted = (prior, mean, variance)
    for actual, expected in zip((np.exp(layer.fit.log_prior), *layer.fit[1:]), fitted, strict=True):
        assert close(actual, expected, 1e-9)
    for actual, old, new in zip((layer.prior, layer.mean, layer.variance), start, fitted, strict=True):
        assert close(actual, 0.8 * old + 0.2 * new, 1e-9)


@BOTH
def test_more_em_steps_never_lower_the_likelihood(posterior):
    x = np.concatenate([draw_array((40, 2), 0), 3.0 + 0.5 * draw_array((25, 2), 1)])
    points, found = as_points(x), []
    start = place(make(2, posterior=posterior, eps=0.0), 5)
    found.append(likelihood(points, start.prior, start.mean, start.variance))
    for em_steps in range(1, 9):
        layer = place(make(2, posterior=posterior, em_steps=em_steps, eps=0.0), 5)
        layer.forward(x)
        found.append(likelihood(points, np.exp(layer.fit.log_prior), *layer.fit[1:]))
    assert (np.diff(found) >= -1e-12).all()
    assert found[-1] > found[0] + 0.5


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_a_planted_mixture_is_found(posterior, seed):
    rng = np.random.default_rng(seed)
    counts, stds = (500, 300, 200), (1.0, 0.5, 2.0)
    centres = np.array([[-20.0, 0.0], [0.0, 20.0], [20.0, -20.0]])
    parts = [c + s * rng.standard_normal((n, 2)) for c, s, n in zip(centres, stds, counts, strict=True)]
    x = rng.permutation(np.concatenate(parts))
    layer = MixtureNorm(2, 3, posterior=posterior, em_steps=10, dtype="float64", rng=rng)
    layer.forward(x)
    for channel in range(2):
        found, true = np.argsort(layer.fit.mean[:, channel]), np.argsort(centres[:, channel])
        prior = np.exp(layer.fit.log_prior)[:, channel if posterior == "channel" else 0]
        np.testing.assert_allclose(layer.fit.mean[found, channel], centres[true, channel], atol=0.5)
        np.testing.assert_allclose(np.sqrt(layer.fit.variance[found, channel]), np.array(stds)[true], rtol=0.2)
        np.testing.assert_allclose(prior[found], np.array(counts)[true] / 1000, atol=1e-3)


# --- seeding --------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), SEEDS, st.booleans())
def test_seeds_are_samples_and_spread_is_the_distance_to_the_nearest(channels, samples, components, seed, joint):
    points = draw_array((channels, samples), seed)
    draws = np.random.default_rng(seed).uniform(size=(components, 1 if joint else channels))
    scale = np.random.default_rng(seed + 1).uniform(0.5, 2.0, channels)
    centres, spread = kmeans_plus_plus(points, scale, draws)
    assert centres.shape == (components, channels)
    squares = (points - centres[:, :, None]) ** 2  # (K, C, M)
    if joint and channels > 1:
        assert all((c == points.T).all(axis=1).any() for c in centres)
        assert len(np.unique(centres, axis=0)) == min(components, samples)
        nearest = (squares / scale[:, None] ** 2).sum(axis=1).argmin(axis=0)  # (M,)
        expected = squares[nearest, :, np.arange(samples)].mean(axis=0)
    else:
        assert (squares.min(axis=2) == 0.0).all()
        assert all(len(np.unique(c)) == min(components, samples) for c in centres.T)
        expected = squares.min(axis=0).mean(axis=1)
    np.testing.assert_allclose(spread, expected, rtol=1e-12, atol=1e-300)


def test_seeds_follow_the_squared_distance():
    """Over an even grid of draws each sample is chosen in proportion to its squared distance."""
    points = np.array([[0.0, 1.0, 3.0]])
    chosen = []
    for u in (np.arange(1000) + 0.5) / 1000:
        centres, _ = kmeans_plus_plus(points, np.array([2.0]), np.array([[0.1], [u]]))
        assert centres[0, 0] == 0.0, "0.1 lies in the first third"
        chosen.append(centres[1, 0])
    assert [chosen.count(v) for v in (0.0, 1.0, 3.0)] == [0, 100, 900]


def test_equal_samples_seed_without_nan():
    centres, spread = kmeans_plus_plus(np.full((2, 3), 5.0), np.ones(2), np.array([[0.2], [1.0], [0.0]]))
    np.testing.assert_array_equal(centres, 5.0)
    np.testing.assert_array_equal(spread, 0.0)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_channel_stays_finite(posterior, dtype):
    x, dy = draw_array((8, 3, 2), 0, dtype=dtype), draw_array((8, 3, 2), 1, dtype=dtype)
    x[:, 1] = 7.0
    layer = MixtureNorm(3, 3, posterior=posterior, dtype=dtype)
    for _ in range(3):
        y = layer.forward(x)
        dx = layer.backward(dy)
        assert np.isfinite(y).all()
        assert np.isfinite(dx).all()
    assert np.abs(y[:, 1]).max() < 1e-3


@BOTH
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:underflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1e4, 1e8, 1e15, -1e20, 1e30])
def test_an_outlier_leaves_all_finite(posterior, dtype, value):
    x, dy = draw_array((8, 3, 4), 0, dtype=dtype), draw_array((8, 3, 4), 1, dtype=dtype)
    x[2, 1, 0] = value
    layer = MixtureNorm(3, 3, posterior=posterior, dtype=dtype)
    for _ in range(3):
        y = layer.forward(x)
        dx = layer.backward(dy)
        for array in (y, dx, layer.gamma.grad, *layer.state_dict().values()):
            assert np.isfinite(array).all()
    assert np.isfinite(layer.eval().forward(x)).all()


@BOTH
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:underflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-40, -30, -10, 10, 18, 20, 30])
def test_every_scale_leaves_all_finite(posterior, dtype, exponent):
    x = (10.0**exponent * draw_array((8, 3, 4), 0)).astype(dtype)
    layer = MixtureNorm(3, 3, posterior=posterior, dtype=dtype)
    for _ in range(2):
        y = layer.forward(x)
        dx = layer.backward(draw_array((8, 3, 4), 1, dtype=dtype))
        for array in (y, dx, layer.gamma.grad, *layer.state_dict().values()):
            assert np.isfinite(array).all()


# --- state ----------------------------------------------------------------------------------------


@BOTH
def test_the_first_fit_is_taken_whole_and_later_ones_start_from_it(posterior):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(c, 1.0, (200, 2)) for c in (-10.0, 0.0, 10.0)])
    layer = MixtureNorm(2, 3, posterior=posterior, dtype="float64", rng=rng)
    assert not layer.initialized
    assert layer.fit is None
    layer.forward(x)
    assert layer.initialized
    np.testing.assert_allclose(layer.mean, layer.fit.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.prior, np.exp(layer.fit.log_prior), rtol=1e-12)
    order = np.argsort(layer.mean, axis=0)
    draws = layer.seed_draws.copy()
    for _ in range(5):
        layer.forward(rng.permutation(x) + 0.1 * rng.standard_normal(x.shape))
        np.testing.assert_array_equal(np.argsort(layer.fit.mean, axis=0), order, "the labels do not switch")
    np.testing.assert_array_equal(layer.seed_draws, draws)


@BOTH
def test_running_moments_and_eval(posterior):
    x = draw_array((40, 3), 0)
    layer = make(3, 2, posterior=posterior, momentum=1.0)
    y = layer.forward(x)
    # momentum 1: all running averages are the batch's own, so eval repeats the training output.
    assert close(layer.eval().forward(x), y, 1e-11)
    kept = layer.state_dict()
    layer.forward(2.0 * x)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])

    layer = make(3, 2, posterior=posterior, momentum=0.25)
    layer.forward(x)
    points = as_points(x)
    tau = posterior_of(points, np.exp(layer.fit.log_prior), layer.fit.mean, layer.fit.variance + layer.eps)
    _, m, v = moments_of(points, tau)
    assert close(layer.running_mean, 0.25 * m, 1e-11)
    assert close(layer.running_var, 0.75 + 0.25 * v, 1e-11)


@BOTH
def test_eval_is_the_definition_and_ignores_the_neighbours(posterior):
    layer = place(make(3, posterior=posterior), 7).eval()
    x = draw_array((5, 3, 2), 0)
    y = layer.forward(x)
    moments = layer.running_mean, layer.running_var
    expected = expected_output(layer, as_points(x), layer.prior, layer.mean, layer.variance, moments)
    assert close(as_points(y), expected, 1e-11)
    assert close(layer.forward(x[:1]), y[:1], 1e-12)
    assert layer.fit is None


def test_before_training_eval_is_the_identity():
    x = draw_array((4, 2), 0)
    y = MixtureNorm(2, 3, eps=0.0, dtype="float64").eval().forward(x)
    np.testing.assert_allclose(y, x, rtol=1e-12)


@BOTH
def test_momentum_zero_moves_nothing_after_the_start(posterior):
    layer = place(make(2, posterior=posterior, momentum=0.0), 0)
    before = layer.state_dict()
    layer.forward(draw_array((6, 2), 0))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dead_component_is_masked(posterior, dtype):
    layer = place(MixtureNorm(2, 3, posterior=posterior, affine=False, momentum=0.5, dtype="float64"), 0).to(dtype)
    layer.mean = np.array([[-1.0, -1.0], [1.0, 1.0], [500.0, 500.0]], dtype)
    x, dy = draw_array((8, 2, 3), 0, dtype=dtype), draw_array((8, 2, 3), 1, dtype=dtype)
    kept = [a[2].copy() for a in (layer.running_mean, layer.running_var, layer.mean, layer.variance)]
    y = layer.forward(x)
    dx = layer.backward(dy)
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    now = (layer.running_mean, layer.running_var, layer.mean, layer.variance)
    for old, new in zip(kept, now, strict=True):
        np.testing.assert_array_equal(new[2], old)
    np.testing.assert_allclose(np.exp(layer.fit.log_prior[2]), 1e-6, rtol=1e-3)
    assert np.abs(layer.mean[:2]).max() < 2.0


@BOTH
def test_frozen_fit_holds_the_last_fit(posterior):
    layer = make(2, posterior=posterior)
    x1, x2 = draw_array((40, 2), 0), draw_array((30, 2), 1)
    layer.forward(x1)
    layer.forward(2.0 * x1)
    fit, dtype = layer.fit, "float32"
    layer.frozen_fit = True
    y = layer.forward(x2)
    for held, old in zip(layer.fit, fit, strict=True):
        np.testing.assert_array_equal(held, old)
    expected = expected_output(layer, as_points(x2), np.exp(fit.log_prior), fit.mean, fit.variance)
    assert close(y, expected, 1e-11)
    assert layer.to(dtype).forward(x2.astype(dtype)).dtype == dtype, "the held fit follows the input's dtype"
    layer.to("float64").frozen_fit = False
    layer.forward(x2)
    assert np.abs(layer.fit.mean - fit.mean).max() > 1e-3


@BOTH
def test_state_dict_round_trip(posterior):
    layer = make(3, posterior=posterior, dtype="float32")
    layer.forward(draw_array((9, 3), 0, dtype="float32"))
    other = MixtureNorm(3, posterior=posterior, rng=np.random.default_rng(99))
    other.load_state_dict(layer.state_dict())
    assert set(layer.state_dict()) == {
        *("gamma", "beta", "prior", "mean", "variance", "running_mean", "running_var", "seed_draws", "initialized")
    }
    assert set(layer.parameters()) == {"gamma", "beta"}
    x = draw_array((8, 3), 1, dtype="float32")
    np.testing.assert_array_equal(layer.forward(x), other.forward(x))
    np.testing.assert_array_equal(layer.eval().forward(x), other.eval().forward(x))


@BOTH
def test_the_generator_decides_the_seeding(posterior):
    x = np.concatenate([c + draw_array((10, 2), c) for c in (0, 5, 10, 15, 20)])
    fits = []
    for rng in (None, np.random.default_rng(0), *map(np.random.default_rng, range(1, 6))):
        layer = MixtureNorm(2, 2, posterior=posterior, em_steps=1, dtype="float64", rng=rng)
        layer.forward(x)
        fits.append(layer.fit.mean)
    np.testing.assert_array_equal(fits[0], fits[1])
    assert any(np.abs(fit - fits[0]).max() > 0.1 for fit in fits[2:])


@pytest.mark.versions("threads")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    x, dy = draw_array((32, 8, 16, 16), 0, dtype="float32"), draw_array((32, 8, 16, 16), 1, dtype="float32")
    results = []
    for count in (1, threads):
        layer = MixtureNorm(8, 2)
        with backend.limit_threads(count):
            results.append((layer.forward(x), layer.backward(dy), layer.gamma.grad, layer.mean, layer.running_var))
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


def test_two_forwards_then_two_backwards():
    layer = place(make(2, momentum=0.0), 0)
    x1, x2, dy = draw_array((4, 2), 1), draw_array((5, 2), 2), draw_array((5, 2), 3)
    layer.forward(x2)
    alone = layer.backward(dy)
    layer.forward(x1)
    layer.forward(x2)
    np.testing.assert_array_equal(layer.backward(dy), alone)
    assert layer.backward(dy[:4]).shape == x1.shape
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(dy)


@BOTH
def test_the_device_is_never_waited_for(posterior, strict_cupy):
    """From the first forward on, seeding included; and its numbers are the host's."""
    x, dy = draw_array((6, 3, 4), 0), draw_array((6, 3, 4), 1)
    host, device = (make(3, posterior=posterior) for _ in range(2))
    device.to("cupy")
    x_device, dy_device = backend.to_device(x, "cupy"), backend.to_device(dy, "cupy")
    with strict_cupy.sealed():
        found = []
        for _ in range(2):
            found = [device.forward(x_device), device.backward(dy_device)]
    for _ in range(2):
        expected = [host.forward(x), host.backward(dy)]
    for actual, wanted in zip(found, expected, strict=True):
        assert close(backend.to_host(actual), wanted, 1e-12)
    for name, value in host.state_dict().items():
        assert close(device.state_dict()[name].astype(float), value.astype(float), 1e-12), name


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros(3, "f4"), ValueError, r"expects \(N, 3, ...\), got \(3,\)"),
        (np.zeros((4, 2), "f4"), ValueError, r"expects \(N, 3, ...\), got \(4, 2\)"),
        (np.zeros((4, 3)), TypeError, "float32 parameters but got an input of float64"),
        (np.zeros((0, 3), "f4"), ValueError, "empty batch"),
        (np.zeros((1, 3), "f4"), ValueError, "MixtureNorm in train mode needs >= 2 samples per channel"),
        ([[1.0, 2.0, 3.0]], TypeError, "expected a NumPy or CuPy array, got list"),
    ],
)
def test_bad_input(x, error, words):
    layer = MixtureNorm(3)
    with pytest.raises(error, match=words):
        layer.forward(x)
    assert not layer.initialized


def test_one_sample_in_eval_mode_is_fine():
    assert np.isfinite(place(make(3), 0).eval().forward(draw_array((1, 3), 0))).all()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_features": 0}, ValueError),
        ({"num_components": 0}, ValueError),
        ({"num_components": 1.5}, TypeError),
        ({"posterior": "both"}, ValueError),
        ({"em_steps": 0}, ValueError),
        ({"eps": -1.0}, ValueError),
        ({"momentum": 1.5}, ValueError),
        ({"dtype": "int32"}, TypeError),
        ({"rng": 3}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error):
        MixtureNorm(**{"num_features": 2} | options)


# --- planted mistakes -----------------------------------------------------------------------------

PLANTED = "plants in definitions, with versions off, and in versions, with them on"
CHAIN = ["norms.mixture_weights", "norms.mixture_moments", "norms.mixture_transform", "norms.mixture"]
WEIGHTS, _, TRANSFORM, LAYER = CHAIN
VERSIONS = ["kernels.cpu.mixture_blocks", "kernels.cpu.mixture_moments", "kernels.cpu.mixture_transform"]
CPU_BLOCKS, _, CPU_TRANSFORM = VERSIONS

# (module, what stands there, what a slip would write). The shared functions' other mistakes are planted
# under UAN; here stand those that reach dx, gamma or beta, which is all that MixtureNorm has gradients for.
MISTAKES = {
    "gamma and beta swapped": (LAYER, "shift(d.gamma, d.beta)", "shift(d.beta, d.gamma)"),
    "beta negated": (LAYER, "shift(d.gamma, d.beta)", "shift(d.gamma, -d.beta)"),
    "gamma not received": (LAYER, "self._receive_scale_and_shift(d.gamma, d.beta)", "self.beta.receive(d.beta)"),
    "beta not received": (LAYER, "self._receive_scale_and_shift(d.gamma, d.beta)", "self.gamma.receive(d.gamma)"),
    "dx negated": (LAYER, "return dx.reshape(dy.shape)", "return -dx.reshape(dy.shape)"),
    "rho forgotten": (LAYER, "mixture, moments, rho, gamma)\n        d =", "mixture, moments, 1.0, gamma)\n        d ="),  # noqa: E501
    "gamma forgotten": (LAYER, "mixture, moments, rho, gamma)\n        d =", "mixture, moments, rho, None)\n        d ="),  # noqa: E501
    "moments constant": (LAYER, "rows, mixture, moments, rho, gamma)\n        d =", "rows, mixture, moments._replace(total=None), rho, gamma)\n        d ="),  # noqa: E501
    "moments' dx dropped": (TRANSFORM, "= dx + dx_moments, ", "= dx, "),
    "moments' dlog w dropped": (TRANSFORM, ", dlog_w + dlog_w_moments\n", ", dlog_w\n"),
    "posterior constant in x": (TRANSFORM, "found = (dx + dx_weights, ", "found = (dx, "),
    "direct path's inverse_std": (TRANSFORM, " dx = (h * w * i).sum", " dx = (h * w).sum"),
    "divisor W_k missing": (TRANSFORM, "moments.alive / (moments.total + (1.0 - moments.alive))", "moments.alive"),
    "dm's sign": (TRANSFORM, "dm = -(h", "dm = (h"),
    "dv's half": (TRANSFORM, "dv = -0.5 * (", "dv = -1.0 * ("),
    "dgamma without rho": (TRANSFORM, "dgamma = rho * (dy", "dgamma = (dy"),
    "softmax's second term dropped": (WEIGHTS, " - tau / tau.sum(axis=0) * dlog_w.sum(axis=0)", ""),
    "tau taken for w": (WEIGHTS, "tau = w * backend.namespace(x).exp(half_log(log_prior))", "tau = w"),
    "precision missing": (WEIGHTS, "u = (near(x) - mean) / variance", "u = near(x) - mean + 0.0 * variance"),
}  # fmt: skip

# The same for the versions; what stands in the layer is one text, with and without them.
CPU_MISTAKES = {
    "moments' dx dropped": (CPU_TRANSFORM, "dx_k += dlog_w\n", "xp.multiply(dy_b, part.constant(direct_, dy_b), out=dx_k)\n"),  # noqa: E501
    "moments' dlog w dropped": (CPU_TRANSFORM, "            dlog_w -= part.constant(dv_v_, dy_b)\n", "            xp.multiply(dy_b, part.constant(direct_, dy_b), out=dlog_w)\n            dlog_w *= spare\n"),  # noqa: E501
    "posterior constant in x": (CPU_BLOCKS, "    dx_k -= dl_u\n", ""),
    "direct path's inverse_std": (CPU_TRANSFORM, "direct = scale * moments.inverse_std /", "direct = scale /"),
    "divisor W_k missing": (CPU_TRANSFORM, "share = moments.alive / (moments.total * batch.root_prior + (1.0 - moments.alive))", "share = moments.alive"),  # noqa: E501
    "dm's sign": (CPU_TRANSFORM, "dm = -scale", "dm = scale"),
    "dv's half": (CPU_TRANSFORM, "dv = -0.5 * scale", "dv = -1.0 * scale"),
    "dgamma without rho": (CPU_TRANSFORM, "dgamma = rho * b.sum(axis=0)", "dgamma = b.sum(axis=0)"),
    "softmax's second term dropped": (CPU_BLOCKS, "        dl -= tau * dl.sum(axis=0)\n", ""),
    "tau taken for w": (CPU_TRANSFORM, "direct = scale * moments.inverse_std / batch.root_prior", "direct = scale * moments.inverse_std"),  # noqa: E501
    "precision missing": (CPU_BLOCKS, "    u *= precision\n", ""),
}  # fmt: skip


def check_all(cls):
    """Return whether each posterior passes in each mode."""
    passed = []
    for posterior in ("joint", "channel"):
        for training in (True, False):
            layer = cls(2, 3, posterior=posterior, eps=0.05, dtype="float64")
            place(shake(layer, 1), 2).train(training)
            layer.frozen_fit = True
            report = gradcheck.check(layer, draw_array((4, 2, 2), 4), directions=2, jacobian=False)
            passed.append(report.ok)
    return passed


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize("module", [LAYER, CPU_TRANSFORM])
def test_without_a_mistake_all_is_green(module):
    assert outcome(check_all, "MixtureNorm", CHAIN, VERSIONS, (module, "", "")) == [True] * 4
    assert {name for name, (at, *_) in MISTAKES.items() if at != LAYER} == set(CPU_MISTAKES)


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize(("text", "name"), every(4, both(MISTAKES, CPU_MISTAKES)))
def test_a_mistake_is_caught(text, name):
    mistake = (MISTAKES if text == "definition" else CPU_MISTAKES)[name]
    assert not all(outcome(check_all, "MixtureNorm", CHAIN, VERSIONS, mistake)), f"survived: {name}"


def test_a_fit_far_below_one_is_taken_whole() -> None:
    """Variances of 1e-8 beside the start's 1, in float32: an average written as old + (new - old) would lose them."""
    layer = MixtureNorm(2, 2, eps=1e-12)
    layer.forward((1e-4 * draw_array((40, 2, 3), 0)).astype("float32"))
    np.testing.assert_array_equal(layer.variance, layer.fit.variance)
    np.testing.assert_array_equal(layer.mean, layer.fit.mean)
