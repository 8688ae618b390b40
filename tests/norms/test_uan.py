from __future__ import annotations

import copy
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake

from uanref import backend, gradcheck
from uanref.norms.batch import BatchNorm
from uanref.norms.mixture_constraints import log_softmax, softplus
from uanref.norms.mixture_weights import Mixture, posterior
from uanref.norms.uan import UAN

SEEDS = st.integers(0, 2**32 - 1)
POSTERIORS = st.sampled_from(["channel", "joint"])
PRIORS = st.sampled_from(["channel", "shared"])
STATISTICS = st.sampled_from(["batch", "learned"])
INFERENCES = st.sampled_from(["running", "mixture"])


def make(channels, components=3, seed=0, **options):
    """A float64 layer off its symmetric start."""
    options = {"dtype": "float64", "rng": np.random.default_rng(seed)} | options
    return shake(UAN(channels, components, **options), seed + 1)


# --- gradients ----------------------------------------------------------------------------------


@given(
    channel_shapes(),
    st.integers(1, 4),
    SEEDS,
    POSTERIORS,
    PRIORS,
    STATISTICS,
    INFERENCES,
    st.sampled_from(["backprop", "em"]),
    st.sampled_from(["paper", "data"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(LAYOUTS),
)
def test_gradients_in_train_mode(
    shape, components, seed, posterior, prior, statistics, inference, update, start, rescale, affine, layout
):
    layer = make(
        shape[1],
        components,
        seed,
        posterior=posterior,
        prior=prior,
        statistics=statistics,
        inference=inference,
        update=update,
        start=start,
        rescale=rescale,
        affine=affine,
        eps=0.05,
    )
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=start == "paper")


@given(
    channel_shapes(min_samples=1), st.integers(1, 4), SEEDS, POSTERIORS, PRIORS, STATISTICS, INFERENCES, st.booleans()
)
def test_gradients_in_eval_mode(shape, components, seed, posterior, prior, statistics, inference, affine):
    options = {"posterior": posterior, "prior": prior, "statistics": statistics, "inference": inference}
    layer = make(shape[1], components, seed, affine=affine, **options).eval()
    if statistics == "batch":
        layer.running_mean = draw_array((components, shape[1]), seed + 1)
        layer.running_var = 0.2 + draw_array((components, shape[1]), seed + 2) ** 2
    gradcheck.assert_ok(layer, draw_array(shape, seed), seed=seed, complex_step=True)


@pytest.mark.versions("blocks")
@pytest.mark.parametrize(("posterior", "prior"), [("channel", "channel"), ("channel", "shared"), ("joint", "channel")])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_gradients_over_many_blocks(posterior, prior, statistics, monkeypatch):
    """Blocks of one sample and two threads: the sums over blocks are part of the derivation too."""
    from uanref.kernels.cpu import blocks

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    monkeypatch.setattr(blocks, "THREADED_ELEMENTS", 0)
    monkeypatch.setattr(blocks.sample_blocks, "__defaults__", (1,))
    x = draw_array((5, 3, 2, 2), 0)
    with backend.limit_threads(2):
        assert len(blocks.sample_blocks(x, 12)) == 5
        gradcheck.assert_ok(make(3, posterior=posterior, prior=prior, statistics=statistics, eps=0.05), x)


# --- the spec's identities ------------------------------------------------------------------------


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS)
def test_identity_1_one_component_is_batch_norm(shape, seed, posterior, prior):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    uan = UAN(shape[1], 1, posterior=posterior, prior=prior, affine=False, dtype="float64")
    bn = BatchNorm(shape[1], affine=False, dtype="float64")
    y, expected = uan.forward(x), bn.forward(x)
    assert close(y, expected, 1e-12)
    assert close(uan.backward(dy), bn.backward(dy), 1e-12)


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS, STATISTICS)
def test_identity_2_components_have_no_order(shape, seed, posterior, prior, statistics):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    layer = make(shape[1], 3, seed, posterior=posterior, prior=prior, statistics=statistics, affine=False)
    permuted, order = copy.deepcopy(layer), [2, 0, 1]
    for parameter in permuted.parameters().values():
        parameter.value = parameter.value[order]
    assert close(permuted.forward(x), layer.forward(x), 1e-10)
    assert close(permuted.backward(dy), layer.backward(dy), 1e-10)
    for name, parameter in permuted.parameters().items():
        assert close(parameter.grad, layer.parameters()[name].grad[order], 1e-10)


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS)
def test_identity_3_every_channel_has_mean_zero(shape, seed, posterior, prior):
    layer = make(shape[1], 3, seed, posterior=posterior, prior=prior, affine=False)
    y = layer.forward(draw_array(shape, seed))
    axes = (0, *range(2, len(shape)))
    assert (np.abs(y.sum(axes)) <= 1e-10 * (1.0 + np.abs(y).sum(axes))).all()


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS, st.booleans())
def test_identity_4_identical_components_are_batch_norm_scaled(shape, seed, posterior, prior, uniform):
    x = draw_array(shape, seed)
    layer = UAN(shape[1], 3, posterior=posterior, prior=prior, affine=False, dtype="float64")
    layer.mean.value = np.repeat(draw_array((1, shape[1]), seed), 3, axis=0)
    layer.raw_variance.value = np.repeat(draw_array((1, shape[1]), seed + 1), 3, axis=0)
    if not uniform:
        layer.prior_logits.value = draw_array(layer.prior_logits.shape, seed + 2)
    root_sum = np.exp(0.5 * log_softmax(layer.prior_logits.value)).sum(axis=0)  # (C,) or (1,)
    factor = (root_sum / np.sqrt(3)).reshape((1, -1) + (1,) * (len(shape) - 2))
    bn = BatchNorm(shape[1], affine=False, dtype="float64").forward(x)
    if uniform:
        assert close(factor, np.ones_like(factor), 1e-14)
    assert close(layer.forward(x), factor * bn, 1e-10)


