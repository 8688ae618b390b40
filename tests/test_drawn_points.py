"""Gradient checks away from a layer's start: where they look, what that catches, and how it is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.heavy import every

from uanref import gradcheck
from uanref.layers.base import Layer, Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.layers.residual import Residual
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_constraints import log_softmax
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- what the start hides ---------------------------------------------------------------------------


class ForgetsGamma(BatchNorm):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        gamma = self.gamma.value
        return super().backward(dy) / gamma


class ForgetsTheRunningVariance(BatchNorm):
    """Right in eval mode while the running variance is 1."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        return dx if self.training else dx * np.sqrt((self.running_var + self.eps) / (1.0 + self.eps))


class WrongInLambda(UAN):
    """The priors' gradient holds for the uniform prior only: 1/K stands where lambda belongs."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        prior = np.exp(log_softmax(self.prior_logits.value))
        dx = super().backward(dy)
        self.prior_logits.grad = self.prior_logits.grad / prior / self.num_components
        return dx


class ForgetsTheBias(Linear):
    """Its dx is right while the bias is 0."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) + self.bias.value.sum()


@pytest.mark.parametrize("seed", every(5, range(5)))
@pytest.mark.parametrize(
    ("layer", "shape", "tensor"),
    [
        (ForgetsGamma(3, dtype="float64"), (5, 3), "x"),
        (ForgetsTheRunningVariance(3, dtype="float64").eval(), (5, 3), "x"),
        (WrongInLambda(3, 2, dtype="float64"), (5, 3), "prior_logits"),
        (WrongInLambda(3, 2, posterior="joint", dtype="float64"), (5, 3), "prior_logits"),
        (ForgetsTheBias(3, 2, dtype="float64"), (5, 3), "x"),
    ],
    ids=["gamma", "running variance", "lambda", "joint lambda", "bias"],
)
def test_what_the_start_hides_fails(layer: Layer, shape: tuple[int, ...], tensor: str, seed: int) -> None:
    x = draw(*shape, seed=seed)
    assert gradcheck.check(layer, x, seed=seed, at="given").ok  # the trap
    report = gradcheck.check(layer, x, seed=seed)
    assert {row.tensor for row in report.failures} == {tensor}
    assert {row.point for row in report.failures} == {0, 1}
    assert "point 1" in str(report)
    inside = Sequential(Dropout(0.2), layer)
    assert gradcheck.check(inside, x, seed=seed, at="given").ok
    assert not gradcheck.check(Residual(inside) if shape[1] == 3 and tensor != "x" else inside, x, seed=seed).ok


def test_at_given_stays_at_the_point() -> None:
    report = gradcheck.check(ForgetsGamma(3, dtype="float64"), draw(5, 3), at="given")
    assert {row.point for row in report.rows} == {None}
    with pytest.raises(ValueError, match="at must be one of 'drawn', 'given', got 'start'"):
        gradcheck.check(BatchNorm(3, dtype="float64"), draw(5, 3), at="start")  # type: ignore[arg-type]


def test_a_layer_with_nothing_to_draw_has_one_point() -> None:
    report = gradcheck.check(Dropout(0.3), draw(5, 3))
    assert {row.point for row in report.rows} == {None}
    assert len([row for row in report.rows if row.method == "direction"]) == 3


# --- how points are drawn ---------------------------------------------------------------------------


class Everything(Layer):
    buffer_names = ("running_mean", "running_var", "moving_variance", "level", "counts", "seen", "shares", "nothing")

    def __init__(self) -> None:
        super().__init__("float64")
        self.small, self.large = self._new(np.full(400, 1e-3)), self._new(1e3 * draw(400))
        self.running_mean, self.running_var = np.zeros(400), np.full(400, 2.0)
        self.moving_variance = np.zeros(400)
        self.level = np.full(400, 5.0)
        self.counts, self.seen = np.arange(4), True
        self.shares = np.full((4, 100), 0.25)
        self.nothing = np.zeros(0)


