"""What a reader is told of every derivation: names, equations, sources, and where each step is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.derivation_cases import name_of

import uanref
from uanref.derivations import DERIVATIONS, Step
from uanref.derivations.expressions import ref
from uanref.derivations.primitives import PRIMITIVES

STEPS = [
    pytest.param(derivation, step, id=f"{derivation.name}-{step.name}")
    for derivation in DERIVATIONS
    for step in derivation.steps
]


def expressions(derivation):
    for step in derivation.steps:
        yield step.forward
        yield from (local.expression for local in step.backward.values())
    for collapse in derivation.collapse:
        yield from (line.expression for line in collapse.lines)


def balanced(latex):
    depth = 0
    for character in re.sub(r"\\[{}]", "", latex):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0 and latex.count(r"\left") == latex.count(r"\right")


@pytest.mark.parametrize(("derivation", "step"), STEPS)
def test_every_step_says_what_it_is_and_where_it_is_written(derivation, step):
    assert step.meaning.endswith(".")
    assert step.source
    assert not step.source.endswith(".")
    assert step.equation.startswith(step.symbol)
    assert balanced(step.equation)
    lines = (Path(uanref.__file__).parents[1] / step.file).read_text(encoding="utf-8").splitlines()
    assert "Step(" in lines[step.line - 1]
    here = "\n".join(lines[step.line - 1 : step.line + 3])
    assert f'name="{step.name}"' in here
    assert step.file.startswith("uanref/derivations/")


@pytest.mark.parametrize(("derivation", "step"), STEPS)
def test_every_way_back_is_there_and_written_as_one(derivation, step):
    constants = {node.name for node in derivation.inputs if node.constant}
    expected = set() if derivation.forward_only else set(step.inputs) - constants
    assert expected <= set(step.backward) <= set(step.inputs)
    for name, local in step.backward.items():
        assert local.equation.startswith("d" + derivation.node(name).symbol), local.equation
        assert r"\mathrel{+}=" in local.equation
        assert balanced(local.equation)
        allowed = {*step.inputs, step.name, f"d_{step.name}"}
        assert local.expression.names() <= allowed
        assert f"d_{step.name}" in local.expression.names()


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_every_derivation_is_told_whole(derivation):
    assert derivation.title
    assert derivation.summary.endswith(".")
    used = {axis for node in derivation.nodes for axis in node.axes}
    assert used == set(derivation.axes)
    assert set(derivation.sizes) <= used
    assert used - set(derivation.sizes) <= {"p", "q"}  # positions of a kernel follow from the other sizes
    symbols = [node.symbol for node in derivation.nodes]
    assert len(set(symbols)) == len(symbols)
    for node in derivation.inputs:
        assert node.symbol
        assert node.meaning
    for collapse in derivation.collapse:
        assert not derivation.node(collapse.name).constant
        assert len(collapse.lines) >= 2
        for line in collapse.lines:
            assert balanced(line.equation)
            assert line.why.endswith(".")


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_every_expression_is_plain_data(derivation):
    known = {node.name for node in derivation.nodes}
    for expression in expressions(derivation):
        assert json.loads(json.dumps(expression.as_list())) == expression.as_list()
        for node in expression.walk():
            assert node.op in PRIMITIVES
            if node.op in ("sum", "mean", "max", "softmax", "logsumexp", "count"):
                assert set(node.options) <= set(derivation.axes)
        assert {name.removeprefix("d_") for name in expression.names()} <= known


def test_a_step_knows_the_line_that_it_is_written_on():
    made = Step("y", "y", (), "y = x", ref("x"), {})
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert 'made = Step("y"' in lines[made.line - 1]
    assert made.file.endswith("test_derivation_texts.py")
    assert made.inputs == ("x",)


def test_no_sum_of_a_collapse_runs_over_an_index_of_its_left_side():
    for derivation in DERIVATIONS:
        for told in derivation.collapse:
            free = set(derivation.node(told.name).axes)
            for line in told.lines:
                if line.equation.startswith("d" + derivation.node(told.name).symbol + "_"):
                    for bound in re.findall(r"\\sum_(?:\{([^}]*)\}|(\w))", line.equation):
                        assert not free & set("".join(bound)), (derivation.name, line.equation)


def letters(derivation, letter):
    """The equations of a derivation in which a letter stands by itself, or as a gradient's."""
    lines = [line.equation for told in derivation.collapse for line in told.lines]
    for step in derivation.steps:
        lines += [step.equation, *(local.equation for local in step.backward.values())]
    return [line for line in lines if re.search(rf"(?<![A-Za-z\\])d?{letter}(?![A-Za-z])", line)]


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_L_is_the_loss_and_nothing_else(derivation):
    own = derivation.output.name == "loss"
    assert bool(letters(derivation, "L")) == own
    assert [node.name for node in derivation.nodes if node.symbol == "L"] == (["loss"] if own else [])


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_g_is_the_upstream_gradient_of_the_stand_in_and_nothing_else(derivation):
    if not derivation.forward_only:
        assert not letters(derivation, "g"), "the loss that stands in for the rest of a network is L = sum g y"
