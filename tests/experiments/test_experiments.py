"""Every experiment at its smallest scale, from the command to the pictures."""

from __future__ import annotations

import json
import time

import pytest

from uanref.cli import main
from uanref.experiments import collect, registry, sweep
from uanref.experiments.experiment import SCALES
from uanref.experiments.verdicts import VERDICTS


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.NAMES)
def test_every_experiment_runs_at_the_smallest_scale(name, tmp_path, capsys):
    start, cpu = time.perf_counter(), time.process_time()
    code = main(["experiment", name, "--scale", "tiny", "--jobs", "1", "--out", str(tmp_path), "--quiet"])
    took = f"{time.process_time() - cpu:.1f} s of CPU, {time.perf_counter() - start:.1f} s"
    out, err = capsys.readouterr()
    with capsys.disabled():
        print(f"\n{name}: {took}")
    assert (code, err) == (0, "")

    experiment = registry.find(name)
    found = collect.read([tmp_path]).groups[name, "tiny", "numpy"]
    assert [cell.config for cell in found] == sweep.plan(experiment, "tiny")
    for cell in found:
        assert {"seconds", "versions", "host", "date"} <= cell.measured.keys()
        assert cell.result
    tables = experiment.tables(found)
    assert tables
    assert all(table.row_count for table in tables)
    verdicts = experiment.verdicts(found)
    assert verdicts
    for verdict in verdicts:
        assert verdict.verdict in VERDICTS
        assert verdict.claim
        assert verdict.because
        assert verdict.rule or verdict.verdict == "not testable here"
        assert verdict.verdict.upper() in out
    pictures = sorted((tmp_path / name).iterdir())
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert max(map(len, out.splitlines())) <= max(80, len(f"Written to {tmp_path}: ") + 40 * (1 + len(pictures)))


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.NAMES)
def test_every_plan_is_data_without_a_cell_twice(name):
    experiment = registry.find(name)
    assert experiment.name == name
    assert 10 < len(experiment.question) < 200
    for scale in SCALES:
        plan = sweep.plan(experiment, scale)
        assert plan
        assert json.loads(json.dumps(plan, allow_nan=False)) == plan
        fewer, more = (sweep.plan(experiment, scale, seeds) for seeds in (1, 2))
        assert all(config in more for config in fewer)  # with more seeds a sweep goes on
