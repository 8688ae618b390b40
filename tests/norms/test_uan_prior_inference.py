"""UAN with one prior for all channels, and with inference by the mixture's own moments."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import channel_shapes, close, draw_array, shake

from uanref import gradcheck
from uanref.norms.mixture_constraints import log_softmax, softplus
from uanref.norms.mixture_weights import Mixture, posterior
from uanref.norms.uan import UAN

SEEDS = st.integers(0, 2**32 - 1)
POSTERIORS = st.sampled_from(["channel", "joint"])
STATISTICS = st.sampled_from(["batch", "learned"])
FAR = 500.0  # where no sample is


def twins(channels, seed, **options):
    """A layer with a shared prior off its start, and one whose channels all have that prior as their own."""
    shared = shake(UAN(channels, 3, prior="shared", dtype="float64", **options), seed)
    shared.prior_logits.value = draw_array((3, 1), seed + 1)
    apart = UAN(channels, 3, dtype="float64", **options)
    for name, parameter in apart.parameters().items():
        parameter.value = shared.parameters()[name].value.copy()
    apart.prior_logits.value = np.repeat(shared.prior_logits.value, channels, axis=1)
    apart.mean.value, apart.raw_variance.value = shared.mean.value.copy(), shared.raw_variance.value.copy()
    return shared, apart


def both_ways(layer, x, dy):
    """Return y, dx and all gradients of the parameters."""
    found = {"y": layer.forward(x), "dx": layer.backward(dy)}
    return found | {name: parameter.grad for name, parameter in layer.parameters().items()}


# --- one prior for all channels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("posterior_kind", "prior", "channels", "shape"),
    [
        ("channel", "channel", 4, (3, 4)),
        ("channel", "shared", 4, (3, 1)),
        ("joint", "channel", 4, (3, 1)),
        ("joint", "shared", 4, (3, 1)),
        ("channel", "channel", 1, (3, 1)),
        ("channel", "shared", 1, (3, 1)),
    ],
)
@pytest.mark.parametrize("update", ["backprop", "em"])
def test_the_shape_of_the_prior(posterior_kind, prior, channels, shape, update):
    layer = UAN(channels, 3, posterior=posterior_kind, prior=prior, update=update)
    assert layer.state_dict()["prior_logits"].shape == shape
    layer.forward(draw_array((6, channels), 0, dtype="float32"))
    assert layer.prior_logits.shape == shape, "EM keeps it"
    assert layer.running_mean.shape == layer.mean.shape == (3, channels)


@given(channel_shapes(), SEEDS, STATISTICS, st.booleans())
def test_it_is_as_if_every_channel_had_it_and_gets_the_sum_of_their_gradients(shape, seed, statistics, training):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    pair = twins(shape[1], seed, statistics=statistics, eps=0.05)
    shared, apart = (both_ways(layer.train(training), x, dy) for layer in pair)
    added = [0.0 * row[0] for row in apart["prior_logits"]]
    for k, row in enumerate(apart["prior_logits"]):
        for entry in row:
            added[k] += entry
    # Over drawn shapes terms of order 1 may cancel.
    assert np.abs(shared.pop("prior_logits")[:, 0] - added).max() <= 1e-11 * (
        1.0 + np.abs(apart.pop("prior_logits")).sum()
    )
    for name, value in shared.items():
        assert close(value, apart[name], 1e-12), name


@given(channel_shapes(), SEEDS, STATISTICS, st.sampled_from(["backprop", "em"]))
def test_a_joint_posterior_has_one_prior_anyway(shape, seed, statistics, update):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    layers = [
        shake(
            UAN(shape[1], 3, posterior="joint", prior=prior, statistics=statistics, update=update, dtype="float64"), 1
        )
        for prior in ("channel", "shared")
    ]
    found, expected = (both_ways(layer, x, dy) | layer.state_dict() for layer in layers)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("update", ["backprop", "em"])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_a_single_channel_has_but_one_prior(statistics, update):
    """Where K x 1 may mean either."""
    x, dy = draw_array((9, 1, 4), 2), draw_array((9, 1, 4), 3)
    found, expected = (
        both_ways(layer, x, dy) | layer.state_dict() for layer in twins(1, 5, statistics=statistics, update=update)
    )
    for name, value in found.items():
        assert close(value, expected[name], 1e-14), name


@pytest.mark.parametrize("momentum", [0.2, 1.0])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_em_moves_it_by_the_mean_of_the_channels_shares(statistics, momentum):
    options = {"update": "em", "statistics": statistics, "momentum": momentum}
    layer, apart = twins(3, 8, **options)
    x = 1.0 + 0.5 * draw_array((7, 3, 4), 0)
    prior = np.exp(log_softmax(layer.prior_logits.value))[:, 0]
    mixture = Mixture(
        np.repeat(np.log(prior)[:, None], 3, axis=1), layer.mean.value, softplus(layer.raw_variance.value) + layer.eps
    )
    tau = posterior(x, mixture)  # (K, N, C, S)
    wanted = np.zeros(3)
    for k in range(3):
        shares = []
        for c in range(3):
            of_components = [float(sum(tau[j, n, c, s] for n in range(7) for s in range(4))) for j in range(3)]
            shares.append(of_components[k] / sum(of_components))
        wanted[k] = (1.0 - momentum) * prior[k] + momentum * sum(shares) / len(shares)
    layer.forward(x)
    apart.forward(x)
    np.testing.assert_allclose(np.exp(layer.prior_logits.value)[:, 0], wanted, rtol=1e-11)
    # Means and variances move as they do with a prior for each channel.
    np.testing.assert_allclose(layer.mean.value, apart.mean.value, rtol=1e-12)
    np.testing.assert_allclose(layer.raw_variance.value, apart.raw_variance.value, rtol=1e-12)
    assert np.ptp(apart.prior_logits.value, axis=1).max() > 1e-3, "with a prior each they part"


def test_em_has_a_floor_under_it():
    layer = UAN(2, 3, prior="shared", update="em", momentum=1.0, dtype="float64")
    layer.mean.value[1] = FAR
    layer.forward(draw_array((8, 2), 0))
    prior = np.exp(layer.prior_logits.value)[:, 0]
    np.testing.assert_allclose(prior[1], 1e-6 / (1.0 + 1e-6), rtol=1e-12)
    np.testing.assert_allclose(prior.sum(), 1.0, rtol=1e-14)


def test_em_moves_a_prior_whose_component_is_dead_in_one_channel():
    """There its share is 0; mean and variance stay in that channel alone."""
    layer = UAN(2, 2, prior="shared", update="em", momentum=1.0, dtype="float64")
    layer.mean.value[:] = [[-0.5, 0.0], [0.5, FAR]]
    raw = layer.raw_variance.value.copy()
    x = draw_array((40, 2), 0)
    tau = posterior(x[:, :, None], Mixture(np.log(np.full((2, 2), 0.5)), layer.mean.value, softplus(raw) + layer.eps))
    layer.forward(x)
    expected = 0.5 * (tau[1, :, 0].mean() + 0.0)
    np.testing.assert_allclose(np.exp(layer.prior_logits.value)[1, 0], expected, rtol=1e-10)
    assert (layer.mean.value[1, 1], layer.raw_variance.value[1, 1]) == (FAR, raw[1, 1])
    assert layer.mean.value[1, 0] != 0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dead_component_keeps_its_share_of_the_gradient(dtype):
    layer = UAN(2, 3, prior="shared", affine=False, dtype=dtype)
    layer.mean.value = np.array([[-1.0, -1.0], [1.0, 1.0], [FAR, FAR]], dtype)
    found = both_ways(layer, *(draw_array((8, 2, 3), seed, dtype=dtype) for seed in (0, 1)))
    for name, value in found.items():
        assert np.isfinite(value).all(), name
    for name in ("mean", "raw_variance"):
        np.testing.assert_array_equal(found[name][2], 0.0)
    np.testing.assert_array_equal(layer.running_mean[2], 0.0)
    np.testing.assert_array_equal(layer.running_var[2], 1.0)
    assert abs(found["prior_logits"][2, 0]) > 1e-3
    assert abs(found["prior_logits"].sum()) < 1e-5


def test_float32_keeps_the_digits_of_a_sum_over_many_channels():
    """Summed in double precision: 4096 channels take no more digits than one."""
    x, dy = (draw_array((6, 4096), seed, dtype="float32") for seed in (0, 1))
    single = UAN(4096, 3, prior="shared", rng=np.random.default_rng(2))
    double = copy.deepcopy(single).to("float64")
    found = both_ways(single, x, dy)["prior_logits"]
    expected = both_ways(double, x.astype("float64"), dy.astype("float64"))["prior_logits"]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(dy).sum() ** 0.5)


# --- inference by the mixture ---------------------------------------------------------------------


def trained(shape, seed, **options):
    """A float64 layer off its start whose running moments have moved."""
    layer = shake(UAN(shape[1], 3, dtype="float64", **options), seed)
    for step in range(2):
        layer.forward(0.5 + draw_array(shape, seed + 5 + step))
        layer.clear()
    return layer


def with_options(layer, **options):
    """A layer of other options in the same state, as far as it has it."""
    other = UAN(layer.num_features, 3, dtype="float64", **options)
    state = layer.state_dict()
    other.load_state_dict({name: state[name] for name in other.state_dict()})
    return other


@given(channel_shapes(), SEEDS, POSTERIORS, st.sampled_from(["channel", "shared"]), st.sampled_from(["backprop", "em"]))
def test_eval_mode_is_learned_statistics_to_the_bit(shape, seed, posterior_kind, prior, update):
    options = {"posterior": posterior_kind, "prior": prior, "update": update}
    layer = trained(shape, seed, inference="mixture", **options).eval()
    learned = with_options(layer, statistics="learned", **options).eval()
    x, dy = draw_array(shape, seed + 1), draw_array(shape, seed + 2)
    found, expected = both_ways(layer, x, dy), both_ways(learned, x, dy)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@given(channel_shapes(), SEEDS, POSTERIORS)
def test_train_mode_and_running_moments_are_as_ever(shape, seed, posterior_kind):
    pair = [trained(shape, seed, posterior=posterior_kind, inference=inference) for inference in ("running", "mixture")]
    x, dy = draw_array(shape, seed + 1), draw_array(shape, seed + 2)
    found, expected = (both_ways(layer, x, dy) | layer.state_dict() for layer in pair)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert not np.array_equal(pair[1].running_mean, np.zeros_like(pair[1].running_mean))


@given(channel_shapes(), SEEDS, POSTERIORS, st.booleans())
def test_with_learned_statistics_it_changes_nothing(shape, seed, posterior_kind, training):
    pair = [
        trained(shape, seed, posterior=posterior_kind, statistics="learned", inference=inference).train(training)
        for inference in ("running", "mixture")
    ]
    x, dy = draw_array(shape, seed + 1), draw_array(shape, seed + 2)
    found, expected = (both_ways(layer, x, dy) for layer in pair)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert "running_mean" not in pair[1].state_dict()


def test_the_two_inferences_differ():
    layer = trained((20, 3), 0, inference="mixture").eval()
    running = with_options(layer, inference="running").eval()
    x, dy = draw_array((6, 3), 1), draw_array((6, 3), 2)
    one, other = both_ways(layer, x, dy), both_ways(running, x, dy)
    for name in ("y", "dx", "mean", "raw_variance", "prior_logits"):
        assert np.abs(one[name] - other[name]).max() > 1e-3, name


@given(channel_shapes(min_samples=1), SEEDS, POSTERIORS, st.sampled_from(["channel", "shared"]))
def test_identities_6_to_9_in_eval_mode(shape, seed, posterior_kind, prior):
    """They are those of learned statistics: gauge, shift, scale, and no neighbours."""
    options = {"posterior": posterior_kind, "prior": prior, "inference": "mixture", "affine": False, "eps": 0.0}
    layer = shake(UAN(shape[1], 3, dtype="float64", **options), seed).eval()
    x, dy, axes = draw_array(shape, seed + 1), draw_array(shape, seed + 2), (0, *range(2, len(shape)))
    found = both_ways(layer, x, dy)
    gauge = found["prior_logits"]
    assert (np.abs(gauge.sum(0)) <= 1e-10 * (1e-3 + np.abs(gauge).sum(0))).all()
    shift = found["dx"].sum(axes) + found["mean"].sum(0)
    assert (np.abs(shift) <= 1e-10 * (1e-3 + np.abs(found["dx"]).sum(axes) + np.abs(found["mean"]).sum(0))).all()
    s = layer.raw_variance.value
    of_variance = 2.0 * softplus(s) * found["raw_variance"] * (1.0 + np.exp(-s))
    terms = (x * found["dx"]).sum(axes), (layer.mean.value * found["mean"]).sum(0), of_variance.sum(0)
    size = (
        np.abs(x * found["dx"]).sum(axes) + np.abs(layer.mean.value * found["mean"]).sum(0) + np.abs(of_variance).sum(0)
    )
    assert (np.abs(sum(terms)) <= 1e-10 * (1e-3 + size)).all()
    alone = np.concatenate([layer.forward(x[i : i + 1]) for i in range(shape[0])])
    assert close(alone, found["y"], 1e-10)


def test_a_pass_keeps_its_moments_whatever_the_mode_becomes():
    """The backward pass is that of the forward pass, not of the mode at its time."""
    x, dy = draw_array((6, 3), 1), draw_array((6, 3), 2)
    layer = trained((20, 3), 0, inference="mixture")
    expected = both_ways(copy.deepcopy(layer).eval(), x, dy)
    layer.eval().forward(x)
    layer.train()
    np.testing.assert_array_equal(layer.backward(dy), expected["dx"])
    for name, parameter in layer.parameters().items():
        np.testing.assert_array_equal(parameter.grad, expected[name], err_msg=name)


@pytest.mark.parametrize("options", [{"prior": "shared"}, {"inference": "mixture"}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_the_complex_step_agrees(options, training):
    layer = trained((5, 3, 2), 3, eps=0.05, **options).train(training)
    gradcheck.assert_ok(layer, draw_array((5, 3, 2), 4), complex_step=True)


def test_both_are_told():
    text = str(UAN(3, prior="shared", inference="mixture"))
    assert "UAN(3, prior='shared', inference='mixture')" in text
