"""The gate: no slip in a backward pass survives the gradient checks, no slip in a CPU version the parity cases."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
from support import requirements, turns
from support.heavy import every

import uanref
from mutation import cases, gate, page, parity, single, targets
from mutation.gate import Outcome
from mutation.operators import Mutation
from mutation.targets import Target, planted
from uanref import backend, gradcheck
from uanref.kernels.cpu import blocks
from uanref.kernels.cpu.threads import pool
from uanref.layers.sums import sum_rows
from uanref.norms import mixture_constraints, uan_public

LINEAR = Target("layers/linear.py", "Linear.backward")


def changed(target: Target, old: str, new: str) -> ast.FunctionDef:
    source = ast.unparse(target.tree)
    assert source.count(old) == 1
    tree = ast.parse(source.replace(old, new)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree


# --- planting ---------------------------------------------------------------------------------------


def test_a_planted_slip_is_seen_by_every_importer_and_goes_away():
    target = Target("norms/mixture_constraints.py", "softplus_backward")
    one = np.ones((3, 1))
    right = mixture_constraints.softplus_backward(one, one)
    old = ast.unparse(target.tree).rpartition("return ")[2]
    with planted(target, changed(target, f"return {old}", f"return 2.0 * ({old})")):
        assert np.array_equal(mixture_constraints.softplus_backward(one, one), 2.0 * right)
        assert np.array_equal(uan_public.softplus_backward(one, one), 2.0 * right)  # imported by name long ago
    assert np.array_equal(uan_public.softplus_backward(one, one), right)


@pytest.mark.parametrize("in_version", [False, True])
def test_a_slip_is_in_the_definition_or_in_its_version_alone(in_version):
    """Both have the same name; which one runs, a setting tells."""
    file = "kernels/cpu/sums.py" if in_version else "layers/sums.py"
    target, x = Target(file, "sum_rows"), np.ones((2, 3))
    tree = ast.parse("def sum_rows(z):\n    return 0.0").body[0]
    with planted(target, tree):
        for plain in (False, True):
            with backend.plain(plain):
                is_hit = plain != in_version
                assert (np.ndim(sum_rows(x)) == 0) == is_hit
    assert np.array_equal(sum_rows(x), [3.0, 3.0])


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
    backward = inspect.unwrap(uanref.Linear.backward)
    code = backward.__code__
    layer, x = uanref.Linear(2, 2, dtype="float64"), np.ones((1, 2))
    layer.forward(x)
    with pytest.raises(KeyError), planted(LINEAR, changed(LINEAR, "return dx", "raise KeyError")):
        layer.backward(x)
    assert backward.__code__ is code


# --- finding ----------------------------------------------------------------------------------------


def test_backward_code_is_found_by_what_runs_in_backward_passes_alone():
    found = {str(target) for target in gate.plan().targets}
    assert {
        "layers/linear.py: Linear.backward",
        "layers/conv.py: backward",
        "layers/window.py: add_patches",
        "norms/mixture_weights.py: weights_backward",
        "norms/mixture_weights.py: posterior_backward",
        "norms/standardize.py: standardize_backward",
        "losses.py: cross_entropy_backward",
        "kernels/cpu/columns.py: gradients_by_columns",
        "kernels/cpu/columns.py: gradients_by_correlation",
        "kernels/cpu/columns.py: add_columns",
        "kernels/cpu/mixture_blocks.py: posterior_backward",
    } <= found
    # Both passes use these: a slip there changes the function itself, not its derivative.
    both = {"norms/mixture_weights.py: weights", "kernels/cpu/mixture_blocks.py: posterior"}
    assert not {"layers/conv.py: columns", *both} & found
    # These only say that a subclass must define them.
    assert not {"layers/layer.py: Layer.backward", "losses.py: Loss.backward"} & found


def test_each_text_is_judged_where_it_runs():
    for target, numbers in gate.plan().targets.items():
        ways = {gate.catalogue()[i].way for i in numbers}
        assert ways == ({"cut", "whole"} if target.is_version else {"plain"}), target


def test_the_settings_of_a_case_hold_inside_it_alone():
    usual = blocks.BLOCK_SAMPLES
    for case in gate.catalogue()[:3]:
        with cases.surroundings(case):
            assert backend.is_plain() == (case.way == "plain")
            assert (1 if case.way == "cut" else usual) == blocks.BLOCK_SAMPLES
        assert usual == blocks.BLOCK_SAMPLES
    assert [case.way for case in gate.catalogue()[:3]] == list(cases.WAYS)


@pytest.mark.slow
def test_every_function_of_the_versions_is_judged():
    """By the gradient checks or by parity; what is in neither plan is an error, or left out by name."""
    requirements.require_cupy()  # what versions do on a device is judged on the strict double
    together = {*gate.plan().targets, *parity.plan().targets}
    left = {target for target in targets.functions() if target.is_version} - together
    assert {target.file for target in left} == set(parity.LEFT_OUT)
    assert parity.plan().errors == []
    assert not set(gate.plan().targets) & set(parity.plan().targets)


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
    report = gradcheck.check(
        case.make(), case.x, seed=cases.SEED, directions=cases.DIRECTIONS, jacobian=False, at="given"
    )
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
    requirements.require_cupy()
    listed = gate.load_equivalent()
    assert all(len(reason) > 40 for reason in listed.values())
    backward, forward = ({str(target): target for target in plan.targets} for plan in (gate.plan(), parity.plan()))
    for slip in listed:
        file, name, text = slip.split(": ", 2)
        function = f"{file}: {name}"
        target = backward.get(function) or forward[function]
        slips = [*gate.slips(target, on_device=function in forward), *single.faults(target.tree)]
        assert text in [mutation.text for mutation in slips], slip


# --- versions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new", "status"),
    [
        ("normalize", "out += shift_", "pass", "failed"),
        ("normalize", "out += shift_", "out += shift_.T.T", "survived"),
        ("normalize", "out += shift_", "out += no_such_name", "raised"),
    ],
)
def test_a_slip_in_a_version_makes_it_differ_from_its_definition(name, old, new, status):
    target = Target("kernels/cpu/batch.py", name)
    numbers = parity.plan().targets[target][:20]
    assert parity.examine(target, Mutation("", "", changed(target, old, new)), numbers)[0] == status


def test_parity_cases_cut_batches_and_use_threads(monkeypatch):
    pools = []
    monkeypatch.setattr(blocks, "pool", lambda: pools.append(1) or pool())
    case = next(case for case in parity.catalogue() if case.large and case.path == "norms.batch.normalize")
    parity.check(case)
    assert pools


# --- the gate ---------------------------------------------------------------------------------------

# What CI examines of each commit: a third, another one for the next; the whole with UANREF_WHOLE=1.
SHARE = 1 if turns.whole() else 3
DUE = {"processes": min(2, gate.usable_cores()), "every": SHARE, "turn": turns.number(SHARE)}


def test_a_sample_of_slips_is_killed():
    verdict = gate.run(every=70, turn=turns.number(70))
    assert len(verdict.outcomes) >= 5
    assert not verdict.survivors, str(verdict)
    assert not [error for error in verdict.errors if "listed" in error], str(verdict)


# --- float32 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", every(10, [i for i, case in enumerate(gate.catalogue()) if case.way != "cut"]))
def test_every_case_gives_in_float32_what_it_gives_in_float64(number):
    """To 1e-3 of each tensor, but for a gradient that is 0 by cancellation; else a fault of 1 % could hide."""
    case = gate.catalogue()[number]
    assert single.passes(number)
    for name, (expected, most) in single.allowed(number).items():
        scale = float(np.abs(np.where(np.isfinite(expected), expected, 0.0)).max(initial=0.0))
        assert most <= max(1e-3 * scale, 1e-5), (case.name, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fault_in_float32_alone_passes_the_gradient_checks_and_fails_here(dtype):
    """The two that were planted and missed: MSE's and class-adaptive normalization's backward, 1 % off in float32."""
    for file, name, case_name in (
        ("losses.py", "MSE.backward", "MSE"),
        ("neighbours/clade.py", "ClassAdaptiveNorm.backward", "ClassAdaptiveNorm"),
    ):
        target = Target(file, name)
        number = next(i for i, case in enumerate(gate.catalogue()) if case.name == case_name)
        tree = single.faults(target.tree)[0].tree
        source = ast.unparse(tree)
        assert source.count("times(") == 1
        only_here = source.replace("times(", f"times_if('{dtype}', ")
        single.allowed(number)
        with planted(target, ast.parse(only_here).body[0]):
            assert cases.passes(gate.catalogue()[number]) == (dtype == "float32")
            assert single.passes(number) == (dtype == "float64")


def test_each_result_has_a_fault():
    tree = ast.parse("def f(x):\n    if x:\n        return None\n    self.g.receive(x)\n    return 2 * x, (x, 1)").body[
        0
    ]
    assert [fault.text for fault in single.faults(tree)] == [
        "2 * x -> 1.01 times that in float32",
        "(x, 1) -> 1.01 times that in float32",
        "x -> 1.01 times that in float32",
    ]


def test_a_sample_of_faults_in_float32_is_killed():
    verdict = single.run(every=100, turn=turns.number(100))  # others for every commit
    assert len(verdict.outcomes) >= 3
    assert not verdict.survivors, str(verdict)


def test_a_sample_of_slips_in_versions_is_killed():
    requirements.require_cupy()
    verdict = parity.run(every=60, turn=turns.number(60))
    assert len(verdict.outcomes) >= 5
    assert not verdict.survivors, str(verdict)


@pytest.mark.slow
def test_no_slip_in_a_version_survives():
    verdict = parity.run(**DUE)
    assert verdict.ok, f"{verdict}\ndocs/mutation.md tells what to do with survivors"
    assert {outcome.target.file for outcome in verdict.outcomes} <= page.files(page.VERSIONS)


@pytest.mark.slow
def test_no_fault_survives_in_float32():
    verdict = single.run(**DUE)
    assert verdict.ok, f"{verdict}\ndocs/mutation.md tells what to do with survivors"
    assert {outcome.operator for outcome in verdict.outcomes} >= {"float32", "sign"}
    assert {outcome.target.file for outcome in verdict.outcomes} <= page.files(page.SINGLE)


@pytest.mark.slow
def test_no_slip_survives():
    verdict = gate.run(**DUE)
    assert verdict.ok, f"{verdict}\ndocs/mutation.md tells what to do with survivors"
    files = {outcome.target.file for outcome in verdict.outcomes}
    assert files <= page.files(), "the table is old: PYTHONPATH=tests python -m mutation --write"
