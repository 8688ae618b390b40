"""The gradient check itself: right layers pass, planted mistakes fail, and it leaves no trace."""

from __future__ import annotations

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uanref import backend, gradcheck
from uanref.gradcheck.probe import Probe
from uanref.layers.activation import LeakyReLU, ReLU, Tanh
from uanref.layers.base import Layer, Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def linear() -> Linear:
    return Linear(4, 3, dtype="float64", rng=np.random.default_rng(1))


# --- right layers pass ----------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_a_right_layer_passes(samples: int, inputs: int, outputs: int, seed: int) -> None:
    layer = Sequential(Linear(inputs, outputs, dtype="float64"), Tanh(), Linear(outputs, 2, dtype="float64"))
    report = gradcheck.check(layer, draw(samples, inputs, seed=seed), seed=seed, complex_step=True)
    assert report.ok, report
    assert report.tensors == ["x", "0.weight", "0.bias", "2.weight", "2.bias"]
    assert {row.method for row in report.rows} == {"direction", "gradient", "jacobian", "complex step"}


def test_two_samples_of_a_normalization_pass() -> None:
    # Here dx is nearly 0: the rule's floor decides, a plain relative 1e-7 would refuse right code.
    for seed in range(20):
        gradcheck.assert_ok(BatchNorm(3, dtype="float64"), draw(2, 3, seed=seed), seed=seed)


def test_an_exactly_zero_gradient_passes() -> None:
    class Constant(Layer):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = 0.0 * x + 1.0
            self._keep(y)
            return y

        def backward(self, dy: np.ndarray) -> np.ndarray:
            self._take(dy)
            return 0.0 * dy

    gradcheck.assert_ok(Constant(), draw(3, 4), complex_step=True)


def test_jacobian_is_taken_for_small_sizes_and_on_request() -> None:
    def methods(samples: int, **options: Any) -> set[str]:
        return {row.method for row in gradcheck.check(Tanh(), draw(samples, 4), **options).rows}

    assert "jacobian" in methods(8)
    assert "jacobian" not in methods(9)  # 36 * 36 > 1024
    assert "jacobian" in methods(9, jacobian=True)
    assert "jacobian" not in methods(2, jacobian=False)
    assert methods(2, directions=0) == {"gradient", "jacobian"}


@pytest.mark.parametrize("target", [np.array([0, 2, 1]), np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0.1, 0.1, 0.8]])])
def test_losses(target: np.ndarray) -> None:
    loss = SoftmaxCrossEntropy(0.1)
    report = gradcheck.check_loss(loss, draw(3, 3), target, complex_step=True)
    assert report.ok, report
    assert "SoftmaxCrossEntropy" in str(report)
    assert not loss._pending


def test_a_wrong_loss_fails() -> None:
    class Wrong(MSE):
        def backward(self) -> np.ndarray:
            return super().backward() * 2.0

    assert not gradcheck.check_loss(Wrong(), draw(3, 3), draw(3, 3, seed=1)).ok


# --- wrong layers fail ----------------------------------------------------------------------------


class Wrong(Linear):
    """A linear layer with one of several mistakes in its backward pass."""

    def __init__(self, mistake: str, bias: bool = True) -> None:
        super().__init__(3, 3, bias, dtype="float64")
        self.mistake = mistake

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x = self._pending[-1][0][0]
        dx = super().backward(dy)
        weight, bias = self.weight, self.bias
        if self.mistake == "dx scaled by 1 + 1e-5":
            dx = dx * (1 + 1e-5)
        elif self.mistake == "weight scaled by 1 + 1e-5":
            weight.grad = weight.grad * (1 + 1e-5)
        elif self.mistake == "sign of dx":
            dx = -dx
        elif self.mistake == "sign of the bias":
            bias.grad = -bias.grad
        elif self.mistake == "a sample dropped":
            weight.grad = dy[:-1].T @ x[:-1]
        elif self.mistake == "weight transposed":
            weight.grad = weight.grad.T.copy()
        elif self.mistake == "dx transposed":
            dx = dy @ weight.value.T
        elif self.mistake == "one entry of dx":
            dx[0, 0] += 1e-5
        elif self.mistake == "mean instead of sum":
            bias.grad = bias.grad / len(x)
        elif self.mistake == "dx of another shape":
            dx = dx[:1]
        elif self.mistake == "dx in float32":
            dx = dx.astype("float32")
        elif self.mistake == "no gradient":
            bias.grad = None
        elif self.mistake == "NaN":
            dx = dx * np.nan
        elif self.mistake == "square of dy":
            dx = dy * abs(dy) @ weight.value
        return dx


