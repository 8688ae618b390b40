"""``check_layer``: every promise broken on purpose is caught by name, and right layers keep them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from uanref import MixtureNorm, backend, gradcheck
from uanref.layers.activation import Tanh
from uanref.layers.base import Layer, Parameter, Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.layers.residual import Residual
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.verify import catalogue


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Scale(Layer):
    """y = gamma x, right: the faults below each change one thing."""

    def __init__(self, features: int = 3) -> None:
        super().__init__("float32")
        self.gamma = self._new([1.0] * features)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._check_input(x)
        gamma = self.gamma.value
        y = gamma * x
        self._keep(y, x, gamma)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, gamma = self._take(dy)
        self.gamma.receive((dy * x).sum(axis=0))
        return gamma * dy


# --- planted faults -------------------------------------------------------------------------------


class WrongForwardInFloat32(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x) * (1.01 if x.dtype == np.float32 else 1.0)


class WrongDxInFloat32(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * (1.01 if dy.dtype == np.float32 else 1.0)


class WrongGradientInFloat32(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        if dy.dtype == np.float32:
            self.gamma.grad = self.gamma.grad * np.float32(1.01)
        return dx


class HalfPrecisionInFloat32(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x.astype("float16").astype("float32") if x.dtype == np.float32 else x)


class Float64Out(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * np.ones(1)


class FlattensMemory(Scale):
    """Reads ``dy`` in the order of memory."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy.ravel(order="K").reshape(dy.shape))


class TakesStridesForContiguous(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy if dy.flags.c_contiguous else 1.01 * dy)


class WrongForFortranInputs(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x.ravel(order="K").reshape(x.shape))


