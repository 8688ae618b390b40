"""What a page holds of trainings that are too long, too deep or too wide for it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import recordings as toy

from uanref import replay
from uanref.experiments.recordings import Found
from uanref.replay import data


def held(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def deep(layers: int, moments: int = 60) -> Any:
    one = toy.layer("0", "UAN", moments, (0, 1, 2, 3))
    named = tuple(dataclasses.replace(one, name=str(i)) for i in range(layers))
    return toy.recording("uan", moments=moments, layers=named)


def test_a_deep_network_keeps_some_channels_of_every_layer() -> None:
    run = deep(60)
    page = replay.page([run, run])
    assert len(page.encode()) < 1_000_000
    found = held(page)
    assert found["channels"] < 4
    assert len(found["runs"][0]["steps"]) >= 8
    for layer, recorded in zip(found["runs"][0]["layers"], run.layers, strict=True):
        assert layer["channels"] == recorded.channels[: found["channels"]].tolist()
        first = found["every"]  # the second moment that is held
        np.testing.assert_array_equal(layer["counts"][1], recorded.counts[first, : found["channels"]])
        for name, array in (("samples", recorded.samples), ("componentMean", recorded.component_mean)):
            np.testing.assert_allclose(layer[name][1], array[first][..., : found["channels"]], rtol=1e-4, err_msg=name)


def test_moments_go_before_channels_and_what_fits_stays_whole() -> None:
    run = deep(2)
    whole = len(json.dumps(data.replay_data([run], 10**9)["runs"], separators=(",", ":")))
    assert [data.replay_data([run], room)[part] for room in (whole, whole - 1) for part in ("every", "channels")] == [
        1, 4, 2, 4,
    ]  # fmt: skip
    least = data.replay_data([run], whole // 40)
    assert least["channels"] == 1
    assert least["runs"][0]["steps"][-1] == run.steps[-1]


def test_what_fits_no_page_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"2 norm layers is too much for one page.*choose one run with --runs"):
        data.replay_data([deep(2)], 1000)


def test_a_mixture_too_wide_for_its_derivation_has_a_page_without_the_way_in() -> None:
    layer = toy.layer("1", "UAN", 12)
    names = ("prior_logits", "component_mean", "raw_variance", "moment_mean", "moment_variance")
    wide = dataclasses.replace(layer, **{name: np.repeat(getattr(layer, name), 30, axis=1) for name in names})
    found = held(replay.page([toy.recording("uan", layers=(wide, toy.layer("4", "UAN", 12)))]))
    assert [each["page"] for each in found["runs"][0]["layers"]] == [None, "uan 8 3"]
    assert np.shape(found["runs"][0]["layers"][0]["priorLogits"]) == (12, 90, 2)


def test_the_same_run_twice_is_no_pair() -> None:
    runs = [Found(f"{norm}:0", norm, 0, 0.1, Path(norm)) for norm in ("bn", "uan")]
    with pytest.raises(ValueError, match=r"--runs names bn:0 twice: .* bn:0, uan:0"):
        replay.choose(runs, "bn,bn:0")