@pytest.mark.parametrize("components", [2, 3, 4])
@pytest.mark.parametrize("posterior", ["channel", "joint"])
def test_identity_5_separated_components_give_variance_k(components, posterior):
    rng = np.random.default_rng(components)
    shares = rng.dirichlet(np.full(components, 4.0))
    counts = np.maximum((shares * 20_000).astype(int), 100)
    centres = 12.0 * np.arange(components)
    x = np.concatenate([rng.normal(c, 1.0, n) for c, n in zip(centres, counts, strict=True)])[:, None]
    options = {"posterior": posterior, "rescale": False, "affine": False, "eps": 0.0, "dtype": "float64"}
    layer = UAN(1, components, **options)
    layer.prior_logits.value = np.log(counts / counts.sum())[:, None]
    layer.mean.value = centres[:, None]
    layer.raw_variance.value = np.full((components, 1), np.log(np.expm1(1.0)))
    assert abs(layer.forward(x).var() - components) < 0.01 * components


def gradients_of(shape, seed, posterior, prior, statistics, eps=1e-5):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    options = {"posterior": posterior, "prior": prior, "statistics": statistics}
    layer = make(shape[1], 3, seed, affine=False, eps=eps, **options)
    layer.forward(x)
    dx = layer.backward(dy)
    return layer, x, dx, (0, *range(2, len(shape)))


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS, STATISTICS)
def test_identity_6_gauge_of_the_logits(shape, seed, posterior, prior, statistics):
    layer, *_ = gradients_of(shape, seed, posterior, prior, statistics)
    grad = layer.prior_logits.grad
    assert (np.abs(grad.sum(axis=0)) <= 1e-10 * (1e-300 + np.abs(grad).sum(axis=0))).all()


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS, STATISTICS)
def test_identity_7_shift(shape, seed, posterior, prior, statistics):
    layer, _, dx, axes = gradients_of(shape, seed, posterior, prior, statistics)
    dmu = layer.mean.grad
    total, terms = dx.sum(axes) + dmu.sum(0), np.abs(dx).sum(axes) + np.abs(dmu).sum(0)
    assert (np.abs(total) <= 1e-10 * (1e-3 + terms)).all()


