"""UAN, mixture and mode normalization against their definitions under PyTorch's autograd (float64, 1e-10).

``support.oracle_formulas`` is written from the definitions alone: what it shares with the layers is the mathematics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import oracle_formulas as formulas
from support.arrays import channel_shapes, draw_array, shake
from support.oracle_ours import Arrays, assert_agree
from support.requirements import require_torch

from uanref.layers.base import Layer
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN

SEEDS = st.integers(0, 10**6)
COMPONENTS = st.integers(1, 4)
EPS = st.sampled_from([1e-5, 1e-2])
FAR = 1e3  # standard deviations: the posterior of a component this far underflows to 0 in float64
TOLERANCE = 1e-10
DRAWN = 1.0  # smallest scale over drawn shapes: with two samples of a channel terms of order 1 cancel to nothing


@pytest.fixture(autouse=True)
def _torch() -> None:
    require_torch()


def state_of(layer: Layer) -> Arrays:
    """Return copies of all parameters and buffers by name."""
    return {name: value.copy() for name, value in layer.state_dict().items()}


def both_ways(layer: Layer, x: np.ndarray, dy: np.ndarray) -> Arrays:
    """Run ours once and collect output and gradients."""
    outputs = {"y": layer.forward(x), "dx": layer.backward(dy)}
    for name, parameter in layer.parameters().items():
        assert parameter.grad is not None
        outputs[name] = parameter.grad
    return outputs


def by_autograd(
    compute: Callable[[Any, dict[str, Any]], tuple[Any, formulas.Batch]],
    state: Arrays,
    trained: set[str],
    x: np.ndarray,
    dy: np.ndarray,
) -> tuple[Arrays, formulas.Batch, dict[str, Any]]:
    """Run the definition on tensors of x and the state; return output and gradients, the batch, the tensors."""
    import torch

    t = {name: torch.tensor(a, requires_grad=name in trained) for name, a in state.items()}
    tx = torch.tensor(x.copy(), requires_grad=True)
    y, batch = compute(tx, t)
    y = formulas.affine(y, t)
    y.backward(torch.tensor(dy))
    outputs = {"y": y.detach().numpy(), "dx": tx.grad.numpy()}
    for name in trained:  # None: y does not depend on it
        outputs[name] = np.zeros(state[name].shape) if t[name].grad is None else t[name].grad.numpy()
    return outputs, batch, t


# --- Unsupervised Adaptive Normalization ------------------------------------------------------------


def drawn_uan(shape: tuple[int, ...], seed: int, **options: Any) -> UAN:
    """A layer whose parameters and running moments are all off their starts."""
    rng = np.random.default_rng(seed)
    layer = UAN(shape[1], **options, dtype="float64", rng=rng)
    shake(layer, seed)
    for parameter in (layer.prior_logits, layer.mean, layer.raw_variance):  # with EM shake leaves them: buffers
        parameter.value = parameter.value + 0.5 * rng.standard_normal(parameter.shape)
    if layer.statistics == "batch":
        layer.running_mean = rng.standard_normal(layer.running_mean.shape)
        layer.running_var = rng.uniform(0.2, 3.0, layer.running_var.shape)
    return layer


def compare_uan(layer: UAN, x: np.ndarray, dy: np.ndarray, floor: float = 0.0) -> formulas.Batch:
    """Compare one pass both ways and all state that it moved; returns what the batch said."""
    state = state_of(layer)
    names = ("posterior", "statistics", "inference", "training", "rescale", "eps")
    options = {name: getattr(layer, name) for name in names}
    expected, batch, t = by_autograd(lambda tx, t: formulas.uan(tx, t, options), state, set(layer.parameters()), x, dy)
    assert_agree(both_ways(layer, x, dy), expected, TOLERANCE, floor=floor)

    after = state_of(layer)
    for name, moments in (("running_mean", batch.mean), ("running_var", batch.variance)):
        if layer.statistics == "batch":
            momentum = layer.momentum if layer.training else 0.0
            wanted = formulas.moved(t[name], moments, momentum, batch.alive)
            np.testing.assert_allclose(after[name], wanted, rtol=1e-10, atol=1e-12, err_msg=name)
    if layer.update == "em" and layer.training:
        compare_em(layer, batch, t)
    return batch


def compare_em(layer: UAN, batch: formulas.Batch, t: dict[str, Any]) -> None:
    """Compare the mixture that one training forward left behind."""
    rate = layer.momentum
    share = batch.share / batch.share.sum(0)
    if layer.prior == "shared":
        share = sum(share[:, c : c + 1] for c in range(share.shape[1])) / share.shape[1]
    prior = (1 - rate) * t["prior_logits"].softmax(0) + rate * share
    prior = prior.clamp(min=1e-6)
    ours = np.exp(layer.prior_logits.value)
    np.testing.assert_allclose(ours / ours.sum(0), (prior / prior.sum(0)).detach().numpy(), rtol=1e-10)
    mean = formulas.moved(t["mean"], batch.mean, rate, batch.alive)
    np.testing.assert_allclose(layer.mean.value, mean, rtol=1e-10, atol=1e-12)
    variance = formulas.moved((1 + t["raw_variance"].exp()).log(), batch.variance, rate, batch.alive)
    floored = np.maximum(variance, layer.eps)
    np.testing.assert_allclose(np.log1p(np.exp(layer.raw_variance.value)), floored, rtol=1e-10)


@given(
    channel_shapes(max_channels=3),
    SEEDS,
    COMPONENTS,
    st.sampled_from(["channel", "joint"]),
    st.sampled_from(["channel", "shared"]),
    st.sampled_from(["batch", "learned"]),
    st.sampled_from(["running", "mixture"]),
    st.sampled_from(["backprop", "backprop", "em"]),
    st.booleans(),
    st.booleans(),
    EPS,
)
def test_uan(
    shape, seed, components, posterior, prior, statistics, inference, update, training, affine, eps
):
    options = {"posterior": posterior, "statistics": statistics, "update": update, "affine": affine, "eps": eps}
    options |= {"prior": prior, "inference": inference}
    layer = drawn_uan(shape, seed, num_components=components, rescale=seed % 2 == 0, momentum=0.3, **options)
    layer.train(training)
    compare_uan(layer, draw_array(shape, seed + 1), draw_array(shape, seed + 2), DRAWN)


@pytest.mark.parametrize("update", ["backprop", "em"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
@pytest.mark.parametrize(("posterior", "prior"), [("channel", "channel"), ("channel", "shared"), ("joint", "channel")])
def test_uan_with_a_dead_component(posterior, prior, statistics, training, update):
    layer = drawn_uan((6, 3, 4), 1, posterior=posterior, prior=prior, statistics=statistics, update=update)
    layer.mean.value[1] = FAR
    batch = compare_uan(layer.train(training), draw_array((6, 3, 4), 2), draw_array((6, 3, 4), 3))
    assert (batch.alive == batch.alive.new_tensor([[True], [False], [True]])).all()
    if update == "backprop":
        assert (layer.mean.grad[1] == 0).all()
        assert (layer.raw_variance.grad[1] == 0).all()
        assert (layer.prior_logits.grad[1] != 0).all()  # its share through the softmax over k


@pytest.mark.parametrize("update", ["backprop", "em"])
@pytest.mark.parametrize("prior", ["channel", "shared"])
def test_uan_dead_in_one_channel_only(prior, update):
    layer = drawn_uan((8, 3), 4, prior=prior, update=update)
    layer.mean.value[0, 2] = -FAR
    batch = compare_uan(layer, draw_array((8, 3), 5), draw_array((8, 3), 6))
    assert (~batch.alive).nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize(("posterior", "prior"), [("channel", "channel"), ("channel", "shared"), ("joint", "channel")])
def test_uan_over_many_blocks(posterior, prior):
    """Large enough that the layer cuts the batch into blocks and merges their sums."""
    shape = (96, 4, 16, 16)
    layer = drawn_uan(shape, 7, posterior=posterior, prior=prior)
    compare_uan(layer, draw_array(shape, 8), draw_array(shape, 9))


# --- mixture normalization --------------------------------------------------------------------------


def compare_mixture(layer: MixtureNorm, x: np.ndarray, dy: np.ndarray, floor: float = 0.0) -> formulas.Batch:
    """Compare one pass both ways, at the fit that the layer holds, and the moments that it moved."""
    state, training = state_of(layer), layer.training
    if training:
        assert layer.fit is not None
        fit = [np.exp(layer.fit.log_prior), layer.fit.mean, layer.fit.variance]
    else:
        fit = [layer.prior, layer.mean, layer.variance]
    names = ("fit prior", "fit mean", "fit variance")
    state |= dict(zip(names, fit, strict=True))

    def compute(tx: Any, t: dict[str, Any]) -> tuple[Any, formulas.Batch]:
        running = None if training else (t["running_mean"], t["running_var"])
        return formulas.mixture_norm(tx, tuple(t[name] for name in names), running, layer.eps)

    expected, batch, t = by_autograd(compute, state, set(layer.parameters()), x, dy)
    assert_agree(both_ways(layer, x, dy), expected, TOLERANCE, floor=floor)
    for name, moments in (("running_mean", batch.mean), ("running_var", batch.variance)):
        wanted = formulas.moved(t[name], moments, layer.momentum if training else 0.0, batch.alive)
        np.testing.assert_allclose(getattr(layer, name), wanted, rtol=1e-10, atol=1e-12, err_msg=name)
    return batch


@given(
    channel_shapes(min_samples=4, max_channels=3),
    SEEDS,
    COMPONENTS,
    st.sampled_from(["channel", "joint"]),
    st.booleans(),
    st.booleans(),
    EPS,
)
def test_mixture_norm_with_a_held_fit(shape, seed, components, posterior, training, affine, eps):
    rng = np.random.default_rng(seed)
    layer = MixtureNorm(shape[1], components, posterior=posterior, affine=affine, eps=eps, dtype="float64", rng=rng)
    shake(layer, seed)
    for batch in range(2):  # the second fit starts from the running parameters
        layer.forward(draw_array(shape, seed + batch))
        layer.clear()
    layer.frozen_fit = True
    # Another batch than the one that was fitted, but no component so narrow that a posterior is all or nothing.
    layer.variance = layer.variance + 0.1
    layer.fit = layer.fit._replace(variance=layer.fit.variance + 0.1)
    compare_mixture(layer.train(training), draw_array(shape, seed + 5), draw_array(shape, seed + 6), DRAWN)


@pytest.mark.parametrize("posterior", ["channel", "joint"])
def test_mixture_norm_with_a_dead_component(posterior):
    layer = MixtureNorm(3, posterior=posterior, dtype="float64")
    shake(layer, 0)
    layer.forward(draw_array((7, 3, 4), 1))
    layer.clear()
    layer.frozen_fit = True
    layer.fit.mean[2] = FAR
    batch = compare_mixture(layer, draw_array((7, 3, 4), 2), draw_array((7, 3, 4), 3))
    assert [bool(row.all()) for row in batch.alive] == [True, True, False]


# --- mode normalization -----------------------------------------------------------------------------


def compare_mode(layer: ModeNorm, x: np.ndarray, dy: np.ndarray, floor: float = 0.0) -> formulas.Batch:
    """Compare one pass both ways and the moments that it moved."""
    state, training = state_of(layer), layer.training
    expected, batch, t = by_autograd(
        lambda tx, t: formulas.mode_norm(tx, t, training, layer.eps), state, set(layer.parameters()), x, dy
    )
    assert_agree(both_ways(layer, x, dy), expected, TOLERANCE, floor=floor)
    for name, moments in (("running_mean", batch.mean), ("running_var", batch.variance)):
        wanted = formulas.moved(t[name], moments, layer.momentum if training else 0.0, batch.alive)
        np.testing.assert_allclose(getattr(layer, name), wanted, rtol=1e-10, atol=1e-12, err_msg=name)
    return batch


@given(channel_shapes(max_channels=3), SEEDS, COMPONENTS, st.booleans(), st.booleans(), EPS)
def test_mode_norm(shape, seed, modes, training, affine, eps):
    rng = np.random.default_rng(seed)
    layer = ModeNorm(shape[1], modes, momentum=0.3, affine=affine, eps=eps, dtype="float64", rng=rng)
    shake(layer, seed, scale=1.0)
    layer.running_mean = rng.standard_normal(layer.running_mean.shape)
    layer.running_var = rng.uniform(0.2, 3.0, layer.running_var.shape)
    compare_mode(layer.train(training), draw_array(shape, seed + 1), draw_array(shape, seed + 2), DRAWN)


def test_mode_norm_with_a_dead_mode():
    layer = ModeNorm(3, num_modes=3, dtype="float64")
    shake(layer, 0)
    layer.gate_bias.value = np.array([0.1, -FAR, 0.3])
    batch = compare_mode(layer, draw_array((6, 3, 4), 1), draw_array((6, 3, 4), 2))
    assert batch.alive[:, 0].tolist() == [True, False, True]