MISTAKES = (
    *("dx scaled by 1 + 1e-5", "weight scaled by 1 + 1e-5", "sign of dx", "sign of the bias", "a sample dropped"),
    *("weight transposed", "dx transposed", "one entry of dx", "mean instead of sum", "dx of another shape"),
    *("dx in float32", "no gradient", "NaN", "square of dy"),
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_fail(mistake: str, seed: int) -> None:
    assert gradcheck.check(Wrong("none"), draw(4, 3, seed=seed), seed=seed).ok
    report = gradcheck.check(Wrong(mistake), draw(4, 3, seed=seed), seed=seed)
    assert not report.ok
    assert report.failures
    assert not report.kinks
    with pytest.raises(AssertionError, match="FAILED"):
        gradcheck.assert_ok(Wrong(mistake), draw(4, 3, seed=seed), seed=seed)


@pytest.mark.parametrize(
    ("mistake", "note"),
    [
        ("no gradient", "backward left no gradient"),
        ("dx of another shape", "backward gave a gradient (1, 3) of float64 for a tensor (4, 3) of float64"),
        ("dx in float32", "backward gave a gradient (4, 3) of float32 for a tensor (4, 3) of float64"),
    ],
)
def test_a_gradient_of_another_form_is_named(mistake: str, note: str) -> None:
    report = gradcheck.check(Wrong(mistake), draw(4, 3), complex_step=True)
    assert {row.note for row in report.failures} == {note}
    assert {row.method for row in report.failures} == {"direction", "gradient", "jacobian", "complex step"}


@pytest.mark.parametrize("mistake", ["dx scaled by 1 + 1e-5", "weight scaled by 1 + 1e-5", "sign of dx"])
def test_directions_alone_find_them_in_large_layers(mistake: str) -> None:
    report = gradcheck.check(Wrong(mistake), draw(500, 3), jacobian=False)
    assert not report.ok
    wrong = {"x"} if "dx" in mistake else {"weight"}
    assert {row.tensor for row in report.failures} == wrong


class Steep(Layer):
    """y = exp(rate x): smooth, but curved on the scale of the first steps; ``factor`` scales its gradient."""

    def __init__(self, factor: float, rate: float = 1e3) -> None:
        super().__init__()
        self.factor, self.rate = factor, rate

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.exp(self.rate * x)
        self._keep(y, y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self._take(dy)
        return self.rate * self.factor * y * dy


def test_a_steep_function_is_no_excuse() -> None:
    x = draw(3, 4) * 1e-4
    gradcheck.assert_ok(Steep(1.0), x)
    for factor in (1 + 1e-5, 1 - 1e-4, 0.5, -1.0):
        report = gradcheck.check(Steep(factor), x)
        assert not report.ok
        assert not report.kinks, report


@pytest.mark.parametrize("factor", [1 + 1e-4, 1 - 1e-4])
def test_what_is_too_steep_for_every_step_is_no_kink(factor: float) -> None:
    report = gradcheck.check(Steep(factor, rate=1e4), draw(3, 4) * 1e-5)
    assert not report.ok
    assert not report.kinks, report


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-4])
def test_curvature_is_no_kink(factor: float) -> None:
    class Quartic(Layer):
        """y = x + 1e11 x^4: at 0 the one-sided slopes part by 1e-3 at the last step, evenly around the true one."""

        def forward(self, x: np.ndarray) -> np.ndarray:
            y = x + 1e11 * x**4
            self._keep(y, x)
            return y

        def backward(self, dy: np.ndarray) -> np.ndarray:
            (x,) = self._take(dy)
            return factor * (1 + 4e11 * x**3) * dy

    report = gradcheck.check(Quartic(), np.zeros((2, 3)))
    assert report.ok == (factor == 1.0), report
    assert not report.kinks, report


