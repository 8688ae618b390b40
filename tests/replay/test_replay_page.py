"""The page of a replay as Python makes it: which runs and numbers, which pages of the explorer; and that it is safe."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import recordings as toy

from uanref import replay
from uanref.derivations import find
from uanref.experiments.recordings import Found
from uanref.replay import data, jumps, moments
from uanref.stepping import explorer
from uanref.stepping.policy import policy


@pytest.fixture(scope="module")
def page() -> str:
    return replay.page([toy.recording("bn"), toy.recording("uan")])


def embedded(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def packed(page: str) -> Any:
    found = re.search(r'<script type="text/plain" id="pages">([A-Za-z0-9+/=]*)</script>', page)
    assert found
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


class Blocks(HTMLParser):
    """Collects the texts of styles and of scripts that run, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"style": [], "script": []}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in self.found and dict(attrs).get("type") is None else None
        if self.inside:
            self.found[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = None

    def handle_data(self, text: str) -> None:
        if self.inside:
            self.found[self.inside][-1] += text


def blocks(page: str) -> Blocks:
    reader = Blocks()
    reader.feed(page)
    return reader


# --- the page and its policy --------------------------------------------------------------------------


def test_the_policy_allows_the_pages_own_texts_and_those_of_the_pages_that_it_carries(page: str) -> None:
    reader, carried = blocks(page), packed(page)
    allowed = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    for name, text in carried["pages"].items():
        whole = re.sub("\ue000(\\d+)\ue000", lambda found: carried["texts"][int(found[1])], text)
        assert "\ue000" not in whole
        inner = blocks(whole)
        assert len(inner.found["script"]) > 10
        own = next(a["content"] for tag, a in inner.tags if a.get("http-equiv") == "Content-Security-Policy")
        for kind in ("style", "script"):
            for block in inner.found[kind]:
                (digest,) = re.findall(r"sha256-[^']+", policy([block], []))
                assert digest in str(allowed), name
                assert digest in str(own), name
        reader.found["style"] += inner.found["style"]
        reader.found["script"] += inner.found["script"]
    asked = re.findall(r"sha256-[^']+", str(allowed))
    needed = {
        d for kind in reader.found.values() for text in kind for d in re.findall(r"sha256-[^']+", policy([text], []))
    }
    assert set(asked) == needed


def test_nothing_is_loaded_and_no_markup_carries_a_style(page: str) -> None:
    for tag, attributes in blocks(page).tags:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:,")), tag


def test_every_script_is_on_the_page_and_ends_no_element(page: str) -> None:
    from importlib import resources

    from uanref.replay import build

    folder = resources.files("uanref.replay") / "page"
    assert {f.name for f in folder.iterdir() if f.name.endswith(".js")} == {
        n for room, n in build.SCRIPTS if room == "replay"
    }
    for room, name in build.SCRIPTS:
        code = (resources.files(f"uanref.{room}") / "page" / name).read_text("utf-8")
        assert '"use strict";' in code
        assert not re.search(r"</script|<!--", code, re.IGNORECASE), name
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import)\s*\(", code), name


def test_the_explorers_pages_are_whole_again_when_put_together(page: str) -> None:
    carried = packed(page)
    assert sorted(carried["pages"]) == ["bn 8 0", "uan 8 3"]
    text = re.sub("\ue000(\\d+)\ue000", lambda found: carried["texts"][int(found[1])], carried["pages"]["uan 8 3"])
    assert text == explorer.page(find("uan"), find("uan").example(m=8, c=1, k=3))
    assert '<script type="application/json" id="start">null</script>' in text


def test_what_the_runs_have_in_common_is_kept_once(page: str) -> None:
    carried = packed(page)
    assert len(set(carried["texts"])) == len(carried["texts"])
    one = replay.page([toy.recording("uan")])
    both = [toy.recording("uan"), toy.recording("uan", seed=1)]
    assert packed(replay.page(both)) == packed(one)


def test_a_long_training_of_a_deep_network_makes_no_page_beyond_a_megabyte() -> None:
    layers = [
        tuple(toy.layer(str(i), kind, 64, (0, 1, 2, 3), seed=i) for i in range(6)) for kind in ("BatchNorm", "UAN")
    ]
    runs = [toy.recording("bn", moments=64, layers=layers[0]), toy.recording("uan", moments=64, layers=layers[1])]
    made = replay.page(runs)
    assert len(made.encode()) < 1_000_000
    held = embedded(made, "data")
    assert held["every"] > 1
    for run, recorded in zip(held["runs"], runs, strict=True):
        assert run["steps"][-1] == recorded.steps[-1]
        assert run["steps"][:3] == recorded.steps[:: held["every"]][:3].tolist()


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">&\'"'


def test_labels_of_a_reader_inject_nothing() -> None:
    layer = toy.layer(HOSTILE, HOSTILE, prior_logits=None, mode="own")
    evil = toy.recording(HOSTILE, layers=(layer,), dataset=HOSTILE, model=HOSTILE, stopped=HOSTILE,
                         gradient_norms={HOSTILE: np.ones(12)})  # fmt: skip
    made = replay.page([evil, toy.recording("bn")])
    reader = blocks(made)
    assert {tag for tag, _ in reader.tags} == {tag for tag, _ in blocks(replay.page([toy.recording("bn")])).tags}
    assert all("alert" not in text for text in reader.found["script"])
    assert embedded(made, "data")["runs"][0]["layers"][0]["name"] == HOSTILE


# --- the numbers --------------------------------------------------------------------------------------


def test_the_page_holds_the_recorded_numbers() -> None:
    recorded = toy.recording("uan")
    (run,) = data.replay_data([recorded], 1_000_000)["runs"]
    np.testing.assert_array_equal(run["steps"], recorded.steps)
    np.testing.assert_allclose(run["loss"], recorded.loss, rtol=1e-4)
    for held, layer in zip(run["layers"], recorded.layers, strict=True):
        np.testing.assert_array_equal(held["counts"], layer.counts)
        for name, array in (("samples", layer.samples), ("componentMean", layer.component_mean),
                            ("momentVariance", layer.moment_variance), ("variance", layer.variance)):  # fmt: skip
            np.testing.assert_allclose(held[name], array, rtol=1e-4, err_msg=name)
    assert [epoch["step"] for epoch in run["epochs"]] == [40, 80]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "uan"),
        ({"shared_prior": True}, "uan-shared"),
        ({"mode": "learned", "moment_mean": None, "moment_variance": None}, "uan-learned"),
    ],
)
def test_the_derivation_of_a_mixture_computes_what_the_layer_did(changes: dict[str, Any], expected: str) -> None:
    from uanref import UAN

    layer = toy.layer("1", "UAN", **changes)
    assert moments.derivation_of(layer) == expected
    given = toy.inputs(layer, 7, 1)
    y = find(expected).trace(given)["y"].value
    norm = UAN(1, 3, statistics="learned" if expected == "uan-learned" else "batch")
    for name, value in (
        ("prior_logits", given["prior_logits"]),
        ("mean", given["mean"]),
        ("raw_variance", given["raw_variance"]),
    ):
        parameter = getattr(norm, name)
        parameter.value[...] = value.reshape(parameter.value.shape)
    norm.gamma.value[...], norm.beta.value[...] = given["gamma"], given["beta"]
    np.testing.assert_allclose(y, norm.forward(given["x"].astype(np.float32)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bn", {}),
        ("mn", {"posterior": "channel"}),
        ("uan", {}),
        ("uan", {"update": "em"}),
        ("uan", {"prior": "shared"}),
        ("uan", {"rescale": False}),
        ("uan-learned", {}),
    ],
)
def test_what_was_recorded_of_a_layer_gives_its_output_again(name: str, options: dict[str, Any]) -> None:
    """From a layer's forward pass through the recording into the derivation: a batch of eight is its own samples."""
    from uanref.layers import passes
    from uanref.models import make_norm
    from uanref.training import looking, recorded

    rng = np.random.default_rng(3)
    norm = make_norm(name, 2, rng=rng, options=options)
    assert norm is not None
    for parameter in norm.parameters().values():
        parameter.value[...] += rng.normal(0, 0.3, parameter.value.shape)
    (place,) = [dataclasses.replace(each, name="1") for each in looking.places(norm)]
    x = (3 + 2 * rng.normal(size=(8, 2))).astype(np.float32)
    looks = looking.Looks([place], 2)
    with passes.watching(looks):
        y = norm.forward(x)
    layer = recorded.stacked(place, [0, 1], recorded.of_looks(place, [recorded.on_host(looks.taken["1"])]))
    derivation = moments.derivation_of(layer)
    assert derivation is not None
    assert layer.kind == ("UAN (EM)" if options.get("update") == "em" else type(norm).__name__)
    for c in range(2):
        np.testing.assert_array_equal(layer.samples[0, :, c], x[:, c])
        traced = find(derivation).trace(toy.inputs(layer, 0, c))["y"].value
        np.testing.assert_allclose(traced[:, 0], y[:, c], rtol=1e-4, atol=1e-5)


