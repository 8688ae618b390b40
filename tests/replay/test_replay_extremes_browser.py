"""What no training ought to record, on the replay's page: no NaN is drawn, and no axis is lost to one moment."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from support import recordings as toy
from support import turns
from support.replay_page import Page

MOMENTS = 12
BN, UAN = toy.recording("bn", moments=MOMENTS), toy.recording("uan", seed=1, moments=MOMENTS)


def changed(layer: Any, **parts: Any) -> Any:
    return dataclasses.replace(layer, **parts)


def constant(layer: Any, at: float, eps: float) -> Any:
    same = {
        n: np.full_like(getattr(layer, n), at)
        for n in ("mean", "samples", "moment_mean")
        if getattr(layer, n) is not None
    }
    none = {
        n: np.zeros_like(getattr(layer, n)) for n in ("variance", "moment_variance") if getattr(layer, n) is not None
    }
    counts = np.zeros_like(layer.counts)
    counts[..., 16] = 100
    ends = {"low": np.full_like(layer.low, at - 0.5), "high": np.full_like(layer.high, at + 0.5)}
    return changed(layer, **same, **none, **ends, counts=counts, eps=eps)


def times(layer: Any, factor: float, shift: float = 0.0) -> Any:
    """A layer whose activations are all multiplied and moved, in float32."""
    places = {n: getattr(layer, n).astype(float) * factor + shift for n in ("low", "high", "mean", "samples")}
    parts = {**places, "variance": layer.variance.astype(float) * factor**2}
    return changed(layer, **{n: np.minimum(part, 3e38).astype(np.float32) for n, part in parts.items()})


EXTREMES = {
    "constant": [constant(one.layers[0], 2.0, 1e-5) for one in (BN, UAN)],
    "constant, nothing added": [constant(one.layers[0], 0.0, 0.0) for one in (BN, UAN)],
    "1e30": [times(one.layers[0], 1e30) for one in (BN, UAN)],
    "no weight, no variance": [changed(UAN.layers[0], raw_variance=np.full_like(UAN.layers[0].raw_variance, -200),
                                       prior_logits=1e4 * UAN.layers[0].prior_logits)],
}  # fmt: skip


@pytest.mark.parametrize("name", turns.part(list(EXTREMES), 2))
def test_what_has_no_number_is_not_drawn(page: Page, name: str) -> None:
    page.open(*(toy.recording(str(i), layers=(layer,), moments=MOMENTS) for i, layer in enumerate(EXTREMES[name])))
    page.script("replay.time.go(6)")
    film = page.script("return [...replay.film.domain, ...replay.film.density, ...replay.film.output]")
    assert np.isfinite(np.array(film, float)).all(), film
    assert film[0] < film[1]
    assert film[2] < film[3]
    assert film[4] < film[5]
    wrong = page.script("return [...document.querySelectorAll('svg *')].filter((e) => /NaN|Infinity|undefined/.test("
                        "e.textContent + [...e.attributes].map((a) => a.value))).map((e) => e.outerHTML)")  # fmt: skip
    assert wrong == []
    bars = page.script(
        "return [...document.querySelectorAll('.run1 .bar')].map((e) => Number(e.getAttribute('height')))"
    )
    assert max(bars) > 20, "the histogram is seen"


def test_a_moment_before_a_divergence_does_not_stretch_the_axis_of_the_others(page: Page) -> None:
    layer, far = BN.layers[0], times(BN.layers[0], 1e15)
    names = ("low", "high", "mean", "variance", "samples")
    last = {n: np.concatenate([getattr(layer, n)[:-1], getattr(far, n)[-1:]]) for n in names}
    page.open(BN)
    axes = page.scale()
    page.open(toy.recording("bn", moments=MOMENTS, layers=(changed(layer, **last),), stopped="the loss is not finite"))
    assert page.scale()[0][1] < 2 * axes[0][1]
    assert page.scale()[0][0] > 2 * axes[0][0]
    assert "beyond the axis" not in page.one(".run .plot").text
    page.script("replay.time.go(11)")
    assert "beyond the axis: −" in page.one(".run .plot").text
    assert "e15" in page.one(".run .plot").text
    assert page.numbers(1)["batch mean"] == pytest.approx(far.mean[-1, 0], rel=1e-4)


def test_a_narrow_channel_far_from_0_keeps_its_histogram(page: Page) -> None:
    narrow = times(BN.layers[0], 1e-3, 100.0)
    page.open(toy.recording("bn", moments=MOMENTS, layers=(narrow,)))
    low, high = page.scale()[0]
    assert low == pytest.approx(narrow.low.min() - 0.03 * (high - low), abs=0.05 * (high - low))
    bars = np.array(page.script("return replay.film.frames[0][4].bars.map((bar) => [bar.x, bar.wide])"))
    wide = (float(narrow.high[4, 0]) - float(narrow.low[4, 0])) / 32
    np.testing.assert_allclose(bars[:, 1], wide, rtol=1e-3)
    np.testing.assert_allclose(bars[:, 0], narrow.low[4, 0] + wide * np.arange(32), atol=1e-2 * wide)


def test_many_layers_do_not_make_the_curves_longer_than_the_screen(page: Page) -> None:
    norms = {f"block.{i}.conv": np.geomspace(1, 1e-3, MOMENTS) for i in range(40)}
    page.open(toy.recording("bn", moments=MOMENTS, gradient_norms=norms))
    box = page.one("#curves").rect
    assert box["y"] + box["height"] <= 768
    assert page.script("const e = document.querySelector('#curves'); return e.scrollHeight > 2 * e.clientHeight")


def test_numbers_at_an_axis_keep_apart_however_long_they_are(page: Page) -> None:
    page.open(*(toy.recording(n, moments=MOMENTS, layers=(times(BN.layers[0], 20_000.0),)) for n in ("bn", "uan")))
    between = page.script(
        "return [...document.querySelectorAll('.run1 svg.plot text[text-anchor=middle]')]"
        ".map((e) => e.getBoundingClientRect()).map((b) => [b.top, b.left, b.right])"
    )
    rows: dict[float, list[tuple[float, float]]] = {}
    for top, left, right in between:
        rows.setdefault(round(top), []).append((left, right))
    assert max(map(len, rows.values())) >= 2
    for row in rows.values():
        assert all(first[1] < second[0] for first, second in itertools.pairwise(row)), row
