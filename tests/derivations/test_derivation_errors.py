"""What a derivation says about input that does not fit: one clear sentence."""

from __future__ import annotations

import re

import numpy as np
import pytest

from uanref.derivations import Derivation, Input, Local, Step, find
from uanref.derivations.expressions import d, ref, sum_

BN, CONV = find("bn"), find("conv")
X = Input("x", "x", ("m",), "a value")


def step(name, of):
    return Step(name, name, ("m",), f"{name} = {of}", ref(of), {of: Local(f"d{of}", d(name))})


def derivation(*steps, inputs=(X,)):
    return Derivation("toy", "Toy", "A toy.", {"m": "sample"}, {"m": 3}, inputs, steps)


def with_input(derivation, name, value):
    return derivation.trace({**derivation.example(), name: value})


def without_input(derivation, name):
    inputs = derivation.example()
    del inputs[name]
    return derivation.trace(inputs)


CASES = [
    (lambda: BN.example(z=3), r"bn has no axis 'z': its axes are m, c"),
    (lambda: BN.example(m=0), r"length of at least 1, got {'m': 0}"),
    (lambda: without_input(BN, "gamma"), r"bn takes the inputs x, gamma, beta, eps: missing gamma, unknown none"),
    (lambda: with_input(BN, "delta", np.ones(2)), r"missing none, unknown delta"),
    (lambda: with_input(BN, "x", np.ones(5)), r"input x must be .* axes \(m, c\), got float64 of shape \(5,\)"),
    (lambda: with_input(BN, "x", np.ones((0, 2))), r"input x must be a non-empty array .* shape \(0, 2\)"),
    (lambda: with_input(BN, "x", np.array([["a", "b"]])), r"input x must be a non-empty array of numbers"),
    (lambda: with_input(BN, "x", np.ones((5, 2), dtype=complex)), r"input x must be .* got complex128"),
    (lambda: with_input(BN, "x", np.full((5, 2), np.nan)), r"input x has entries that are not finite"),
    (lambda: with_input(BN, "beta", np.array([0.0, np.inf])), r"input beta has entries that are not finite"),
    (lambda: with_input(BN, "gamma", np.ones(3)), r"input gamma of shape \(3,\) has 3 along axis 'c'.* have 2"),
    (
        lambda: BN.trace(upstream=np.ones((5, 3))),
        r"upstream gradient of y must .* shape \(5, 2\), got float64 of shape \(5, 3\)",
    ),
    (lambda: BN.trace(upstream=np.ones((5, 2), complex)), r"upstream .* array of numbers .* got complex128 of shape"),
    (lambda: BN.trace(upstream=np.full((5, 2), "a")), r"upstream .* array of numbers .* got <U1 of shape \(5, 2\)"),
    (lambda: CONV.trace(CONV.example(u=9)), r"kernel of 9 along 'u' does not fit into an image of 4 along 'h'"),
    (lambda: derivation(step("a", "x"), step("a", "x")), r"toy: the name 'a' is used twice"),
    (lambda: derivation(step("x", "x")), r"toy: the name 'x' is used twice"),
    (lambda: derivation(step("a", "b"), step("b", "x")), r"toy: step 'a' uses \['b'\] before they are computed"),
    (lambda: find("batch"), r"unknown derivation 'batch': expected one of linear, "),
]


@pytest.mark.parametrize(("run", "message"), CASES, ids=range(len(CASES)))
def test_what_does_not_fit_gets_one_sentence(run, message):
    with pytest.raises(ValueError, match=message) as raised:
        run()
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 250
    assert not re.search(r"Traceback|object at 0x", text)


def test_an_unknown_value_is_a_key_error_that_lists_them():
    with pytest.raises(KeyError, match="bn has no value 'variance': it has x, gamma"):
        BN.node("variance")


def test_a_rule_with_an_axis_too_many_says_which():
    """A missing sum: the gradient of a value without the axis m still has it."""
    c = Input("b", "b", (), "a shift")
    y = Step("y", "y", ("m",), "y = x + b", ref("x") + ref("b"), {"b": Local("db", d("y"))})
    with pytest.raises(ValueError, match=r"axes \('m',\) has no place in axes \(\): sum over \['m'\] first"):
        derivation(y, inputs=(X, c)).trace()


def test_a_value_that_nothing_uses_has_no_gradient_and_no_proof_against_it():
    """Its gradient is 0, and so is the numerical one."""
    unused = Input("b", "b", ("m",), "not used")
    y = Step("y", "y", (), "y = sum x", sum_(ref("x"), "m"), {"x": Local("dx", d("y"))})
    trace = derivation(y, inputs=(X, unused)).trace()
    np.testing.assert_array_equal(trace["b"].gradient, np.zeros(3))
    assert trace["b"].error == 0.0
    assert trace.worst <= 1e-6


def test_inputs_are_not_changed_and_integers_are_numbers():
    inputs = {**BN.example(4), "x": np.arange(10).reshape(5, 2)}
    before = {name: value.copy() for name, value in inputs.items()}
    trace = BN.trace(inputs)
    assert trace.worst <= 1e-6
    assert trace["x"].value.dtype == np.float64
    for name, value in inputs.items():
        np.testing.assert_array_equal(value, before[name])


def test_a_seed_gives_the_same_trace():
    one, two, other = BN.trace(seed=5), BN.trace(seed=5), BN.trace(seed=6)
    for name, node in one.nodes.items():
        np.testing.assert_array_equal(node.value, two[name].value)
    np.testing.assert_array_equal(one.upstream, two.upstream)
    assert not np.array_equal(one.output, other.output)
    assert not np.array_equal(one.upstream, other.upstream)