@given(channel_shapes(min_samples=6), SEEDS, POSTERIORS, PRIORS, STATISTICS)
def test_identity_8_scale(shape, seed, posterior, prior, statistics):
    layer, x, dx, axes = gradients_of(shape, seed, posterior, prior, statistics, eps=0.0)
    mu, s = layer.mean.value, layer.raw_variance.value
    variance_grad = layer.raw_variance.grad / (1.0 / (1.0 + np.exp(-s)))  # softplus undone: dL/dsigma^2
    terms = [x * dx, mu * layer.mean.grad, 2.0 * softplus(s) * variance_grad]
    total = terms[0].sum(axes) + terms[1].sum(0) + terms[2].sum(0)
    size = np.abs(terms[0]).sum(axes) + np.abs(terms[1]).sum(0) + np.abs(terms[2]).sum(0)
    assert (np.abs(total) <= 1e-10 * (1e-3 + size)).all()


@given(channel_shapes(min_samples=1), SEEDS, POSTERIORS)
def test_identity_9_learned_statistics_ignore_the_neighbours(shape, seed, posterior):
    layer = make(shape[1], 3, seed, posterior=posterior, statistics="learned")
    x = draw_array(shape, seed)
    together = layer.forward(x)
    alone = np.concatenate([layer.forward(x[i : i + 1]) for i in range(shape[0])])
    assert close(alone, together, 1e-10)
    layer.eval()
    assert close(layer.forward(x), together, 1e-10)


@given(channel_shapes(), SEEDS, POSTERIORS, PRIORS, st.integers(1, 3))
def test_identity_10_ones_upstream_give_zero(shape, seed, posterior, prior, components):
    layer = make(shape[1], components, seed, posterior=posterior, prior=prior, affine=False, eps=0.05)
    y = layer.forward(draw_array(shape, seed))
    dx = layer.backward(np.ones_like(y))  # all ones on purpose
    assert np.abs(dx).max() < 1e-10
    for parameter in layer.parameters().values():
        assert np.abs(parameter.grad).max() < 1e-10


# --- what else the definition promises ------------------------------------------------------------


