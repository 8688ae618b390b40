"""The gate of the kernels: a slip in CUDA code makes the device differ from the host."""

from __future__ import annotations

import numpy as np
import pytest
from support import devices, requirements, turns

from mutation import cuda_cases, cuda_gate, gate, page
from mutation.cuda_gate import Plan
from uanref.kernels.cuda import launch


def require_emulator() -> None:
    """Skip (on CI: fail) where the emulator cannot run; it runs in processes of its own."""
    reason = "the emulator is not here" if devices.cupysim is None else devices.cupysim.missing()
    if reason:
        requirements.skip(reason)


# --- planting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", cuda_gate.files())
def test_a_slip_is_in_every_source_that_holds_its_text_and_goes_away(file):
    slip = cuda_gate.slips_of(file)[0]
    sources = [name.removesuffix(".cu") for name in cuda_gate.files() if name.endswith(".cu")]
    before = {name: launch.source(name) for name in sources}
    with cuda_gate.planted(file, slip.source):
        for name in sources:
            is_hit = file in ("common.cuh", f"{name}.cu")
            assert (launch.source(name) != before[name]) == is_hit
            assert (slip.source in launch.source(name)) == is_hit
    assert {name: launch.source(name) for name in sources} == before


def test_every_source_has_slips_in_every_kernel():
    for file in cuda_gate.files():
        declared = set(cuda_gate.functions_of(file))
        assert declared
        assert {slip.function for slip in cuda_gate.slips_of(file)} <= declared


# --- judging ----------------------------------------------------------------------------------------


def test_cases_have_names_of_their_own_and_run_on_the_host():
    cases = cuda_cases.cases()
    assert len({case.name for case in cases}) == len(cases)
    small = [case for case in cases if case.size < 1000 and "," in case.name]
    for case in small:
        found, again = case.run("numpy"), case.run("numpy")
        assert found.keys() == again.keys()
        assert cuda_cases.worst(found, again) == 0.0, case.name
        assert not any(np.isnan(array).any() for array in found.values()), case.name


def test_a_missing_tensor_and_a_nan_are_no_agreement():
    one = {"y": np.ones(3)}
    assert cuda_cases.worst(one, one) == 0.0
    assert cuda_cases.worst({}, one) == np.inf
    infinite = {"y": np.array([1.0, np.inf, 1.0])}
    assert cuda_cases.worst(infinite, infinite) == 0.0
    assert not cuda_cases.worst(one, infinite) <= cuda_cases.TOLERANCE
    assert not cuda_cases.worst({"y": -infinite["y"]}, infinite) <= cuda_cases.TOLERANCE
    assert np.isnan(cuda_cases.worst({"y": np.array([1.0, np.nan, 1.0])}, one))
    assert cuda_cases.worst({"y": np.array([1.0, 1.0, 1.0 + 1e-10])}, one) > cuda_cases.TOLERANCE


def test_what_the_cases_leave_out_is_an_error():
    errors = cuda_gate.gaps(Plan({}, set(), []), ["sgd.cu"])
    assert errors == ["no case launches sgd of sgd.cu"]
    wrong = Plan({0: {("sgd", "d", (("K", 3),))}}, {("sgd", "sgd")}, [])
    assert cuda_gate.gaps(wrong, ["sgd.cu"]) == ["sgd.cu is compiled with {'K': 3}, which no VARIANTS declare"]


def test_the_sample_is_a_partition():
    turns = [cuda_gate.sample("kernels/cuda/sgd.cu", 4, turn) for turn in range(4)]
    together = sorted(k for turn in turns for k in turn.get("sgd.cu", []))
    assert together == list(range(len(cuda_gate.slips_of("sgd.cu"))))
    assert len(turns[0]["sgd.cu"]) < len(together)


def test_survivors_of_an_earlier_run_are_chosen_and_no_others():
    first = cuda_gate.slips_of("sgd.cu")[0]
    name = f"{cuda_gate.PLACE}/sgd.cu: {first.function}: {first.text}"
    told = f"failed   sign      {name} #2   [SGD]\nsurvived sign      {name}   []\n\nsurvived: {name} #3\n9 s\n"
    names = cuda_gate.survivors(told)
    assert names == {name}
    assert cuda_gate.sample(names=names) == {"sgd.cu": [0]}
    assert cuda_gate.sample(names=set()) == {}


def test_listed_slips_exist_and_have_reasons():
    listed = gate.load_equivalent(cuda_gate.EQUIVALENT)
    assert all(len(reason) > 40 for reason in listed.values())
    assert cuda_gate.stale(listed) == []
    assert cuda_gate.stale({"kernels/cuda/sgd.cu: sgd: a -> b": "why"}) == [
        "listed as equivalent but there is no such slip: kernels/cuda/sgd.cu: sgd: a -> b"
    ]


# --- the gate ---------------------------------------------------------------------------------------

PROBES = {
    "right": ("", "survived"),
    "sign": ("theta - (scalar)lr * g => theta + (scalar)lr * g", "failed"),
    "outside": ("moved[i] = => moved[i] = moved[size] =", "failed"),  # of the array, where nobody looks
    "unwritten": ("moved[i] = => if (i != 7) moved[i] =", "failed"),
    "endless": ("moved[i] = => while (size > 0) moved[i] =", "hung"),
    "crash": ("moved[i] = => moved[1ll << 40] =", "raised"),
    "no program": ("moved[i] = => moved[i] + =", "refused"),
}


@pytest.mark.slow
def test_each_kind_of_slip_is_told_apart():
    require_emulator()
    assert cuda_gate.in_a_process(_probes, PROBES) == {name: status for name, (_, status) in PROBES.items()}


def _probes(probes: dict[str, tuple[str, str]]) -> dict[str, str]:
    number = next(i for i, case in enumerate(cuda_gate.catalogue()) if case.name == "SGD")
    plan = cuda_gate.make_plan([number])
    assert plan.errors == []
    found = {}
    text = (cuda_gate.FOLDER / "sgd.cu").read_text(encoding="utf-8")
    for name, (change, _) in probes.items():
        before, _, after = change.partition(" => ")
        assert not change or text.count(before) == 1
        changed = text.replace(before, after) if change else text
        found[name], _ = cuda_gate.examine(plan, "sgd.cu", changed, [number])
    return found


@pytest.mark.slow
def test_no_slip_survives():
    require_emulator()
    # Of the sample, a quarter a commit; all of it with UANREF_WHOLE=1.
    share = 1 if turns.whole() else 4
    every, turn = share * cuda_gate.EVERY, turns.number(share) * cuda_gate.EVERY
    verdict = cuda_gate.run(processes=min(2, gate.usable_cores()), every=every, turn=turn)
    assert verdict.ok, f"{verdict}\ndocs/mutation.md tells what to do with survivors"
    files = {outcome.target.file for outcome in verdict.outcomes}
    assert files <= page.files(page.KERNELS), "the table is old: PYTHONPATH=tests python -m mutation --cuda --write"