def test_a_step_out_of_the_domain_is_left_for_a_smaller_one() -> None:
    class Root(Layer):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = np.sqrt(x)
            self._keep(y, y)
            return y

        def backward(self, dy: np.ndarray) -> np.ndarray:
            (y,) = self._take(dy)
            return dy / (2 * y)

    with np.errstate(invalid="ignore"):
        gradcheck.assert_ok(Root(), np.full((2, 3), 1.5e-3))  # 1.5e-3 - 2 * 1e-3 has no root


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_fail(value: float) -> None:
    class Broken(Tanh):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = super().forward(x)
            y[0, 0] = value
            return y

    with np.errstate(invalid="ignore"):
        report = gradcheck.check(Broken(), draw(3, 4))
    assert not report.ok
    assert not report.kinks


@pytest.mark.parametrize("complex_step", [False, True])
def test_an_infinite_gradient_fails(complex_step: bool) -> None:
    # The bound grows with the analytic value: infinite is within an infinite bound.
    class Wrong(Tanh):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            dx = super().backward(dy)
            dx[0, 0] = np.inf
            return dx

    report = gradcheck.check(Wrong(), draw(3, 4), complex_step=complex_step)
    assert {row.method for row in report.failures} == {row.method for row in report.rows}
    assert report.worst is not None
    assert report.worst.relative == np.inf


def test_only_the_wrong_tensor_is_blamed() -> None:
    report = gradcheck.check(Wrong("sign of the bias"), draw(4, 3))
    assert {row.tensor for row in report.failures} == {"bias"}