@given(channel_shapes(), SEEDS, POSTERIORS, STATISTICS, st.sampled_from(["float32", "float64"]))
def test_output_is_the_definition(shape, seed, posterior_kind, statistics, dtype):
    x = draw_array(shape, seed, dtype=dtype)
    before = x.copy()
    layer = make(shape[1], 3, seed, posterior=posterior_kind, statistics=statistics, dtype=dtype, eps=0.01)
    y = layer.forward(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(x, before)

    wide = {name: p.value.astype("float64") for name, p in layer.parameters().items()}
    rows = x.astype("float64").reshape(*shape[:2], -1)
    log_prior, variance = log_softmax(wide["prior_logits"]), softplus(wide["raw_variance"])
    tau = posterior(rows, Mixture(log_prior, wide["mean"], variance + layer.eps))
    m, v = wide["mean"][:, None, :, None], variance[:, None, :, None]
    if statistics == "batch":
        share = tau.sum((1, 3), keepdims=True)
        m = (tau * rows).sum((1, 3), keepdims=True) / share
        v = (tau * (rows - m) ** 2).sum((1, 3), keepdims=True) / share
    w = tau / np.sqrt(np.exp(log_prior))[:, None, :, None]
    mixed = (w * (rows - m) / np.sqrt(v + layer.eps)).sum(0) / np.sqrt(3)
    expected = (wide["gamma"][:, None] * mixed + wide["beta"][:, None]).reshape(shape)
    assert close(y, expected, 2e-4 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("posterior", ["channel", "joint"])
def test_running_moments_and_eval(posterior):
    x = draw_array((40, 3), 0)
    layer = make(3, 2, posterior=posterior, momentum=1.0)
    y = layer.forward(x)
    # momentum 1: the running moments are the batch's own, biased, so eval repeats the training output.
    assert close(layer.eval().forward(x), y, 1e-12)
    layer.momentum = 0.1
    kept = layer.running_mean.copy()
    layer.forward(2.0 * x)
    np.testing.assert_array_equal(layer.running_mean, kept)
    layer.train().forward(2.0 * x)
    assert np.abs(layer.running_mean - kept).max() > 1e-3


def test_small_running_moments_keep_their_digits_in_float32():
    x = (1e-3 * draw_array((60, 2), 0)).astype("float32")
    layer = UAN(2, 1, momentum=1.0)
    layer.forward(x)
    np.testing.assert_allclose(layer.running_var[0], x.astype("float64").var(0), rtol=1e-5)


def test_eval_with_one_component_differs_from_batch_norm_by_the_unbiased_factor():
    x = draw_array((6, 2), 0)
    uan, bn = UAN(2, 1, momentum=1.0, dtype="float64"), BatchNorm(2, momentum=1.0, dtype="float64")
    uan.forward(x)
    bn.forward(x)
    np.testing.assert_allclose(bn.running_var, uan.running_var[0] * 6 / 5, rtol=1e-13)


@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dead_component_is_masked(posterior, dtype):
    """No sample near component 2: it adds nothing, keeps its moments, gets no gradient but its prior's share."""
    layer = UAN(2, 3, posterior=posterior, affine=False, dtype=dtype)
    layer.mean.value = np.array([[-1.0, -1.0], [1.0, 1.0], [500.0, 500.0]], dtype)
    x, dy = draw_array((8, 2, 3), 0, dtype=dtype), draw_array((8, 2, 3), 1, dtype=dtype)
    y = layer.forward(x)
    dx = layer.backward(dy)
    for array in (y, dx, *(p.grad for p in layer.parameters().values())):
        assert np.isfinite(array).all()
    np.testing.assert_array_equal(layer.running_mean[2], 0.0)
    np.testing.assert_array_equal(layer.running_var[2], 1.0)
    np.testing.assert_array_equal(layer.mean.grad[2], 0.0)
    np.testing.assert_array_equal(layer.raw_variance.grad[2], 0.0)
    assert np.abs(layer.prior_logits.grad[2]).max() > 1e-3
    assert np.abs(layer.prior_logits.grad.sum(0)).max() < 1e-5

    alive = UAN(2, 2, posterior=posterior, affine=False, dtype=dtype)  # the same without the dead one
    alive.mean.value, alive.raw_variance.value = layer.mean.value[:2], layer.raw_variance.value[:2]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    # lambda is 1/3 instead of 1/2 and rho 1/sqrt 3 instead of 1/sqrt 2: w rho is the same.
    assert close(y, alive.forward(x), tolerance)
    assert close(dx, alive.backward(dy), tolerance)


def test_a_faint_component_is_alive():
    """Posteriors that sum to 1e-20 are far above the smallest number: such a component is normalized like any other."""
    layer = UAN(1, 2, affine=False, dtype="float64")
    layer.mean.value = np.array([[0.0], [12.0]])
    layer.forward(draw_array((20, 1), 0))
    assert layer.running_var[1, 0] < 0.95, "its running moments moved"


@pytest.mark.parametrize("gap", [100.0, 200.0, 1000.0])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_far_apart_stay_finite(gap, statistics, posterior, dtype):
    layer = UAN(3, 2, statistics=statistics, posterior=posterior, dtype=dtype)
    layer.prior_logits.value[0] = gap
    layer.mean.value = np.array([[50.0] * 3, [0.0] * 3], dtype)
    near, far = draw_array((40, 3, 2), 0), 50.0 + draw_array((40, 3, 2), 1)
    x = np.concatenate([near, far]).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = layer.forward(x)
        dx = layer.backward(draw_array(x.shape, 2, dtype=dtype))
    for array in (y, dx, *(p.grad for p in layer.parameters().values())):
        assert np.isfinite(array).all()


def test_em_with_momentum_zero_moves_nothing():
    layer = UAN(2, 2, update="em", momentum=0.0)
    layer.prior_logits.value[0] = -30.0
    before = layer.state_dict()
    layer.forward(draw_array((6, 2), 0, dtype="float32"))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_em_keeps_a_dead_component_to_the_bit():
    layer = UAN(2, 2, update="em")
    layer.mean.value[1] = 500.0
    raw = layer.raw_variance.value[1].copy()
    layer.forward(draw_array((6, 2), 0, dtype="float32"))
    np.testing.assert_array_equal(layer.raw_variance.value[1], raw)
    np.testing.assert_array_equal(layer.mean.value[1], 500.0)


def test_em_moves_the_mixture_and_gives_it_no_gradient():
    layer = UAN(2, 3, update="em", momentum=0.2, dtype="float64")
    assert set(layer.parameters()) == {"gamma", "beta"}
    assert {"mean", "raw_variance", "prior_logits"} <= set(layer.buffers())
    assert {"mean", "raw_variance", "prior_logits"} <= set(layer.state_dict())
    x = 1.0 + 0.5 * draw_array((50, 2), 0)
    prior, mean, variance = (
        np.exp(log_softmax(layer.prior_logits.value)),
        layer.mean.value.copy(),
        softplus(layer.raw_variance.value),
    )
    tau = posterior(x[:, :, None], Mixture(np.log(prior), mean, variance + layer.eps))[..., 0]  # (K, N, C)
    share = tau.sum(1)
    m = (tau * x).sum(1) / share
    v = (tau * (x - m[:, None]) ** 2).sum(1) / share
    y = layer.forward(x)
    layer.backward(draw_array(x.shape, 1))
    np.testing.assert_allclose(np.exp(layer.prior_logits.value), 0.8 * prior + 0.2 * share / 50, rtol=1e-10)
    np.testing.assert_allclose(layer.mean.value, 0.8 * mean + 0.2 * m, rtol=1e-10)
    np.testing.assert_allclose(softplus(layer.raw_variance.value), 0.8 * variance + 0.2 * v, rtol=1e-10)
    assert layer.mean.grad is None
    assert not np.allclose(layer.forward(x), y), "the next forward must see the moved mixture"
    moved = layer.mean.value.copy()
    layer.eval().forward(x)
    np.testing.assert_array_equal(layer.mean.value, moved)


def test_em_recovers_a_mixture():
    rng = np.random.default_rng(0)
    layer = UAN(1, 2, update="em", statistics="learned", start="data", momentum=0.3, dtype="float64", rng=rng)
    for _ in range(300):
        pick = rng.random(400) < 0.3
        layer.forward(np.where(pick, rng.normal(-3.0, 0.5, 400), rng.normal(2.0, 1.0, 400))[:, None])
        layer.clear()
    order = np.argsort(layer.mean.value[:, 0])
    np.testing.assert_allclose(layer.mean.value[order, 0], [-3.0, 2.0], atol=0.15)
    np.testing.assert_allclose(np.exp(layer.prior_logits.value)[order, 0], [0.3, 0.7], atol=0.05)
    np.testing.assert_allclose(softplus(layer.raw_variance.value)[order, 0], [0.25, 1.0], atol=0.2)


def test_paper_start():
    layer = UAN(200, 3, rng=np.random.default_rng(5))
    assert (np.abs(layer.mean.value) <= 1.0).all()
    assert 0.4 < np.abs(layer.mean.value).mean() < 0.6
    assert ((layer.raw_variance.value >= 0.001) & (layer.raw_variance.value <= 0.01)).all()
    np.testing.assert_allclose(softplus(layer.raw_variance.value), 0.70, atol=0.01)
    np.testing.assert_array_equal(layer.prior_logits.value, 0.0)


def test_data_start_places_components_on_the_first_training_batch():
    layer = UAN(2, 3, start="data", dtype="float64", rng=np.random.default_rng(1))
    jitter = layer.start_jitter.copy()
    x = 5.0 + 3.0 * draw_array((30, 2, 4), 0)
    layer.eval().forward(x)
    assert not layer.initialized, "evaluation must not start the layer"
    layer.train().forward(x)
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    np.testing.assert_allclose(layer.mean.value, mean + 0.3 * np.sqrt(variance) * jitter, rtol=1e-12)
    np.testing.assert_allclose(softplus(layer.raw_variance.value), np.tile(variance, (3, 1)), rtol=1e-10)
    assert layer.initialized
    placed = layer.mean.value.copy()
    layer.forward(x + 1.0)
    np.testing.assert_array_equal(layer.mean.value, placed)


@pytest.mark.parametrize("started", [False, True])
def test_the_data_start_survives_a_state_dict(started):
    layer = UAN(2, 3, start="data", dtype="float64", rng=np.random.default_rng(1))
    x = draw_array((6, 2), 0)
    if started:
        layer.forward(10.0 + x)
    other = UAN(2, 3, start="data", dtype="float64")
    other.load_state_dict(layer.state_dict())
    assert other.initialized is started
    np.testing.assert_array_equal(other.forward(x), layer.forward(x))


@pytest.mark.parametrize(
    ("posterior", "statistics", "update", "start", "prior", "inference"),
    list(
        itertools.product(
            ["channel", "joint"],
            ["batch", "learned"],
            ["backprop", "em"],
            ["paper", "data"],
            ["channel", "shared"],
            ["running", "mixture"],
        )
    ),
)
def test_state_dict_round_trip(posterior, statistics, update, start, prior, inference):
    options = {"posterior": posterior, "statistics": statistics, "update": update, "start": start}
    options |= {"prior": prior, "inference": inference}
    layer = shake(UAN(3, 2, **options), 3)
    x = draw_array((5, 3), 0, dtype="float32")
    layer.forward(x)
    other = UAN(3, 2, rng=np.random.default_rng(9), **options)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer.eval().forward(x), other.eval().forward(x))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], value)