def test_every_kind_of_tensor_moves_by_its_own_rule() -> None:
    layer = Everything()
    before = layer.state_dict()
    one, other = gradcheck.drawn(layer, 0, 0), gradcheck.drawn(layer, 0, 1)
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())
    assert 0.45 < (one.small.value - 1e-3).std() < 0.55
    assert 450 < (one.large.value - layer.large.value).std() < 550
    assert 0.45 < one.running_mean.std() < 0.55
    for name, start in (("running_var", 2.0), ("level", 5.0)):
        assert (getattr(one, name) > 0).all()
        assert 0.45 < np.log(getattr(one, name) / start).std() < 0.55
    assert (one.moving_variance == 0).all()  # a factor keeps a dead channel dead
    assert np.allclose(one.shares.sum(axis=0), 1.0, rtol=1e-14)
    assert (one.shares > 0).all()
    assert one.shares.std() > 0.05
    assert np.array_equal(one.counts, np.arange(4))
    assert one.seen is True
    assert not np.array_equal(one.small.value, other.small.value)
    again = gradcheck.drawn(layer, 0, 0)
    assert all(np.array_equal(one.state_dict()[name], value) for name, value in again.state_dict().items())


class Root(Layer):
    """y = x sqrt(a): a must stay positive."""

    def __init__(self) -> None:
        super().__init__("float64")
        self.a = self._new([0.3, 0.3, 0.3])

    def forward(self, x: np.ndarray) -> np.ndarray:
        root = np.sqrt(self.a.value)
        y = x * root
        self._keep(y, x, root)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, root = self._take(dy)
        self.a.receive((dy * x).sum(axis=0) / (2 * root))
        return dy * root


class DrawsItself(Root):
    def draw(self, rng: np.random.Generator) -> None:
        self.a.value = rng.uniform(0.5, 2.0, 3)


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_a_layer_may_draw_for_itself() -> None:
    outside = [seed for seed in range(10) if not gradcheck.check(Root(), draw(4, 3), seed=seed).ok]
    assert outside  # noise leaves its domain
    for seed in range(10):
        assert gradcheck.check(DrawsItself(), draw(4, 3), seed=seed).ok
        nested = Residual(Sequential(Linear(3, 3, dtype="float64"), DrawsItself()))
        gradcheck.assert_ok(nested, draw(4, 3), seed=seed)
        assert (gradcheck.drawn(nested, seed, 0).body[1].a.value >= 0.5).all()  # type: ignore[index]
    gradcheck.assert_ok(Root(), draw(4, 3), at="given")


def test_a_point_outside_the_domain_says_what_to_do() -> None:
    with np.errstate(invalid="ignore"):
        report = next(r for r in (gradcheck.check(Root(), draw(4, 3), seed=s) for s in range(10)) if not r.ok)
    assert any("define draw(rng)" in row.note for row in report.failures), report


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: UAN(3, 2, start="data", update="em", dtype="float64"),
        lambda: UAN(3, 2, start="data", statistics="learned", posterior="joint", dtype="float64"),
        lambda: ModeNorm(3, 2, dtype="float64"),
        lambda: MixtureNorm(3, 2, dtype="float64"),
        lambda: MixtureNorm(3, 2, posterior="channel", dtype="float64"),
    ],
)
def test_state_of_every_kind_is_drawn(make: Any, training: bool) -> None:
    layer = make().train(training)
    layer.frozen_fit = True  # for the mixture normalization, whose fit is outside the gradient
    report = gradcheck.check(layer, draw(6, 3), complex_step=True)
    assert report.ok, report
    if isinstance(layer, MixtureNorm):
        prior = gradcheck.drawn(layer, 0, 0).prior
        assert np.allclose(prior.sum(axis=0), 1.0)
        assert prior.std() > 0


def test_losses_keep_their_target() -> None:
    soft = np.random.default_rng(5).dirichlet(np.ones(4), size=5)
    layer = gradcheck.LossLayer(SoftmaxCrossEntropy(), soft)
    assert np.array_equal(gradcheck.drawn(layer, 0, 0).target, soft)
    assert gradcheck.check_loss(SoftmaxCrossEntropy(), draw(5, 4), soft).ok
    assert gradcheck.check_loss(MSE(), draw(5, 4), draw(5, 4, seed=1)).ok


def test_a_failure_at_a_drawn_point_can_be_repeated_by_hand() -> None:
    x = draw(5, 3)
    row = next(r for r in gradcheck.check(ForgetsGamma(3, dtype="float64"), x, seed=4).failures if r.seed)
    layer = gradcheck.drawn(ForgetsGamma(3, dtype="float64"), 4, row.point)
    dy, along = gradcheck.upstream((5, 3), 4), gradcheck.direction((5, 3), row.seed)
    layer.forward(x)
    assert np.isclose((layer.backward(dy) * along).sum(), row.analytic, rtol=1e-12)
    slope = gradcheck.central_difference(lambda v: (dy * layer.forward(v)).sum(), x, along)
    assert np.isclose(slope, row.numerical, rtol=1e-9)
