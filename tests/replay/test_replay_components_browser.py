"""Mixtures of many components, and outputs far away, on the replay's page: each curve is known, no dot misplaced."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support import recordings as toy
from support.replay_page import Page

MOMENTS = 12
UAN = toy.recording("uan", moments=MOMENTS)
MIXTURE = ("prior_logits", "component_mean", "raw_variance", "moment_mean", "moment_variance")


def wide(components: int):
    """A run whose first norm layer has so many components."""
    layer = UAN.layers[0]
    parts = {name: np.repeat(getattr(layer, name), components, axis=1)[:, :components] for name in MIXTURE}
    parts["component_mean"] = parts["component_mean"] + np.linspace(-1, 1, components, dtype=np.float32)[None, :, None]
    return toy.recording("uan", moments=MOMENTS, layers=(dataclasses.replace(layer, **parts),))


def test_no_two_components_look_alike_and_the_key_tells_which_is_which(page: Page) -> None:
    page.open(wide(8))
    looks = (
        "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e))"
        ".map((style) => style.stroke + style.strokeDasharray)"
    )
    drawn = page.script(looks, ".run .curve:not(.posterior)")
    assert len(set(drawn)) == len(drawn) == 8
    assert page.script(looks, ".run .curve.posterior") == drawn
    assert page.script(looks, "#key .curve") == drawn
    assert page.one("#key").text.split("\n")[3:11] == ["component 1", "2", "3", "4", "5", "6", "7", "8"]


def test_components_too_many_to_step_through_are_shown_all_the_same(page: Page) -> None:
    page.open(wide(64))
    assert len(page.all(".run .curve.posterior")) == 64
    assert not page.one(".step-through").is_displayed()
    assert page.one(".why").text == "64 components are too many to step through their derivation."
    posterior = np.array(page.script("return replay.film.frames[0][4].posterior.map((row) => [...row])"))
    np.testing.assert_allclose(posterior.sum(axis=0), 1, rtol=1e-9)


def test_a_dot_beyond_its_panel_is_not_drawn_at_the_edge(page: Page) -> None:
    layer = UAN.layers[0]
    scaled = dataclasses.replace(layer, gamma=np.full_like(layer.gamma, 30.0))
    page.open(toy.recording("uan", moments=MOMENTS, layers=(scaled,)))
    page.script("replay.time.go(5)")
    low, high = page.script("return replay.film.output")
    ys = np.array(page.script("return [...replay.film.frames[0][5].sampleY]"))
    inside = (ys >= low) & (ys <= high)
    assert 0 < inside.sum() < 8
    assert len(page.all(".run .dot")) == inside.sum()
    far = dataclasses.replace(layer, beta=np.full_like(layer.beta, 500.0))
    page.open(toy.recording("uan", moments=MOMENTS, layers=(far,)))
    assert page.all(".run .dot") == []
    assert "y beyond the axis: 49" in page.one(".run .plot").text


@pytest.mark.parametrize("t", [0, 11])
def test_the_mixture_is_the_sum_of_its_components_and_posteriors_add_up_to_1(page: Page, t: int) -> None:
    page.open(wide(5))
    frame = page.script(
        "const f = replay.film.frames[0][arguments[0]]; return {total: [...f.total], "
        "density: f.density.map((row) => [...row]), posterior: f.posterior.map((row) => [...row])}", t
    )  # fmt: skip
    np.testing.assert_allclose(np.sum(frame["density"], axis=0), frame["total"], rtol=1e-9)
    np.testing.assert_allclose(np.sum(frame["posterior"], axis=0), 1, rtol=1e-9)