@pytest.mark.versions("threads")
def test_threads_change_no_bit():
    from uanref.kernels.cpu import blocks

    x, dy = (draw_array((48, 8, 16, 16), seed, dtype="float32") for seed in (0, 1))
    assert x.size > blocks.THREADED_ELEMENTS
    assert len(blocks.sample_blocks(x, 5 * 3 * x[0].size)) > 1
    results = []
    for count in (1, 2):
        layer = UAN(8)
        with backend.limit_threads(count):
            results.append([layer.forward(x), layer.backward(dy), layer.mean.grad, layer.running_var])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_inference_keeps_nothing():
    layer = UAN(2, dtype="float64")
    with backend.inference():
        y = layer.forward(draw_array((4, 2), 0))
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(y)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_components": 0}, ValueError, "num_components must be >= 1, got 0"),
        ({"posterior": "both"}, ValueError, "posterior must be one of 'channel', 'joint', got 'both'"),
        ({"statistics": "running"}, ValueError, "statistics must be one of"),
        ({"update": "sgd"}, ValueError, "update must be one of"),
        ({"start": "zeros"}, ValueError, "start must be one of"),
        ({"prior": "joint"}, ValueError, "prior must be one of 'channel', 'shared', got 'joint'"),
        ({"inference": "learned"}, ValueError, "inference must be one of 'running', 'mixture', got 'learned'"),
        ({"eps": float("inf")}, ValueError, "eps must be finite"),
        ({"momentum": -0.1}, ValueError, "momentum must be finite and >= 0 and <= 1"),
        ({"rng": 7}, TypeError, "rng must be a numpy.random.Generator or None, got int"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        UAN(3, **options)


def test_bad_input():
    with pytest.raises(ValueError, match=r"UAN expects \(N, 3, ...\), got \(4, 2\)"):
        UAN(3).forward(np.zeros((4, 2), "f4"))
    with pytest.raises(ValueError, match="needs >= 2 samples per channel"):
        UAN(3).forward(np.zeros((1, 3), "f4"))
    with pytest.raises(ValueError, match="needs >= 2 samples per channel"):
        UAN(3, statistics="learned", start="data").forward(np.zeros((1, 3), "f4"))
    assert UAN(3, statistics="learned").forward(np.zeros((1, 3), "f4")).shape == (1, 3)
    with pytest.raises(TypeError, match="float32 parameters but got an input of float64"):
        UAN(3).forward(np.zeros((4, 3)))
