"""What a step of each norm costs: what is planned, computed and told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from rich.console import Console
from support.devices import Device

from uanref import backend
from uanref.experiments import cost, cost_report, sweep
from uanref.experiments.cost import EXPERIMENT, METHODS, kept_bytes, plan
from uanref.experiments.experiment import Cell
from uanref.models import NORMS
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN


@pytest.mark.parametrize(("scale", "seeds"), [("tiny", 1), ("small", 5), ("paper", 5)])
def test_the_plan_changes_one_factor_at_a_time(scale, seeds):
    configs = plan(scale, None)
    assert len({json.dumps(one, sort_keys=True) for one in configs}) == len(configs)
    assert {one["seed"] for one in configs} == set(range(seeds))
    assert {one["norm"] for one in configs} == set(NORMS) - {"none"}
    middle = {axis: configs[0][axis] for axis in cost.AXES}
    for one in configs:
        assert sum(one[axis] != middle[axis] for axis in cost.AXES) <= 1
        assert one["norm"] in cost.WITH_COMPONENTS or one["components"] == middle["components"]
    for axis in cost.AXES:
        assert len({one[axis] for one in configs}) > 1
    assert plan(scale, 1) == [one for one in configs if one["seed"] == 0]
    assert sum(one["norm_options"] == {"update": "em"} for one in configs) > 1


def test_cells_run_one_at_a_time():
    assert EXPERIMENT.jobs == 1
    assert sweep.at_most(EXPERIMENT, None) == sweep.at_most(EXPERIMENT, 8) == 1


@pytest.mark.parametrize(("norm", "options"), METHODS)
def test_a_result_follows_from_the_config_and_costs_are_measured(norm, options):
    config = next(one for one in plan("tiny", 1) if (one["norm"], one["norm_options"]) == (norm, options))
    done, again = (sweep.computed(EXPERIMENT.compute, config | {"backend": "numpy"}) for _ in range(2))
    assert done.result == again.result
    assert done.result["input_bytes"] == 4 * 8 * 8 * 4 * 4
    assert done.result["kept_bytes"] >= done.result["input_bytes"]
    assert 0 < done.measured["step_seconds"] < done.measured["seconds"]
    assert done.measured["peak_bytes"] > 2 * done.result["input_bytes"]  # y and dx at least
    assert done.result["parameters"] >= 16 - 16 * (norm == "uan-public")
    assert done.measured["threads"] == 1


def test_what_is_kept_is_counted_once_each():
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2), dtype=np.float32)
    layer = BatchNorm(3, affine=False)
    most = x.nbytes + 2 * 3 * 8  # x of which rows are a view, and two moments, at most in double
    assert x.nbytes < kept_bytes(layer, x) <= most
    assert not layer._pending
    with backend.plain():  # and neither the setting nor a version changes it
        assert kept_bytes(layer, x) == kept_bytes(BatchNorm(3, affine=False), x)
    few, many = (kept_bytes(UAN(3, components), x) for components in (1, 8))
    assert x.nbytes < few < many < x.nbytes + 2000


def test_a_device_is_waited_for_and_its_memory_counted(accelerator: Device, monkeypatch):
    waited = []
    synchronize = backend.synchronize
    monkeypatch.setattr(backend, "synchronize", lambda: (waited.append(1), synchronize())[1])
    config = next(one for one in plan("tiny", 1) if one["norm"] == "uan")
    if not accelerator.has_kernels:
        monkeypatch.setattr(cost.device_timing, "peaks", lambda *_: (10**6, 2 * 10**6))  # it has no memory hook
    host = sweep.computed(EXPERIMENT.compute, config | {"backend": "numpy"})
    waited.clear()
    with backend.using("cupy"):
        result, measured = EXPERIMENT.compute(config)
    assert len(waited) > 4
    assert result == host.result
    assert measured["step_seconds"] > 0
    assert measured["peak_bytes"] > 2 * result["input_bytes"]


# --- what is told -----------------------------------------------------------------------------------------------------


def cell(norm, seconds, seed=0, options=None, components=3, channels=64, batch=64, peak=2**21):
    config = {"norm": norm, "norm_options": options or {}, "seed": seed}
    config |= {"components": components, "channels": channels, "batch_size": batch, "pixels": 8, "repeats": 5}
    result = {"parameters": 10, "kept_bytes": 3 * 2**18, "input_bytes": 2**19}
    return Cell(config, result, {"step_seconds": seconds, "peak_bytes": peak})


def some(mn=0.002, peak=2**22):
    return [
        one
        for seed in range(5)
        for one in (
            cell("bn", 0.0005, seed),
            cell("mn", mn + 1e-5 * seed, seed, peak=peak),
            cell("uan-joint", 0.001, seed),
            cell("uan", 0.0012, seed, {"update": "em"}),
            cell("uan-joint", 0.003, seed, components=8),
            cell("uan-joint", 0.004, seed, channels=256),
            cell("bn", 0.0009, seed, batch=256),
        )
    ]


def printed(cells):
    console = Console(width=80)
    with console.capture() as captured:
        for table in EXPERIMENT.tables(cells):
            console.print(table)
    return captured.get()


def test_tables():
    text = printed(some())
    assert max(map(len, text.splitlines())) <= 80
    rows = [[entry.strip() for entry in line.split("│")] for line in text.splitlines() if "│" in line]
    assert ["uan-joint", "1", "3"] in rows  # against K
    assert ["uan-joint", "1", "4"] in rows  # against channels
    assert ["bn", "0.5", "0.9"] in rows  # against batch
    assert ["uan-joint", "2", "2"] in rows  # memory against K
    titles = [str(table.title) for table in EXPERIMENT.tables(some())]
    assert titles[::3] == ["ms a step against K", "MiB at the peak of a step against K", "At the middle"]
    assert ["mn", "10", "1.50", "8.00", "4.04"] in rows  # at the middle
    assert ["uan em", "10", "1.50", "4.00", "2.40"] in rows
    assert EXPERIMENT.tables([]) == []
    assert "mn" in printed(some()[1:2])  # without bn there is nothing to compare with


@pytest.mark.parametrize(
    ("mn", "peak", "expected"),
    [
        (0.002, 2**22, ["supported", "supported"]),
        (0.00105, 2**21, ["not supported", "not supported"]),
        (0.0005, 1.15 * 2**21, ["not supported", "supported"]),
    ],
)
def test_verdicts_compare_like_with_like(mn, peak, expected):
    told = EXPERIMENT.verdicts(some(mn, peak))
    assert [verdict.verdict for verdict in told] == expected
    assert all(str(cost_report.MARGIN) in verdict.rule for verdict in told)
    assert math.isclose(cost_report.MARGIN, math.log(1.1), abs_tol=1e-3)


def test_too_few_cells_are_not_testable():
    for cells in ([], some()[:8], [one for one in some() if one.config["norm"] != "mn"]):
        assert {verdict.verdict for verdict in EXPERIMENT.verdicts(cells)} == {"not testable here"}


def test_the_picture_has_what_varies(tmp_path):
    assert EXPERIMENT.pictures(some(), tmp_path) == ["cost.png"]
    assert (tmp_path / "cost.png").stat().st_size > 5000
    assert EXPERIMENT.pictures([], tmp_path) == EXPERIMENT.pictures(some()[:3], tmp_path) == []
