"""Schedules: the documented formulas, their ends, their refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requirements import require_torch

from uanref.training.schedules import Constant, Cosine, Schedule, StepDecay

rates = st.floats(1e-6, 10.0)


@given(lr=rates, step=st.integers(0, 10**9))
def test_constant(lr: float, step: int) -> None:
    assert Constant(lr)(step) == lr


@given(lr=rates, size=st.integers(1, 20), factor=st.floats(0.01, 1.0), step=st.integers(0, 100))
def test_step_decay(lr: float, size: int, factor: float, step: int) -> None:
    expected = lr
    for i in range(1, step + 1):
        expected *= factor if i % size == 0 else 1.0
    assert StepDecay(lr, size, factor)(step) == pytest.approx(expected, rel=1e-10)


def test_step_decay_defaults_to_a_tenth() -> None:
    schedule = StepDecay(1.0, 3)
    assert [schedule(i) for i in (0, 2, 3, 5, 6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedule(10**6) == 0.0  # underflows, raises nothing


@given(
    lr=rates,
    total=st.integers(1, 50),
    warmup_share=st.floats(0, 0.99),
    final_share=st.floats(0, 1),
)
def test_cosine_rises_then_falls_between_its_bounds(
    lr: float, total: int, warmup_share: float, final_share: float
) -> None:
    warmup, final = int(total * warmup_share), lr * final_share
    schedule = Cosine(lr, total, warmup_steps=warmup, final_lr=final)
    found = np.array([schedule(i) for i in range(total + 3)])
    np.testing.assert_allclose(found[:warmup], [lr * (i + 1) / warmup for i in range(warmup)], rtol=1e-14)
    assert found[warmup] == pytest.approx(lr)
    assert (np.diff(found[warmup:]) <= 1e-15 * lr).all()
    assert (found[total:] == final).all()
    assert (found > 0).all() or final == 0
    assert (found[warmup:] >= final - 1e-15 * lr).all()


def test_cosine_passes_its_known_points() -> None:
    schedule = Cosine(0.8, total_steps=14, warmup_steps=4, final_lr=0.2)
    assert [schedule(i) for i in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert schedule(4) == pytest.approx(0.8)
    assert schedule(9) == pytest.approx(0.5)  # halfway down
    assert schedule(12) == pytest.approx(0.2 + 0.3 * (1 + math.cos(0.8 * math.pi)))
    assert schedule(14) == schedule(1000) == 0.2
    assert Cosine(1.0, 10)(10) == 0.0


def test_cosine_and_step_decay_are_pytorchs() -> None:
    torch = require_torch()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.05)
    ours = Cosine(0.3, 10, final_lr=0.05)
    for step in range(10):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    for step in range(10):
        assert StepDecay(0.3, 3, 0.5)(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", [Constant(0.1), StepDecay(0.1, 2), Cosine(0.1, 10, 3)])
def test_steps_are_whole_numbers_from_zero(schedule: Schedule) -> None:
    assert type(schedule(np.int64(3))) is float  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step must be >= 0, got -1"):
        schedule(-1)
    with pytest.raises(TypeError, match=r"step must be an integer, got 1\.5"):
        schedule(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
def test_a_rate_that_is_not_positive_is_refused(lr: float) -> None:
    for make in (lambda: Constant(lr), lambda: StepDecay(lr, 3), lambda: Cosine(lr, 3)):
        with pytest.raises(ValueError, match="lr must be finite and > 0"):
            make()


def test_other_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="step_size must be >= 1, got 0"):
        StepDecay(0.1, 0)
    with pytest.raises(TypeError, match=r"step_size must be an integer, got 2\.5"):
        StepDecay(0.1, 2.5)  # type: ignore[arg-type]
    for factor in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="factor must be finite and > 0 and <= 1"):
            StepDecay(0.1, 3, factor)
    with pytest.raises(ValueError, match="total_steps must be >= 1, got 0"):
        Cosine(0.1, 0)
    with pytest.raises(ValueError, match="warmup_steps must be >= 0, got -1"):
        Cosine(0.1, 5, -1)
    with pytest.raises(ValueError, match="warmup_steps must be < total_steps, got 5 of 5"):
        Cosine(0.1, 5, 5)
    for final in (-0.1, 0.2, math.nan):
        with pytest.raises(ValueError, match=r"final_lr must be finite and >= 0 and <= 0\.1"):
            Cosine(0.1, 5, final_lr=final)
    with pytest.raises(NotImplementedError, match="Schedule does not define _at"):
        Schedule()(0)
