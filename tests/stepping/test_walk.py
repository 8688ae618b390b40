"""The walk's state: where the reader stands, edits, planted mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uanref.derivations import find
from uanref.stepping.walk import Walk


@pytest.fixture
def walk() -> Walk:
    return Walk(find("bn"))


def test_it_starts_at_the_first_step_and_goes_to_the_output(walk):
    assert walk.node.name == "mu"
    seen = [walk.node.name]
    for _ in range(20):
        walk.next()
        seen.append(walk.node.name)
    assert seen[:3] == ["mu", "centred", "squared"]
    assert seen[-2:] == ["y", "y"], "it stays at the end"


def test_backward_turns_the_direction(walk):
    walk.go("x_hat")
    walk.backward()
    walk.next()
    assert walk.node.name == "inverse_std"
    walk.previous()
    assert walk.node.name == "x_hat"
    walk.forward()
    walk.next()
    assert walk.node.name == "scaled"


def test_a_derivation_without_a_way_back_is_walked_forward_alone():
    walk = Walk(find("adam"))
    walk.backward()
    assert not walk.backwards
    assert walk.wrong() == []


def test_an_edit_runs_everything_again(walk):
    before = walk.trace
    walk.edit("x 1 0 = 3.5")
    x = before["x"].value.copy()
    x[1, 0] = 3.5
    expected = walk.derivation.trace({**{n.name: before[n.name].value for n in walk.derivation.inputs}, "x": x})
    assert walk.trace["x"].value[1, 0] == 3.5
    np.testing.assert_array_equal(walk.trace["y"].value, expected["y"].value)
    assert before["x"].value[1, 0] != 3.5, "the old trace stays as it was"
    assert walk.trace.worst < 1e-6


def test_the_upstream_gradient_and_constants_can_be_edited(walk):
    walk.edit("upstream 0 1=-2")
    assert walk.trace.upstream[0, 1] == -2.0
    walk.edit(" eps = 0.5 ")
    assert walk.trace["eps"].value == 0.5
    assert walk.trace.upstream[0, 1] == -2.0, "a second edit keeps the first"
    assert walk.trace.worst < 1e-6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a name"),
        ("x 0 0", "expected a name"),
        ("z 0 0 = 1", "names: x, gamma, beta, eps, upstream"),
        ("x 0 = 1", "indices 0-4 0-1"),
        ("x 5 0 = 1", "indices 0-4 0-1"),
        ("x -1 0 = 1", "indices 0-4 0-1"),
        ("x 0 0 = one", "no number"),
        ("x 0 0 = nan", "finite"),
        ("eps 0 = 1", "no index"),
        ("mu 0 = 1", "names: x"),
    ],
)
def test_a_bad_edit_is_told_and_changes_nothing(walk, text, told):
    before = walk.trace
    with pytest.raises(ValueError, match=told):
        walk.edit(text)
    assert walk.trace is before


def test_a_planted_mistake_turns_nodes_red_and_can_be_taken_away(walk):
    walk.go("centred")
    offered = walk.mistakes()
    assert {mistake.step for mistake in offered} == {"centred"}
    flipped = next(m for m in offered if m.input == "mu" and "sign" in m.description)
    walk.plant(flipped)
    assert walk.wrong() == ["x", "mu"], "the input of the slip, and what it was computed from"
    walk.edit("x 0 0 = 1.25")
    assert "mu" in walk.wrong(), "an edit keeps the mistake"
    walk.plant(None)
    assert walk.wrong() == []


def test_given_inputs_are_walked():
    inputs = find("linear").example(seed=3)
    walk = Walk(find("linear"), inputs)
    np.testing.assert_array_equal(walk.trace["x"].value, inputs["x"])
    with pytest.raises(ValueError, match="missing"):
        Walk(find("linear"), {"x": inputs["x"]})


def test_an_edit_that_leaves_the_domain_is_refused_and_changes_nothing(walk):
    before = walk.trace
    with pytest.raises(ValueError, match="bn: std is not finite for these inputs"):
        walk.edit("eps = -10")
    assert walk.trace is before


def test_inputs_outside_the_domain_are_refused():
    bn = find("bn")
    with pytest.raises(ValueError, match="bn: squared is not finite for these inputs"):
        Walk(bn, {**bn.example(), "x": 1e200 * bn.example()["x"]})


def test_a_gradient_that_is_no_number_is_wrong(walk):
    node = replace(walk.trace["mu"], gradient=np.full(2, np.nan))
    walk.trace = replace(walk.trace, nodes={**walk.trace.nodes, "mu": node})
    assert walk.wrong() == ["mu"]
