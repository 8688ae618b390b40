"""What a large level of the output, or of the input, does to a gradient check: it may hide much, it passes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from uanref import gradcheck
from uanref.layers.base import Layer
from uanref.losses import MSE
from uanref.norms.batch import BatchNorm


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Levelled(Layer):
    """y = factor x + level, with a claim for the slope that is ``claim`` times the right one."""

    def __init__(self, level: np.ndarray | float, claim: float = 1.0, factor: float = 1.0) -> None:
        super().__init__()
        self.level, self.claim, self.factor = level, claim, factor

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = self.factor * x + self.level
        self._keep(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self._take(dy)
        return self.claim * self.factor * dy


LEVELS = {
    "the tensor": np.ones(1),
    "one channel": np.array([1.0, 0.0, 0.0]),
    "each channel": np.array([1.0, -2.0, 0.5]),
    "each sample": np.array([[1.0], [3.0], [-1.0], [0.2]]),
    "each entry": draw(4, 3, seed=7),
}


@pytest.mark.parametrize("exponent", [2, 4, 5, 6, 8, 10, 12, 16])
@pytest.mark.parametrize("kind", LEVELS)
def test_no_level_lets_a_wrong_claim_pass(kind: str, exponent: int) -> None:
    level = 10.0**exponent * LEVELS[kind]
    for claim in (1.001, 1 + 1e-5, 0.0, -5.0):
        report = gradcheck.check(Levelled(level, claim), draw(4, 3))
        assert not report.ok
        assert "passed" not in str(report)
        if exponent <= 4 or (claim == 1.001 and exponent <= 8) or (claim == -5.0 and exponent <= 12):
            assert report.failures  # what rounding leaves is still used
    report = gradcheck.check(Levelled(level), draw(4, 3))
    assert not report.failures, report  # rounding is never held against the layer
    assert report.ok == (not report.unresolved)
    assert report.ok == (exponent <= 4) or exponent == 5


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("kind", LEVELS)
def test_it_is_the_level_against_what_varies_that_counts(kind: str, factor: float) -> None:
    for exponent in (0, 2, 4, 6, 8, 10):
        level = factor * 10.0**exponent * LEVELS[kind]
        right = gradcheck.check(Levelled(level, factor=factor), draw(4, 3))
        assert right.ok or exponent > 4
        assert not right.failures
        assert not gradcheck.check(Levelled(level, 1.001, factor), draw(4, 3)).ok


def test_what_is_not_resolvable_says_so() -> None:
    layer, x = Levelled(1e8), draw(4, 3)
    report = gradcheck.check(layer, x)
    assert not report.ok
    assert not report.failures
    assert report.unresolved == report.rows
    assert "not resolvable here: rounding hides 5 of 5 comparisons (take the level out of y, move x near 0)" in str(
        report
    )
    with pytest.raises(AssertionError, match="not resolvable"):
        gradcheck.assert_ok(layer, x)
    exact = gradcheck.check(layer, x, complex_step=True)  # subtracts nothing
    assert {row.status for row in exact.rows if row.method == "complex step"} == {"ok"}
    assert not exact.ok


@pytest.mark.parametrize("exponent", range(2, 9))
def test_a_level_of_x_costs_digits_as_well(exponent: int) -> None:
    class Wrong(BatchNorm):
        def backward(self, dy: np.ndarray) -> np.ndarray:
            return super().backward(dy) * 1.001

    x = draw(6, 3) + 10.0**exponent
    right, wrong = (gradcheck.check(kind(3, dtype="float64"), x) for kind in (BatchNorm, Wrong))
    assert not right.failures, right
    assert right.ok == (exponent <= 4)
    assert not wrong.ok
    assert "not resolvable" in str(wrong) or wrong.failures


@pytest.mark.parametrize("exponent", range(2, 9))
def test_beta_far_from_0(exponent: int) -> None:
    layer = BatchNorm(3, dtype="float64")
    layer.beta.value = np.array([10.0**exponent, 0.0, 0.0])
    for at in ("drawn", "given"):
        report = gradcheck.check(layer, draw(6, 3), at=at)
        assert not report.failures, report


@pytest.mark.parametrize("offset", [0.0, 1e-9, 1.0, 1e2, 1e3])
def test_losses_far_from_their_minimum_and_at_it(offset: float) -> None:
    class Wrong(MSE):
        def backward(self) -> np.ndarray:
            return super().backward() * 1.001

    x = draw(4, 3)
    report = gradcheck.check_loss(MSE(), x + offset, x)
    assert report.ok, report
    if offset >= 1.0:
        assert gradcheck.check_loss(Wrong(), x + offset, x).failures


def test_a_huge_loss_is_not_resolvable() -> None:
    x = draw(4, 3)
    report = gradcheck.check_loss(MSE(), x + 1e6, x)
    assert not report.ok
    assert not report.failures


class Constant(Layer):
    def __init__(self, value: float, claim: float = 0.0) -> None:
        super().__init__()
        self.value, self.claim = value, claim

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = 0.0 * x + self.value
        self._keep(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self._take(dy)
        return self.claim * dy


def test_constants() -> None:
    for value in (0.0, 1e-6, 1.0, 100.0):
        gradcheck.assert_ok(Constant(value), draw(4, 3))
        assert gradcheck.check(Constant(value, 1e-6), draw(4, 3)).failures
    blind = gradcheck.check(Constant(1e10), draw(4, 3))  # 1e10 + 1e-9 x would look the same
    assert not blind.ok
    assert not blind.failures


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_parameters_of_any_scale(scale: float) -> None:
    layer = BatchNorm(3, dtype="float64")
    layer.gamma.value = scale * draw(3)
    for at in ("drawn", "given"):
        report = gradcheck.check(layer, draw(6, 3), at=at)
        assert report.ok, report
