"""The walk's state: where the reader stands, edits, planted mistakes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from uanref.derivations import DERIVATIONS, find
from uanref.stepping import show
from uanref.stepping.export import exported
from uanref.stepping.walk import Walk


@pytest.fixture
def walk() -> Walk:
    return Walk(find("bn"))


def test_the_road_goes_out_to_the_loss_and_back(walk):
    steps = [step.name for step in walk.derivation.steps]
    seen, counted = [walk.node.name], [walk.where]
    while walk.move(1):
        seen.append(walk.node.name)
        counted.append(walk.where)
    assert seen == [*steps, "loss", *reversed(steps)]
    assert counted[0] == "1 of 19"
    assert counted[-1] == walk.where == "19 of 19", "it stays at the end"
    assert not Walk(find("bn")).move(-1), "and at the beginning"


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=[derivation.name for derivation in DERIVATIONS])
def test_the_walk_counts_the_stops_that_the_page_is_given(derivation):
    walk = Walk(derivation)
    stops = exported(walk.trace)["road"]
    assert [(stop["node"], stop["phase"]) for stop in stops] == [(stop.node, stop.phase) for stop in walk.stops]
    assert walk.where == f"1 of {len(stops)}"


def test_the_stand_in_is_a_node_with_a_value_and_a_way_back(walk):
    assert walk.turn()
    trace = walk.trace
    np.testing.assert_allclose(walk.node.value, (trace.upstream * trace["y"].value).sum())
    assert walk.node.gradient == 1.0
    assert walk.used() == ["g"]
    y = walk.told["y"]
    np.testing.assert_array_equal(y.contributions["loss"], y.gradient)
    proven = walk.told.derivation.trace({**walk.derivation.example(), "g": trace.upstream})
    assert proven.worst < 1e-6, "the derivation with its loss behind it holds, too"
    np.testing.assert_array_equal(proven["x"].gradient, trace["x"].gradient)


def test_a_loss_of_its_own_is_the_turning_point():
    walk = Walk(find("softmax-cross-entropy"))
    assert walk.turn()
    assert walk.where == "4 of 7"
    assert walk.node.gradient == 1.0
    assert walk.told is walk.trace


def test_steps_are_gone_to_in_the_present_direction(walk):
    walk.go("x_hat")
    assert (walk.stop.phase, walk.where) == ("forward", "7 of 19")
    walk.turn()
    walk.go("x_hat")
    assert (walk.stop.phase, walk.where) == ("backward", "13 of 19")
    walk.go("x_hat", "forward")
    assert walk.where == "7 of 19"
    with pytest.raises(KeyError, match="nowhere"):
        walk.go("nowhere")


def test_inputs_stand_beside_the_road(walk):
    walk.move(1)
    assert walk.used() == ["x"]
    walk.go("x")
    assert (walk.node.name, walk.where) == ("x", "2 of 19"), "looked at from where the reader stands"
    walk.move(1)
    assert walk.node.name == "squared"


def test_parts_of_an_inputs_gradient_arrive_one_by_one():
    walk = Walk(find("uan"))
    users = list(walk.trace["x"].contributions)
    assert len(users) == 3
    counts = []
    walk.turn()
    while walk.move(1):
        counts.append(len(walk.arrived("x")))
        for name in walk.trace.nodes:
            if walk.stop.node == name:
                assert len(walk.arrived(name)) == len(walk.told[name].contributions), "a step's own parts are there"
    assert sorted(set(counts)) == [0, 1, 2, 3]
    assert counts == sorted(counts)


def test_a_derivation_without_a_way_back_is_walked_forward_alone():
    walk = Walk(find("adam"))
    assert not walk.turn()
    walk.move(100)
    assert walk.stop.phase == "forward"
    assert not walk.back
    assert walk.wrong() == walk.mistakes() == []
    assert "upstream" not in walk.names()


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


def test_an_edit_says_what_it_did(walk):
    before = walk.told
    edit = walk.edit("x 1 0 = 3.5")
    after = walk.told
    assert (edit.entry, edit.old, edit.new) == ("x 1 0", before["x"].value[1, 0], 3.5)
    assert edit.loss == (before["loss"].value, after["loss"].value)
    assert edit.loss[0] != edit.loss[1]
    changes = {name: np.abs(after[name].gradient - before[name].gradient).max() for name, _ in edit.moved}
    assert [by for _, by in edit.moved] == sorted(changes.values(), reverse=True)
    assert not {"y", "beta"} & set(changes), "their gradients do not depend on x"
    assert f"x 1 0: {edit.old:.6g} -> 3.5; L: {edit.loss[0]:.6g} -> {edit.loss[1]:.6g}; moved most: d" in str(edit)
    assert walk.edits() == 1
    walk.edit("x 1 0 = 4.5")
    walk.edit("eps = 0.5")
    assert walk.edits() == 2, "an entry edited twice counts once"
    walk.edit(f"x 1 0 = {edit.old!r}")
    assert walk.edits() == 1, "and one that is back not at all"


def test_g_and_upstream_name_the_same(walk):
    assert "dy by 51" in str(walk.edit("g 0 1 = 50"))
    assert walk.trace.upstream[0, 1] == 50.0
    walk.edit("upstream 0 1 = 3")
    assert walk.trace.upstream[0, 1] == 3.0
    own = Walk(find("adam"))
    own.edit("g 0 = 2.5")
    assert own.trace["g"].value[0] == 2.5, "where an input is called g, it is the input"


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
        ("z 0 0 = 1", "names: x, gamma, beta, eps, g, upstream"),
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


def test_a_gradient_that_nothing_can_be_held_against_is_neither_right_nor_wrong():
    posterior = find("posterior")
    inputs = posterior.example()
    inputs["x"][0, 0] = 1e8
    walk = Walk(posterior, inputs)
    node = walk.trace["log_total"]
    assert node.unproven, "its own steps overflow when it is moved"
    assert walk.wrong() == []
    assert show.proof(node).plain.startswith("? no numerical gradient")
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(show.proofs(walk.trace))
    table = console.export_text()
    assert "WRONG" not in table
    assert "nan" not in table
    assert table.count("no number") == 1
