"""The gate: no slip in a backward pass survives the gradient checks."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest

import uanref
from mutation import cases, gate, page, targets
from mutation.gate import Outcome
from mutation.operators import Mutation
from mutation.targets import Target, planted
from uanref import gradcheck
from uanref.norms import gaussian_mixture, uan

LINEAR = Target("layers/linear.py", "Linear.backward")


def changed(target: Target, old: str, new: str) -> ast.FunctionDef:
    source = ast.unparse(target.tree)
    assert source.count(old) == 1
    tree = ast.parse(source.replace(old, new)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree


# --- planting ---------------------------------------------------------------------------------------


def test_a_planted_slip_is_seen_by_every_importer_and_goes_away():
    target = Target("norms/gaussian_mixture.py", "softplus_backward")
    one = np.ones(3)
    right = gaussian_mixture.softplus_backward(one, one)
    with planted(target, changed(target, "= dy *", "= 2.0 * dy *")):
        assert np.array_equal(gaussian_mixture.softplus_backward(one, one), 2.0 * right)
        assert np.array_equal(uan.softplus_backward(one, one), 2.0 * right)  # imported by name long ago
    assert np.array_equal(uan.softplus_backward(one, one), right)


def test_a_planted_method_is_seen_by_subclasses_and_existing_layers():
    class Derived(uanref.Linear):
        pass

    layer, x = Derived(2, 2, dtype="float64"), np.ones((1, 2))
    with planted(LINEAR, changed(LINEAR, "return dx", "return 0.0 * dx")):
        layer.forward(x)
        assert not layer.backward(x).any()
    layer.forward(x)
    assert layer.backward(x).any()


def test_a_slip_goes_away_after_an_exception():
    code = uanref.Linear.backward.__code__
    layer, x = uanref.Linear(2, 2, dtype="float64"), np.ones((1, 2))
    layer.forward(x)
    with pytest.raises(KeyError), planted(LINEAR, changed(LINEAR, "return dx", "raise KeyError")):
        layer.backward(x)
    assert uanref.Linear.backward.__code__ is code


# --- finding ----------------------------------------------------------------------------------------


def test_backward_code_is_found_by_what_runs_in_backward_passes_alone():
    found = {str(target) for target in gate.plan().targets}
    assert {
        "layers/linear.py: Linear.backward",
        "layers/conv.py: _gradients_by_columns",
        "layers/conv.py: _gradients_by_correlation",
        "layers/conv.py: _add_columns",
        "norms/gaussian_mixture.py: weights_backward",
        "norms/gaussian_mixture.py: posterior_backward",
        "norms/sample_statistics.py: normalize_backward",
        "losses.py: SoftmaxCrossEntropy.backward",
    } <= found
    # Both passes use these: a slip there changes the function itself, not its derivative.
    assert not {"layers/conv.py: _columns", "norms/gaussian_mixture.py: weights"} & found
    # These only say that a subclass must define them.
    assert not {"layers/base.py: Layer.backward", "losses.py: Loss.backward"} & found


def test_a_backward_function_without_a_case_is_an_error(monkeypatch):
    batch_norm = [case for case in gate.catalogue() if case.name.startswith("BatchNorm")]
    monkeypatch.setattr(gate, "catalogue", lambda: batch_norm)
    found = gate.plan.__wrapped__()
    assert any("Linear.backward" in error for error in found.errors)
    assert not any("BatchNorm.backward" in error for error in found.errors)


# --- judging ----------------------------------------------------------------------------------------


def examined(old: str, new: str) -> str:
    status, _ = gate.examine(LINEAR, Mutation("", "", changed(LINEAR, old, new)), gate.plan().targets[LINEAR][:2])
    return status


def test_a_wrong_gradient_fails():
    assert examined("return dx", "return -dx") == "failed"
    assert examined("self.bias.receive", "abs") == "failed"  # no gradient at all


def test_a_broken_backward_counts_as_killed():
    assert examined("return dx", "return dx / 'a'") == "raised"


def test_an_endless_loop_is_stopped(monkeypatch):
    monkeypatch.setattr(cases, "SECONDS", 0.2)
    assert examined("return dx", "\n    while True:\n        pass") == "hung"


def test_a_change_that_alters_no_gradient_survives():
    assert examined("return dx", "return dx + 0.0") == "survived"


def test_memory_that_was_never_written_is_no_right_answer():
    case = gate.catalogue()[0]
    with cases.surroundings(case):
        assert np.isnan(np.empty(3)).all()
        assert np.empty((2, 2), dtype=int).shape == (2, 2)
    assert inspect.isbuiltin(np.empty)


@pytest.mark.parametrize("name", ["Linear", "UAN channel batch backprop data train", "Dropout train", "MSE"])
def test_a_check_is_left_out_only_where_its_claims_are_those_of_the_right_code(name):
    case = next(case for case in gate.catalogue() if case.name == name)
    claimed = cases.claims(case)
    report = gradcheck.check(case.make(), case.x, seed=cases.SEED, directions=cases.DIRECTIONS, jacobian=False)
    assert set(report.tensors) == set(claimed) - {"y"}
    for row in report.rows:
        along = gradcheck.direction(claimed[row.tensor].shape, row.seed)
        assert row.analytic == pytest.approx(float((claimed[row.tensor] * along).sum()), rel=1e-12, abs=1e-14)


def test_the_list_of_equivalent_slips_must_be_true():
    outcomes = [Outcome(LINEAR, "sign", "a -> b", "failed", "Linear"), Outcome(LINEAR, "sign", "c -> d", "survived")]
    killed, survived, gone = (f"layers/linear.py: Linear.backward: {text}" for text in ("a -> b", "c -> d", "e -> f"))
    assert gate.check_list(outcomes, {survived: "why"}, whole=True) == []
    assert gate.check_list(outcomes, {killed: "why"}, whole=True) == [
        f"listed as equivalent but killed (failed): {killed}"
    ]
    assert gate.check_list(outcomes, {gone: "why"}, whole=True) == [
        f"listed as equivalent but there is no such slip: {gone}"
    ]
    assert gate.check_list(outcomes, {gone: "why"}, whole=False) == []  # of a sample nothing can be said
    verdict = gate.Verdict(outcomes, {survived: "why"})
    assert verdict.ok
    assert not gate.Verdict(outcomes).ok
    assert "survived: layers/linear.py: Linear.backward: c -> d" in str(gate.Verdict(outcomes))
    assert page.table(verdict).splitlines()[-1] == "| all | 1 | 2 | 1 | 0 | 1 | 0 |"


def test_listed_slips_exist_and_have_reasons():
    listed = gate.load_equivalent()
    assert all(len(reason) > 40 for reason in listed.values())
    functions = {str(target): target for target in targets.functions()}
    for slip in listed:
        file, name, text = slip.split(": ", 2)
        assert text in [mutation.text for mutation in gate.slips(functions[f"{file}: {name}"])]


# --- the gate ---------------------------------------------------------------------------------------


def test_a_sample_of_slips_is_killed():
    verdict = gate.run(every=7)
    assert len(verdict.outcomes) > 50
    assert not verdict.survivors, str(verdict)
    assert not [error for error in verdict.errors if "listed" in error], str(verdict)


@pytest.mark.slow
def test_no_slip_survives():
    verdict = gate.run(processes=min(2, gate.usable_cores()))
    assert verdict.ok, f"{verdict}\ndocs/mutation.md tells what to do with survivors"
    files = {outcome.target.file for outcome in verdict.outcomes}
    assert files <= page.files(), "the table is old: PYTHONPATH=tests python -m mutation --write"