def test_a_layer_that_does_not_divide_by_the_root_of_k_gets_it_back_through_gamma() -> None:
    scaled, plain = toy.layer("1", "UAN"), toy.layer("1", "UAN", rescale=False)
    of = {id(layer): find("uan").trace(toy.inputs(layer, 3, 0))["y"].value for layer in (scaled, plain)}
    beta = scaled.beta[3, 0]
    np.testing.assert_allclose(of[id(plain)] - beta, np.sqrt(toy.K) * (of[id(scaled)] - beta), rtol=1e-12)


@pytest.mark.parametrize("mode", ["sample", "joint", "gate", "public", "own"])
def test_what_is_no_function_of_a_channel_has_no_derivation(mode: str) -> None:
    layer = toy.layer("1", "BatchNorm", mode=mode)
    assert moments.derivation_of(layer) is None
    assert jumps.key(layer) is None
    made = replay.page([toy.recording("ln", layers=(layer,))])
    assert packed(made)["pages"] == {}


# --- which runs -----------------------------------------------------------------------------------------

RUNS = [
    Found(label, label.split(":")[0], int(label.split(":")[1]), 0.1, Path(label))
    for label in ("none:0", "none:3", "bn:0:0.01", "bn:0:0.1", "bn:3", "uan:0", "uan:3")
]
OWN = Found("my,norms.py:make:0", "my,norms.py:make", 0, 0.1, Path("own"))


