"""The recorded runs of the site: small, whole, and what docs/replay.md says of them is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uanref import replay
from uanref.training import recording

DOCS = Path(__file__).parents[2] / "docs"
TEXT = " ".join((DOCS / "replay.md").read_text("utf-8").replace("\\\n", " ").split())


@pytest.fixture(scope="module")
def runs():
    return {path.stem: recording.read(path) for path in sorted((DOCS / "replay").glob("*.npz"))}


def test_there_are_two_runs_of_the_command_that_the_page_names(runs):
    assert list(runs) == ["bn-0", "uan-0"]
    assert sum(path.stat().st_size for path in (DOCS / "replay").iterdir()) < 300_000
    for name, run in runs.items():
        assert f"{run.norm}-{run.seed}" == name
        told = f"--dataset {run.dataset} --model {run.model} --norms bn,uan --seeds 1 --epochs {len(run.epochs)} "
        assert told in TEXT
        assert not run.stopped
    page = replay.page(list(runs.values()))
    assert len(page.encode()) < 1_000_000
    assert '"every":1,' in page, "all moments are on the page"


def test_what_is_said_of_them_is_so(runs):
    scores = {100 * run.epochs[-1].validation_accuracy for run in runs.values()}
    assert all(f"Both end at {score:.1f} %" in TEXT for score in scores)
    layer = next(layer for layer in runs["uan-0"].layers if layer.name == "9")
    means = [f"{mean:.2f}".replace("-", "−") for mean in layer.component_mean[-1, :, 0]]
    assert f"mean {layer.mean[-1, 0]:.2f}, the components' means are {means[0]}, {means[1]} and {means[2]}" in TEXT
    moved = max(np.abs(one.component_mean - one.component_mean[0]).max() for one in runs["uan-0"].layers)
    assert f"by more than {np.ceil(100 * moved) / 100:.2f}" in TEXT
    changed = max(np.abs(one.mean - one.mean[0]).max() for one in runs["uan-0"].layers)
    assert changed > 2 * moved
