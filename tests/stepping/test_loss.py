"""The loss that stands in for the rest of a network, run as one more step: proven, and its slips caught."""

from __future__ import annotations

import numpy as np
import pytest

from uanref.derivations import DERIVATIONS, find
from uanref.derivations.mistakes import mistakes, plant
from uanref.stepping.loss import with_its_loss
from uanref.stepping.road import LOSS, WEIGHTS, ends_in_loss, stand_in, with_loss
from uanref.stepping.walk import TOLERANCE, is_wrong

NAMES = [derivation.name for derivation in DERIVATIONS if stand_in(derivation) is not None]


def test_every_derivation_with_a_way_back_has_a_loss():
    others = [derivation for derivation in DERIVATIONS if derivation.name not in NAMES]
    assert all(derivation.forward_only or ends_in_loss(derivation) for derivation in others)
    assert len(NAMES) > len(others)


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_in_as_a_step_of_its_own_gives_the_same_gradients(name):
    derivation = find(name)
    told = with_loss(derivation, stand_in(derivation))
    inputs = derivation.example(3)
    y = derivation.trace(inputs, numerical=False).output
    g = np.random.default_rng(4).standard_normal(y.shape)

    trace = told.trace({**inputs, WEIGHTS: g})
    assert trace.upstream == 1
    assert trace.worst < TOLERANCE
    assert sum(node.numerical is not None for node in trace.nodes.values()) > 2

    shown = with_its_loss(derivation.trace(inputs, g, numerical=False))
    assert list(shown.nodes) == list(trace.nodes)
    for each, node in shown.nodes.items():
        np.testing.assert_allclose(node.value, trace[each].value, rtol=1e-12, atol=1e-12)
        if node.gradient is not None:
            np.testing.assert_allclose(node.gradient, trace[each].gradient, rtol=1e-12, atol=1e-12)


def test_a_slip_in_its_way_back_turns_the_output_red():
    derivation = find("bn")
    told = with_loss(derivation, stand_in(derivation))
    slips = [mistake for mistake in mistakes(told) if mistake.step == LOSS]
    assert slips
    for slip in slips:
        assert is_wrong(plant(told, slip, seed=3)[derivation.output.name]), slip.id
