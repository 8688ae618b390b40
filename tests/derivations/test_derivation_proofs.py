"""Every derivation: staged = compact layer = numerical, and every line of its collapses equals the one before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.derivation_cases import COMPACT, PROVEN, TOLERANCE, compact, examples, name_of, terms

from uanref.derivations import DERIVATIONS, Local, find

COLLAPSES = [(derivation, collapse) for derivation in DERIVATIONS for collapse in derivation.collapse]


def fewer(test):
    """Run a heavy property on a share of the examples."""
    return settings(max_examples=max(10, settings.default.max_examples // 3))(test)


def test_all_derivations_of_the_issue_are_there():
    assert [derivation.name for derivation in DERIVATIONS] == [
        "linear", "relu", "conv", "softmax-cross-entropy", "bn", "bn-eval", "layer-norm", "posterior", "uan",
        "uan-learned", "uan-shared", "adam",
    ]  # fmt: skip
    assert set(COMPACT) == {derivation.name for derivation in DERIVATIONS}  # each is tied to a layer
    assert [derivation.name for derivation in DERIVATIONS if derivation.forward_only] == ["adam"]
    assert {"bn", "uan", "uan-learned", "uan-shared"} <= {derivation.name for derivation, _ in COLLAPSES}


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
@fewer
@given(st.data())
def test_staged_is_the_compact_layer(derivation, data):
    inputs, seed = data.draw(examples(derivation))
    trace = derivation.trace(inputs, seed=seed, numerical=False)
    y, gradients = compact(derivation, inputs, trace.upstream)
    np.testing.assert_allclose(trace.output, y, rtol=0, atol=1e-11 * max(1.0, np.abs(y).max()))
    proven = {} if derivation.forward_only else {i.name for i in derivation.inputs if not i.constant}
    assert set(gradients) == set(proven)
    for name, gradient in gradients.items():
        atol = 1e-10 * max(1.0, terms(trace, name))
        np.testing.assert_allclose(trace[name].gradient, gradient, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
@fewer
@given(st.data())
def test_staged_is_numerical_at_every_node(derivation, data):
    inputs, seed = data.draw(examples(derivation))
    trace = derivation.trace(inputs, seed=seed)
    constants = {node.name for node in derivation.inputs if node.constant}
    errors = {name: node.error for name, node in trace.nodes.items()}
    assert {name for name, error in errors.items() if error is None} == constants
    assert all(error <= TOLERANCE for name, error in errors.items() if name not in constants), errors
    assert trace.worst <= TOLERANCE


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
@pytest.mark.parametrize("seed", range(3))
def test_the_default_example_is_proven_and_interesting(derivation, seed):
    trace = derivation.trace(seed=seed)
    assert trace.worst <= TOLERANCE
    for node in trace.nodes.values():
        if node.gradient is not None:  # a gradient of zeros proves nothing
            assert np.abs(node.gradient).max() > 1e-3, node.name


@pytest.mark.parametrize(("derivation", "collapse"), COLLAPSES, ids=lambda value: value.name)
@fewer
@given(st.data())
def test_each_line_of_a_collapse_equals_the_one_before(derivation, collapse, data):
    inputs, seed = data.draw(examples(derivation))
    trace = derivation.trace(inputs, seed=seed, numerical=False)
    before = trace[collapse.name].gradient
    for line in collapse.lines:
        value = trace.evaluate(line.expression, derivation.node(collapse.name).axes)
        scale = max(np.abs(before).max(), np.abs(value).max(), terms(trace, collapse.name), 1e-3)
        np.testing.assert_allclose(value, before, rtol=0, atol=1e-12 * scale, err_msg=line.equation)
        before = value


def test_the_compact_gradient_of_a_collapse_is_the_layers():
    """The last line and the layer, without the steps between: batch normalization on its defaults."""
    derivation = find("bn")
    inputs = derivation.example(3)
    trace = derivation.trace(inputs, seed=3, numerical=False)
    _, gradients = compact(derivation, inputs, trace.upstream)
    last = trace.evaluate(derivation.collapse[0].lines[-1].expression, ("m", "c"))
    np.testing.assert_allclose(last, gradients["x"], rtol=0, atol=1e-12)


def test_softmax_cross_entropy_collapses_to_probabilities_minus_targets():
    derivation = find("softmax-cross-entropy")
    inputs = derivation.example(1)
    trace = derivation.trace(inputs, np.asarray(1.0), numerical=False)
    e = np.exp(inputs["z"])
    p = e / e.sum(1, keepdims=True)
    np.testing.assert_allclose(inputs["t"].sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(trace["z"].gradient, (p - inputs["t"]) / len(p), rtol=0, atol=1e-15)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_the_relu_example_stays_away_from_the_kink(seed, size):
    x = find("relu").example(seed, m=size)["x"]
    assert np.abs(x).min() >= 0.1
    both = find("relu").example(seed, m=8, c=8)["x"]
    assert (both > 0).any()
    assert (both < 0).any()


def test_adam_has_values_and_no_gradients():
    trace = find("adam").trace()
    assert trace.worst == 0.0
    assert all(
        node.gradient is None and node.numerical is None and not node.contributions for node in trace.nodes.values()
    )
    step = trace["theta"].value - trace.output
    assert (np.abs(step) > 1e-5).all()
    assert (np.abs(step) < 0.1).all()
    assert (np.sign(step) == np.sign(trace["m_hat"].value)).all()


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
def test_a_gradient_is_what_its_users_contribute(derivation):
    trace = derivation.trace(seed=2, numerical=False)
    for name, node in trace.nodes.items():
        if name != derivation.output.name and node.gradient is not None:
            assert set(node.contributions) == {user.name for user in derivation.users(name)}
            np.testing.assert_allclose(node.gradient, sum(node.contributions.values()), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(trace[derivation.output.name].gradient, trace.upstream)


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
def test_a_proof_is_independent_of_the_local_rules(derivation):
    """The numerical gradient stays where it was when every local rule is doubled; the gradients do not."""
    doubled = {
        step.name: dataclasses.replace(
            step, backward={n: Local(r.equation, 2 * r.expression) for n, r in step.backward.items()}
        )
        for step in derivation.steps
    }
    right, wrong = derivation.trace(), derivation.trace(steps=doubled)
    for name, node in right.nodes.items():
        if node.numerical is not None:
            np.testing.assert_array_equal(node.numerical, wrong[name].numerical)
            assert name == derivation.output.name or wrong[name].error > 0.4


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("bn", {"m": 1}), ("layer-norm", {"c": 1, "s": 1}), ("uan", {"m": 1}), ("uan", {"m": 1, "k": 1, "c": 1})],
)
def test_a_variance_of_zero_has_proofs_too(name, sizes):
    derivation = find(name)
    trace = derivation.trace(derivation.example(**sizes))
    assert np.all(trace["var" if name != "uan" else "moment_variance"].value == 0)
    assert trace.worst <= TOLERANCE


def test_numbers_outside_the_domain_are_told_without_a_warning(recwarn):
    derivation = find("bn")
    assert derivation.trace().not_finite is None
    trace = derivation.trace({**derivation.example(), "eps": np.array(-10.0)})
    assert trace.not_finite == "std"
    assert np.isnan(trace.worst)
    assert not recwarn.list