class WrongForBroadcast(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        return dx * 1.01 if 0 in dy.strides else dx


class WrongAtTheSecondCall(Scale):
    backwards = 0

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.backwards += 1
        return super().backward(dy) * (1.01 if self.backwards == 2 else 1.0)


class StaleCache(Scale):
    """Keeps something of the first x: right for the same x again."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x, _), *_ = self._pending[-1]
        if not hasattr(self, "first"):
            self.first = x.copy()
        dx = super().backward(dy)
        self.gamma.grad = (dy * self.first).sum(axis=0)
        return dx


class StaleByIdentity(Scale):
    """Takes the same array object for the same numbers."""

    last: Any = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.last is not x:
            self.last, self.square = x, x * x
        y = super().forward(x) + self.square
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x, _), *_ = self._pending[-1]
        return super().backward(dy) + 2 * x * dy


class NoStack(Scale):
    """Holds one forward pass only."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return super().forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.gamma.grad = (dy * self.x).sum(axis=0)
        return dx


class ReusedOutput(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        y = super().forward(x)
        if not hasattr(self, "y") or self.y.dtype != y.dtype:
            self.y = np.empty_like(y)
        self.y[...] = y
        return self.y


class ReusedDx(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        if not hasattr(self, "dx") or self.dx.dtype != dx.dtype:
            self.dx = np.empty_like(dx)
        self.dx[...] = dx
        return self.dx


class ReusedGradient(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        old = self.gamma.grad
        dx = super().backward(dy)
        if old is not None and not backend.is_accumulating():
            old[...] = self.gamma.grad
            self.gamma.grad = old
        return dx


class GammaOfTheConstruction(Scale):
    """The way back multiplies by the gamma that the layer was born with."""

    def __init__(self) -> None:
        super().__init__()
        self.born = self.gamma.value.copy()

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) / self.gamma.value * self.born.astype(dy.dtype)


class GammaOfTheFirstCall(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        if not hasattr(self, "first"):
            self.first = self.gamma.value
        y = self.first.astype(x.dtype) * x
        self._keep(y, x, self.first.astype(x.dtype))
        return y


class RefreshedByLoading(Scale):
    """Its copy of gamma follows ``load_state_dict`` and nothing else."""

    copy: Any = None

    def load_state_dict(self, state: Any, strict: bool = True) -> None:
        super().load_state_dict(state, strict)
        self.copy = self.gamma.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        gamma = self._pending[-1][0][1]
        dx = super().backward(dy)
        return dx if self.copy is None else dx / gamma * self.copy.astype(dy.dtype)


class NeverAccumulates(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x, _), *_ = self._pending[-1]
        dx = super().backward(dy)
        self.gamma.grad = (dy * x).sum(axis=0)
        return dx


class AlwaysAccumulates(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        with backend.accumulating():
            return super().backward(dy)


class WritesIntoX(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        y = super().forward(x.copy())
        x *= 2.0
        return y


class WritesIntoXOnTheWayBack(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x, _), *_ = self._pending[-1]
        dx = super().backward(dy)
        x *= 0.0
        return dx


class WritesIntoDy(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        dy *= 2.0
        return dx


class WritesAndRestores(Scale):
    """Leaves dy as it was, but not in between: a read-only dy breaks it."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy += 0.0
        return super().backward(dy)


class WritesIntoGamma(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.gamma.value *= 0.5
        return dx


class MovesGamma(Scale):
    """Assigns a new array: nothing is written into, and still the parameter is another."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        self.gamma.value = self.gamma.value * 0.999
        return dx


class GammaOfTheWayBack(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, _ = self._take(dy)
        self.gamma.receive((dy * x).sum(axis=0))
        return self.gamma.value * dy


class NeedsNoForward(Scale):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) if self._pending else dy


class OtherInInference(Scale):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x) * (1.01 if backend.is_inference() else 1.0)


class KeepsInInference(Scale):
    def _keep(self, y: np.ndarray, *cache: Any) -> None:
        self._pending.append((cache, y.shape, y.dtype, "numpy"))


FAULTS: dict[type[Layer], str] = {
    WrongForwardInFloat32: "single precision: y differs",
    WrongDxInFloat32: "single precision: dx differs",
    WrongGradientInFloat32: "single precision: the gradient of gamma differs",
    HalfPrecisionInFloat32: "single precision",
    Float64Out: "single precision: dx has dtype float64",
    FlattensMemory: "any order of memory: with a Fortran-ordered dy",
    TakesStridesForContiguous: "any order of memory: with a Fortran-ordered dy",
    WrongForFortranInputs: "any order of memory: with a Fortran-ordered x",
    WrongForBroadcast: "broadcast upstream gradients",
    WrongAtTheSecondCall: "later calls: at call 2 dx",
    StaleCache: "later calls: at call 2 the gradient of gamma",
    StaleByIdentity: "later calls: at call 2 y",
    NoStack: "pending calls: of two pending forward passes, for the earlier one",
    ReusedOutput: "results are kept: a later call changes y",
    ReusedDx: "results are kept: a later call changes dx",
    ReusedGradient: "results are kept: a later call changes the gradient of gamma",
    GammaOfTheFirstCall: "assigned parameters",
    RefreshedByLoading: "assigned parameters: after assigning a parameter's value",
    GammaOfTheWayBack: "pending parameters: after assigning a parameter between forward and backward dx",
    NeverAccumulates: "accumulation: inside backend.accumulating()",
    AlwaysAccumulates: "accumulation: after two calls outside",
    WritesIntoX: "arguments are not written to: forward writes into x",
    WritesIntoXOnTheWayBack: "arguments are not written to: backward writes into x",
    WritesIntoDy: "arguments are not written to: backward writes into dy",
    WritesAndRestores: "arguments are not written to: the layer raised ValueError",
    WritesIntoGamma: "arguments are not written to: a pass writes into the value of gamma",
    MovesGamma: "arguments are not written to: backward moves gamma",
    NeedsNoForward: "one backward per forward: backward before any forward",
    OtherInInference: "inference: y is off",
    KeepsInInference: "inference: for the pass that was pending before",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_promise_is_named(fault: type[Layer], seed: int) -> None:
    assert gradcheck.check_layer(Scale, draw(4, 3, seed=seed), seed=seed).ok
    report = gradcheck.check_layer(fault, draw(4, 3, seed=seed), seed=seed)
    assert not report.ok
    assert any(FAULTS[fault] in sentence for sentence in report.broken), report
    assert FAULTS[fault] in str(report)
    assert "FAILED" in str(report)


@pytest.mark.parametrize("fault", [GammaOfTheConstruction, GammaOfTheFirstCall])
def test_an_old_gamma_fails_the_gradients(fault: type[Layer]) -> None:
    report = gradcheck.check_layer(fault, draw(4, 3))
    assert [gradients.ok for gradients in report.gradients] == [False, False]


class Unfinished(Scale):
    """No backward pass in eval mode."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.training:
            raise NotImplementedError
        return super().backward(dy)


def test_eval_mode_need_not_have_a_backward_pass() -> None:
    report = gradcheck.check_layer(Unfinished, draw(4, 3))
    assert report.ok
    assert len(report.gradients) == 1


def test_only_eval_mode_is_wrong() -> None:
    class Wrong(Scale):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            return super().backward(dy) * (1.0 if self.training else 1.01)

    report = gradcheck.check_layer(Wrong, draw(4, 3))
    assert [gradients.ok for gradients in report.gradients] == [True, False]
    assert not report.ok


def test_views_of_dy_may_be_returned() -> None:
    class Turned(Layer):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = x.T
            self._keep(y)
            return y

        def backward(self, dy: np.ndarray) -> np.ndarray:
            self._take(dy)
            return dy.T

    report = gradcheck.check_layer(Turned, draw(4, 3))
    assert report.ok, report


def test_a_layer_that_breaks_off_is_a_finding() -> None:
    class Breaks(Scale):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            if 0 in dy.strides:
                raise IndexError("strides")
            return super().backward(dy)

    report = gradcheck.check_layer(Breaks, draw(4, 3))
    assert any("the layer raised IndexError: strides" in sentence for sentence in report.broken), report
    assert "later calls (train mode)" in report.kept


def test_misuse_is_refused() -> None:
    layer = Scale()
    with pytest.raises(ValueError, match="same layer twice"):
        gradcheck.check_layer(lambda: layer, draw(4, 3))
    with pytest.raises(TypeError, match="returns a layer"):
        gradcheck.check_layer(lambda: 3, draw(4, 3))  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="float64 host array"):
        gradcheck.check_layer(Scale, draw(4, 3).astype("float32"))


# --- right layers ---------------------------------------------------------------------------------


def deep() -> Layer:
    return Sequential(
        Linear(3, 6),
        BatchNorm(6),
        Tanh(),
        Residual(Sequential(Linear(6, 6), UAN(6, 2, update="em", start="data"), Dropout(0.3))),
        Linear(6, 2),
    )


RIGHT: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
    "deep": (deep, (7, 3)),
    "two samples": (lambda: BatchNorm(3, affine=False), (2, 3)),
    "empty sequence": (lambda: Sequential(Tanh()), (2, 3)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_keep_every_promise(name: str) -> None:
    make, shape = RIGHT[name]
    report = gradcheck.check_layer(make, draw(*shape))
    assert report.ok, report
    assert len(report.gradients) == 2
    assert len(report.kept) == 24


CASES = [case for case in catalogue.cases() if "Cross" not in case.name and "MSE" not in case.name]
FAST = [case for case in CASES if "UAN" not in case.name or "paper train" in case.name][::4]


def keeps(case: catalogue.Case) -> None:
    report = gradcheck.check_layer(case.make, draw(*case.shape), directions=1, jacobian=False)
    assert report.ok, report


@pytest.mark.parametrize("case", FAST, ids=lambda case: case.name)
def test_the_packages_layers_keep_every_promise(case: catalogue.Case) -> None:
    keeps(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_of_the_packages_layers_keep_every_promise(case: catalogue.Case) -> None:
    keeps(case)


def test_x_and_the_layers_parameters_are_left_alone() -> None:
    x, made = draw(4, 3), []

    def make() -> Scale:
        made.append(Scale())
        return made[-1]

    assert gradcheck.check_layer(make, x).ok
    assert np.array_equal(x, draw(4, 3))
    assert all(isinstance(layer.gamma, Parameter) for layer in made)


class OffWhereDxIsZero(MixtureNorm):
    """Each of two samples has a component of its own, so that dx is 0; in float32 here it is not."""

    def __init__(self) -> None:
        super().__init__(3, 2, posterior="joint", rng=np.random.default_rng(0))
        self.frozen_fit = True

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = super().backward(dy)
        return dx + np.float32(2e-3) if self.training and dy.dtype == np.float32 else dx


def test_a_difference_of_equal_terms_is_not_let_off_what_rounding_cannot_be() -> None:
    report = gradcheck.check_layer(OffWhereDxIsZero, 2.0 * draw(2, 3), directions=1, jacobian=False)
    assert [sentence for sentence in report.broken if "single precision: dx differs" in sentence], report