def labels(found: Any) -> list[str]:
    return [one.label for one in found]


def test_the_first_of_bn_and_uan_are_shown_or_else_the_first_two() -> None:
    assert labels(replay.choose(RUNS)) == ["bn:0:0.01", "uan:0"]
    assert labels(replay.choose(RUNS[:4])) == ["bn:0:0.01", "bn:0:0.1"]
    assert labels(replay.choose(RUNS[:2])) == ["none:0", "none:3"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("uan:3, uan:0", ["uan:3", "uan:0"]),
        ("uan", ["uan:0"]),
        ("bn:0:0.1,none:3", ["bn:0:0.1", "none:3"]),
        ("bn:0,bn:3", ["bn:0:0.01", "bn:3"]),
        ("my,norms.py:make:0,uan:0", ["my,norms.py:make:0", "uan:0"]),
        ("uan:0,my,norms.py:make", ["uan:0", "my,norms.py:make:0"]),
    ],
)
def test_runs_are_named_by_their_labels_or_by_how_those_begin(wanted: str, expected: list[str]) -> None:
    assert labels(replay.choose([*RUNS, OWN], wanted)) == expected


@pytest.mark.parametrize("wanted", ["bn:7", "gn", "", "bn:0,", ",uan", "u", "bn:"])
def test_a_run_that_there_is_not_is_named_with_those_there_are(wanted: str) -> None:
    there = "there are none:0, none:3, bn:0:0.01, bn:0:0.1, bn:3, uan:0, uan:3"
    with pytest.raises(ValueError, match=re.escape(there)):
        replay.choose(RUNS, wanted)


def test_three_runs_are_too_many() -> None:
    with pytest.raises(ValueError, match="choose two"):
        replay.choose(RUNS, "bn:0,bn:3,uan:0")


def test_a_run_without_a_norm_layer_has_nothing_to_show() -> None:
    bare = dataclasses.replace(toy.recording("none"), layers=())
    with pytest.raises(ValueError, match="no norm layer"):
        replay.page([bare])
    assert [len(run["layers"]) for run in embedded(replay.page([bare, toy.recording("uan")]), "data")["runs"]] == [0, 2]
    with pytest.raises(ValueError, match="one run or two"):
        replay.page([])
