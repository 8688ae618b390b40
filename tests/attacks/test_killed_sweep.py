"""A sweep that is killed at twenty random moments and gone on with: its cells are those of a sweep that nobody kills.

Seeded, as far as another process's moments can be. Real networks are trained, in two processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import toy_experiment

import uanref

KILLS = 20
TOTAL = 12
TESTS = Path(__file__).parents[1]
SCRIPT = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from support import toy_experiment
toy_experiment.install()
from uanref.cli import main
sys.exit(main())
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]


def start(out):
    options = ["--scale", "small", "--seeds", str(TOTAL // 2), "--jobs", "2", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(uanref.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "experiment", toy_experiment.NAME, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(out):
    """Return bytes and time of every finished cell's file."""
    found = {}
    for path in (out / "cells").glob("*.json"):
        found[path.name] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def wait(process, out, draw, seconds, there):
    """Wait for a moment: most are while cells come in, some while the command starts or ends."""
    if draw.random() < 0.25:
        time.sleep(draw.uniform(0.0, seconds))
        return
    wanted = draw.randint(min(there, TOTAL - 1), TOTAL - 1)
    while process.poll() is None and len(list((out / "cells").glob("*.json"))) < wanted:
        time.sleep(0.002)
    time.sleep(draw.uniform(0.0, 0.1))


def meant(out):
    """Return what must not depend on kills: config and result of every cell, as text, digit by digit."""
    cells = {name: json.loads(content) for name, (content, _) in finished(out).items()}
    return {name: json.dumps([cell["config"], cell["result"]]) for name, cell in cells.items()}


def test_a_sweep_killed_twenty_times_is_the_sweep_that_nobody_kills(tmp_path):
    begun = time.monotonic()
    whole = start(tmp_path / "whole")
    _, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    seconds = time.monotonic() - begun
    reference = meant(tmp_path / "whole")
    assert len(reference) == TOTAL
    losses = [loss for text in reference.values() for loss in json.loads(text)[1]["losses"]]
    assert len(set(losses)) == TOTAL  # or the comparison would see nothing

    draw, faults, midway, kills = random.Random(5), [], 0, 0

    def look(out, before, err):
        """Return the state of a folder, and note what should not be there."""
        now = finished(out)
        if changed := [name for name, state in before.items() if now.get(name) != state]:
            faults.append(f"after {kills} kills: {changed} were touched")
        if "Traceback" in err:
            faults.append(f"after {kills} kills: {err[-500:]}")
        return now

    while kills < KILLS:
        out, before = tmp_path / f"killed-{kills}", {}
        for _ in range(draw.randint(2, 4)):
            process = start(out)
            wait(process, out, draw, seconds, len(before))
            kills += process.poll() is None
            with contextlib.suppress(ProcessLookupError):
                draw.choice([os.kill, os.killpg])(process.pid, signal.SIGKILL)
            _, err = process.communicate(timeout=60)
            before = look(out, before, err)
            midway += 0 < len(before) < TOTAL
            if len(before) == TOTAL:
                break
        process = start(out)
        _, err = process.communicate(timeout=300)
        look(out, before, err)
        if process.returncode != 0:
            faults.append(f"after {kills} kills: exit code {process.returncode}: {err[-500:]}")
        if meant(out) != reference:
            faults.append(f"after {kills} kills: {len(meant(out))} cells, or other results")
    print(f"\nkilled sweeps: {kills} kills, {midway} of them midway, faults {len(faults)}")
    assert faults == []
    assert midway >= KILLS // 4