class ForgetsTheMean(BatchNorm):
    """Batch normalization whose backward pass forgets that x reaches y through the variance."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        scale = self._pending[-1][0][3]
        super().backward(dy)
        return (dy - dy.mean(axis=0)) * scale


def test_an_upstream_gradient_of_ones_sees_nothing_in_a_normalization() -> None:
    layer, x, ones = ForgetsTheMean(3, dtype="float64"), draw(6, 3), np.ones((6, 3))
    layer.forward(x)
    assert abs(layer.backward(ones)).max() < 1e-12
    total = gradcheck.central_difference(lambda v: layer.forward(v).sum(), x, gradcheck.direction(x.shape, 0))
    assert abs(total) < 1e-9  # the wrong gradient agrees with the right one: both are 0
    layer.clear()
    report = gradcheck.check(layer, x)
    assert {row.tensor for row in report.failures} == {"x"}


# --- kinks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(0.1)], ids=["ReLU", "LeakyReLU"])
@pytest.mark.parametrize("shape", [(4, 5), (40, 50)])
def test_kinks_are_reported_and_nothing_else(layer: Layer, shape: tuple[int, int]) -> None:
    x = draw(*shape)
    smooth = gradcheck.check(layer, x)
    assert smooth.ok
    assert not smooth.kinks
    x[0, 2] = x[3, 1] = 0.0
    report = gradcheck.check(layer, x)
    assert report.ok, report
    assert sorted(row.index for row in report.kinks if row.method == "kink") == [(0, 2), (3, 1)]
    assert 1 <= report.retakes <= 3
    assert "kink" in str(report)
    assert "2 of 20 entries at kinks" in str(report) or shape != (4, 5)


def test_a_mistake_beside_a_kink_is_found() -> None:
    class Wrong(ReLU):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            dx = super().backward(dy)
            dx[1, 1] += 0.1
            return dx

    x = draw(40, 50)
    x[0, 2] = x[3, 1] = 0.0
    report = gradcheck.check(Wrong(), x)
    assert not report.ok
    assert report.kinks


@pytest.mark.parametrize("slope", [3.0, -2.0])
def test_a_slope_that_belongs_to_no_side_is_a_failure(slope: float) -> None:
    class Wrong(ReLU):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            x_is_zero = self._pending[-1][0][0] == 0
            return np.where(x_is_zero & (x_is_zero.sum(axis=1, keepdims=True) == 1), slope * dy, super().backward(dy))

    x = abs(draw(4, 5)) + 0.1
    x[2, 2] = 0.0
    report = gradcheck.check(Wrong(), x)
    assert not report.ok
    assert any(row.index == (2, 2) for row in report.failures)
    assert "outside the slopes of a kink" in str(report)


class Tangled(Layer):
    """y = (relu(x_1), min(|x_0|, |x_4|) (2 + sign x_0), x_5, x_6, x_7): the second kink needs both x_0 and x_4."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: np.ndarray) -> np.ndarray:
        both = np.minimum(abs(x[:1]), abs(x[4:5])) * (2 + np.sign(x[:1]))
        y = np.concatenate([np.maximum(x[1:2], 0.0), both, x[5:]])
        self._keep(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self._take(dy)
        return np.concatenate([np.zeros(5), dy[2:] * self.factor])


def test_kinks_that_show_only_together_are_one_group() -> None:
    x = draw(8)
    x[[0, 1, 4]] = 0.0
    report = gradcheck.check(Tangled(1.0), x, directions=2)
    assert report.ok, report
    assert report.retakes == 2
    assert [(row.index, row.entries) for row in report.kinks if row.method == "kink"] == [((1,), 1), (None, 4)]
    assert "several entries meet at kinks" in str(report)
    assert [row.status for row in report.rows if row.method == "direction"] == ["ok", "ok"]
    wrong = gradcheck.check(Tangled(1 + 1e-5), x, directions=2, jacobian=False)
    assert [row.status for row in wrong.rows if row.method == "direction"] == ["FAIL", "FAIL"]


def test_many_kinks_are_bounded_work() -> None:
    evaluations = 0

    class Counted(ReLU):
        def forward(self, x: np.ndarray) -> np.ndarray:
            nonlocal evaluations
            evaluations += 1
            return super().forward(x)

    report = gradcheck.check(Counted(), np.zeros((40, 50)), directions=2)
    assert report.ok
    assert {row.method for row in report.rows} == {"kink"}  # nothing is left for a direction
    assert sum(row.entries for row in report.rows) == 2000
    assert evaluations < (gradcheck.RETAKES + 1) * 2 * gradcheck.KINK_TRIALS * 4 * len(gradcheck.STEPS)


def test_a_kink_nearby_is_not_a_kink() -> None:
    x = draw(4, 5)
    x[1, 1] = 2e-4  # within reach of the first step, out of reach of the last
    report = gradcheck.check(ReLU(), x)
    assert report.ok
    assert not report.kinks
    assert min(row.step for row in report.rows) < gradcheck.STEPS[0]


@given(st.floats(-3e-3, 3e-3))
@example(6.55e-6)  # the slopes on both sides agree, by chance, and the central difference does not
@example(-1.95e-5)  # only the farthest point of the smallest step is over the kink
def test_at_every_distance_from_a_kink_it_passes(distance: float) -> None:
    x = draw(3, 2)
    x[1, 1] = distance
    report = gradcheck.check(ReLU(), x)
    assert report.ok, report


# --- state ----------------------------------------------------------------------------------------


def snapshot(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = dict(layer.state_dict())
    found |= {f"{name} generator": str(g.bit_generator.state) for name, g in layer.generators().items()}
    found |= {f"{name} mode": module.training for name, module in layer.modules()}
    found |= {f"{name} pending": len(module._pending) for name, module in layer.modules()}
    found |= {f"{name} object": id(p.value) for name, p in layer.parameters().items()}
    return found | {f"{name} grad": id(p.grad) for name, p in layer.parameters().items()}


def stateful(update: str, start: str) -> Layer:
    return Sequential(
        Linear(3, 4, dtype="float64"),
        UAN(4, 2, update=update, start=start, dtype="float64"),
        Dropout(0.3, rng=np.random.default_rng(9)),
        BatchNorm(4, dtype="float64"),
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("start", ["paper", "data"])
@pytest.mark.parametrize("update", ["backprop", "em"])
def test_the_layer_is_left_as_it_was_found(update: str, start: str, mode: str) -> None:
    layer, x = stateful(update, start), draw(6, 3)
    layer.backward(layer.forward(x))  # gradients and moments exist
    layer.forward(x)  # and one pass is pending
    layer.train(mode == "train")
    before, kept = snapshot(layer), x.copy()
    report = gradcheck.check(layer, x, complex_step=True)
    assert report.ok, report
    after = snapshot(layer)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert np.array_equal(value, after[name]), name
    assert np.array_equal(x, kept)


def test_it_is_left_so_after_an_error_too() -> None:
    class Breaks(Tanh):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            raise ZeroDivisionError

    layer = Sequential(stateful("em", "data"), Breaks())
    before = snapshot(layer)
    with pytest.raises(ZeroDivisionError):
        gradcheck.check(layer, draw(6, 3))
    after = snapshot(layer)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_start_on_data_is_settled_first() -> None:
    gradcheck.assert_ok(stateful("backprop", "data"), draw(6, 3))


def test_pending_passes_do_not_pile_up() -> None:
    pending: list[int] = []

    class Counted(Tanh):
        def forward(self, x: np.ndarray) -> np.ndarray:
            pending.append(len(self._pending))
            return super().forward(x)

    class CountedLoss(MSE):
        def forward(self, y: np.ndarray, target: np.ndarray) -> np.ndarray:
            pending.append(len(self._pending))
            return super().forward(y, target)

    gradcheck.assert_ok(Counted(), draw(3, 4), complex_step=True)
    assert gradcheck.check_loss(CountedLoss(), draw(3, 4), draw(3, 4, seed=1), complex_step=True).ok
    assert max(pending[1:]) <= 1


def test_a_layer_may_reuse_its_buffers_and_write_to_its_arguments() -> None:
    class Careless(Tanh):
        y, dx = np.empty((3, 4)), np.empty((3, 4))

        def forward(self, x: np.ndarray) -> np.ndarray:
            self.y[:] = super().forward(x.copy())
            x[:] = 0.0
            return self.y

        def backward(self, dy: np.ndarray) -> np.ndarray:
            self.dx[:] = super().backward(dy.copy())
            dy[:] = 0.0
            return self.dx

    x = draw(3, 4)
    gradcheck.assert_ok(Careless(), x)
    assert np.array_equal(x, draw(3, 4))


def test_the_same_seed_gives_the_same_report() -> None:
    layer = stateful("em", "data")
    assert str(gradcheck.check(layer, draw(6, 3))) == str(gradcheck.check(layer, draw(6, 3)))
    assert str(gradcheck.check(layer, draw(6, 3), seed=1)) != str(gradcheck.check(layer, draw(6, 3)))


def test_a_function_with_hidden_state_is_refused() -> None:
    class Drifts(Tanh):
        calls = 0

        def forward(self, x: np.ndarray) -> np.ndarray:
            self.calls += 1
            return super().forward(x) * self.calls

    with pytest.raises(RuntimeError, match="different outputs from the same state"):
        gradcheck.check(Drifts(), draw(3, 4))


def test_inside_accumulating_the_gradients_are_still_those_of_one_pass() -> None:
    layer = linear()
    layer.backward(layer.forward(draw(5, 4)))
    with backend.accumulating():
        gradcheck.assert_ok(layer, draw(5, 4))


# --- the complex step -----------------------------------------------------------------------------


class RealBuffer(Tanh):
    """Writes its output into a real array: NumPy warns and drops the imaginary part."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.empty(x.shape, dtype="float64")
        y[:] = np.tanh(x)
        self._keep(y, x)
        return y


class PartlyRealBuffer(Tanh):
    """Drops the imaginary part of one of two terms: the result is complex, and wrong."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.tanh(x)
        half = np.empty(x.shape, dtype="float64")
        half[:] = 0.5 * y
        self._keep(y, x)
        return half + 0.5 * y


class TakesReal(Tanh):
    """Takes the real part, of which NumPy says nothing."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x.real)


class TakesRealStaysComplex(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x.real.astype(x.dtype))


class UfuncIntoReal(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.tanh(x, out=np.empty(x.shape))
        self._keep(y, x)
        return y


@pytest.mark.parametrize(
    "layer", [RealBuffer(), PartlyRealBuffer(), TakesReal(), TakesRealStaysComplex(), UfuncIntoReal()]
)
def test_a_lost_imaginary_part_is_an_error(layer: Layer) -> None:
    gradcheck.assert_ok(layer, draw(3, 4))  # right in real arithmetic, and not asked for more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it must not depend on the caller's filters
        with pytest.raises(gradcheck.ImaginaryPartLost, match=r"real|imaginary"):
            gradcheck.check(layer, draw(3, 4), complex_step=True)


def test_checks_of_threads_that_overlap_leave_the_warning_filters_as_they_were() -> None:
    before, steps = list(warnings.filters), [threading.Event() for _ in range(3)]

    def first(x: np.ndarray) -> np.ndarray:
        steps[0].set()
        steps[1].wait(10)
        return np.exp(x)

    def second(x: np.ndarray) -> np.ndarray:
        steps[1].set()
        steps[2].wait(10)
        y = np.empty(x.shape)
        y[...] = x  # the filter is still there after the first one's end
        return y

    x, along = np.ones(2), np.ones(2)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(gradcheck.complex_step, first, x, along)
        steps[0].wait(10)
        two = pool.submit(gradcheck.complex_step, second, x, along)
        np.testing.assert_allclose(one.result(), np.exp(1.0), rtol=1e-15)
        steps[2].set()
        with pytest.raises(gradcheck.ImaginaryPartLost):
            two.result()
    assert list(warnings.filters) == before


def test_a_passing_check_prints_one_line() -> None:
    assert str(gradcheck.check(Tanh(), draw(3, 4))).count("\n") == 0
    kinked = draw(3, 4)
    kinked[0, 0] = 0.0
    text = str(gradcheck.check(ReLU(), kinked))
    assert text.count("\n") == 0
    assert "kink" in text


def test_a_failing_check_prints_what_failed_and_one_line_for_each_tensor_that_is_right() -> None:
    class Wrong(Linear):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            dx = super().backward(dy)
            self.weight.grad = 1.5 * self.weight.grad
            return dx

    report = gradcheck.check(Wrong(3, 2, dtype="float64"), draw(4, 3))
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.failures) + 2
    assert sum("ok" in line for line in lines) == 2
    assert {row.tensor for row in report.failures} == {"weight"}


def test_a_partly_lost_imaginary_part_fails() -> None:
    class Half(Tanh):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = np.tanh(x)
            y = np.concatenate([y[:1], y[1:].real])
            self._keep(y, x)
            return y

    report = gradcheck.check(Half(), draw(3, 4), complex_step=True)
    assert {row.method for row in report.failures} == {"complex step"}


def test_the_helpers_differentiate() -> None:
    x, along = draw(3, 4), gradcheck.direction((3, 4), seed=2)
    exact = (np.cos(x) * along).sum()
    assert abs(gradcheck.central_difference(lambda v: np.sin(v).sum(), x, along) - exact) < 1e-10
    assert abs(gradcheck.complex_step(lambda v: np.sin(v).sum(), x, along) - exact) < 1e-14
    assert -1.0 <= along.min() < 0.0 < along.max() <= 1.0
    assert np.array_equal(along, gradcheck.direction((3, 4), seed=2))
    with pytest.raises(gradcheck.ImaginaryPartLost):
        gradcheck.complex_step(lambda v: np.sin(v.real).sum(), x, along)


# --- refusals and the report ------------------------------------------------------------------------


def test_other_dtypes_are_refused() -> None:
    for layer in (linear(), Tanh()):
        with pytest.raises(TypeError, match=r"a gradient check needs float64.*x\.astype\('float64'\)"):
            gradcheck.check(layer, draw(5, 4).astype("float32"))
    with pytest.raises(TypeError, match=r"0 holds float32.*layer\.to\('float64'\)"):
        gradcheck.check(Sequential(Linear(4, 3)), draw(5, 4))


def test_the_report_says_how_to_repeat_it() -> None:
    report = gradcheck.check(Wrong("weight scaled by 1 + 1e-5"), draw(4, 3), seed=5)
    text = str(report)
    row = next(row for row in report.failures if row.method == "direction")
    assert "Wrong (train mode) FAILED" in text
    assert "x (4, 3), seed 5, 3 tensors" in text
    assert row.seed is not None
    assert f"direction seed {list(row.seed)}" in text
    assert f"{row.along[0]:+.3f}" in text
    assert f"analytic {row.analytic:.12e}" in text
    assert f"numerical {row.numerical:.12e}" in text
    assert f"error {row.error:.3e}" in text
    assert text.index("FAIL weight") < text.index("ok   x")

    # Repeated by hand from what the report says.
    layer, x = Wrong("weight scaled by 1 + 1e-5"), draw(4, 3)
    dy = gradcheck.upstream((4, 3), 5)
    layer.forward(x)
    layer.backward(dy)
    along = gradcheck.direction((3, 3), row.seed)
    assert np.allclose((layer.weight.grad * along).sum(), row.analytic, rtol=1e-13)

    def loss(weight: np.ndarray) -> float:
        twin = copy.deepcopy(layer)
        twin.weight.value = weight
        return (dy * twin.forward(x)).sum()

    assert np.allclose(gradcheck.central_difference(loss, layer.weight.value, along), row.numerical, rtol=1e-9)


def test_the_worst_comparison() -> None:
    report = gradcheck.check(Wrong("sign of the bias"), draw(4, 3))
    assert report.worst is not None
    assert report.worst.tensor == "bias"
    assert report.worst.relative > 1
    right = gradcheck.check(linear(), draw(5, 4))
    assert right.worst is not None
    assert right.worst.relative < gradcheck.TOLERANCE
    assert gradcheck.Report("nothing", (1,), 0).worst is None


@pytest.mark.parametrize("options", [{"directions": 0, "jacobian": False}, {"directions": -3}])
def test_a_check_that_compares_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="directions"):
        gradcheck.check(linear(), draw(5, 4), **options)


class Jumping(Layer):
    """y = x^2, and 1 more from 0 on, with a gradient out of the air: there is no slope that could excuse it."""

    def forward(self, x: Any) -> Any:
        y = x * x + (x >= 0)
        self._keep(y)
        return y

    def backward(self, dy: Any) -> Any:
        self._take(dy)
        return 1e4 * dy


def test_a_jump_is_no_kink() -> None:
    assert not gradcheck.check(Jumping(), np.zeros(3)).ok


@given(st.integers(0, 10_000))
def test_the_bound_is_the_stated_one(seed: int) -> None:
    x = draw(3, 4, seed=seed)
    layer = linear()
    report = gradcheck.check(layer, x, seed=seed, at="given")
    y = layer.forward(x)
    dy = gradcheck.upstream(y.shape, seed)
    varies = Probe(layer, x, seed).variation
    lengths = [np.linalg.norm(y - y.mean(axis=axis, keepdims=True)) for axis in (None, 0, 1)]
    assert 0 < varies <= min(lengths) * (1 + 1e-12)
    for row in report.rows:
        size = {"x": 12, "weight": 12, "bias": 3}[row.tensor]
        norm_dy = 1.0 if row.method == "jacobian" else np.linalg.norm(dy)
        floor = 1e-2 * norm_dy * varies / size**0.5
        assert np.isclose(row.bound, 1e-7 * max(abs(row.analytic), abs(row.numerical), floor), rtol=1e-9)


def test_the_upstream_gradient_is_not_the_numbers_that_a_user_draws_first() -> None:
    """With dy = x a normalization's dx is 0, and the check of x would be blind."""
    x = draw(6, 3, seed=0)
    report = gradcheck.check(BatchNorm(3, dtype="float64"), x, seed=0)
    assert max(abs(row.analytic) for row in report.rows if row.tensor == "x") > 0.1
