"""Two runs that are not alike, on the replay's page: what stands beside what, and what is said of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support import browser
from support import recordings as toy
from support.replay_page import Page

MOMENTS = 12
BN, UAN = toy.recording("bn", moments=MOMENTS), toy.recording("uan", seed=1, moments=MOMENTS)


def norms(*names: str) -> dict[str, np.ndarray]:
    """Gradient norms of layers of these names, each of its own size."""
    return {name: np.full(MOMENTS, 1.0 + int(name)) for name in names}


def beside(page: Page) -> dict[str, list[str]]:
    """The panels of gradient norms: what is said of both runs in each, by the names of their layers."""
    figures = page.all(".minis figure")
    return {
        figure.find_element("css selector", "svg").get_attribute("data-curve"): [
            part.text for part in figure.find_elements("css selector", ".readout b")
        ]
        for figure in figures
    }


def test_a_network_without_norms_has_its_layers_beside_the_same_layers(page: Page) -> None:
    """Without norms every place in a network is another one: layer 9 of the one is no norm, and not the other's."""
    layers = tuple(toy.layer(name, "BatchNorm", MOMENTS) for name in ("1", "5"))
    gradients = norms("0", "1", "4", "5", "8")
    full = toy.recording("bn", moments=MOMENTS, layers=layers, gradient_norms=gradients)
    bare = dataclasses.replace(toy.recording("none", moments=MOMENTS, gradient_norms=norms("0", "3", "5")), layers=())
    page.open(full, bare)
    assert beside(page) == {
        "gradient layer 0": ["1", "1"],
        "gradient norm 1": ["2", "none"],
        "gradient layer 4 | 3": ["5", "4"],
        "gradient norm 5": ["6", "none"],
        "gradient layer 8 | 5": ["9", "6"],
    }
    # Of another network the name counts, for norms and other layers apart.
    page.open(full, dataclasses.replace(bare, model="cnn"))
    found = beside(page)
    assert found["gradient layer 3"] == ["none", "4"]
    assert found["gradient norm 5"] == ["6", "none"]
    assert found["gradient layer 5"] == ["none", "6"]


def test_runs_of_other_batches_and_lengths_say_so(page: Page) -> None:
    short = toy.recording("uan", moments=5, steps=np.arange(5) * 7, steps_per_epoch=4, epochs=())
    page.open(BN, short)
    page.script("replay.time.go(replay.time.steps.indexOf(20))")
    assert page.one("#position").text == "step 20 of 110, epoch 0.5 | 5"
    assert [cell.text for cell in page.all("#table thead th")] == ["", "bn, seed 0", "uan, seed 0, step 14"]
    assert not page.one(".run.run2 .stopped").is_displayed()
    page.script("replay.time.go(replay.time.steps.indexOf(30))")
    assert page.one(".run.run2 .stopped").text == "This run ended. Its last recorded moment, step 28, stays."
    assert not page.one(".run.run1 .stopped").is_displayed()


@pytest.mark.parametrize("width", [1366, 1024])
def test_the_drawings_begin_at_one_height_whatever_is_told_above_one(page: Page, width: int) -> None:
    browser.resize(page.driver, width, 768)
    page.open(
        BN, toy.recording("uan", moments=6, stopped="the loss is not finite in step 57: " + "lower the rate " * 6)
    )
    page.script("replay.time.go(9)")
    assert page.one(".run.run2 .stopped").rect["height"] > 30
    tops = {plot.rect["y"] for plot in page.all(".run .plot")}
    assert len(tops) == 1
    assert "Both runs have the same axes" in page.one("#honest").text


def test_channels_that_one_run_has_stand_in_order(page: Page) -> None:
    narrow, wide = (toy.layer("1", "BatchNorm", MOMENTS, channels) for channels in ((0, 16), (0, 8, 24)))
    page.open(*(toy.recording("bn", moments=MOMENTS, layers=(layer,)) for layer in (narrow, wide)))
    assert [option.text for option in page.all("#channel option")] == ["0", "8", "16", "24"]
    page.choose("channel", "16")
    assert page.one(".run.run2 .why").text == "This run has no such layer or channel."
    assert page.one(".run.run2 .why").rect["y"] == pytest.approx(page.one(".run.run1 .drawing").rect["y"], abs=4)


def test_of_one_run_no_axes_are_said_to_be_alike(page: Page) -> None:
    page.open(UAN)
    assert "same axes" not in page.one("#honest").text


def test_all_of_the_loss_is_drawn_where_it_is(page: Page) -> None:
    loss = np.array([2.5449, *np.linspace(2.4, 0.1, MOMENTS - 1)])
    page.open(dataclasses.replace(BN, loss=loss))
    path = page.one("[data-curve=loss] .line").get_attribute("d")
    across, down = np.array([point.split() for point in path[1:].split("L")], float).T
    assert len(across) == MOMENTS
    top, bottom, most = 6, 90, 2.6
    np.testing.assert_allclose((bottom - down) / (bottom - top) * most, loss, atol=0.02)


@pytest.mark.parametrize("width", [1366, 1024, 390])
def test_no_layers_name_is_cut_short(page: Page, width: int) -> None:
    browser.resize(page.driver, width, 500)
    small = {str(i): np.full(MOMENTS, 0.00123 + 0.001 * i) for i in range(8, 16)}
    page.open(*(dataclasses.replace(one, gradient_norms=small) for one in (BN, UAN)))
    found = page.script(
        "return [...document.querySelectorAll('.minis figcaption > span:first-child')]"
        ".map((e) => [e.textContent, e.scrollWidth <= e.clientWidth])"
    )
    assert ["layer 12", True] in found
    assert [name for name, whole in found if not whole] == []


def told(page: Page) -> str:
    return str(
        page.script("return [...document.querySelectorAll('#runs svg text')].map((e) => e.textContent).join('; ')")
    )


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("joint", "one for all channels"), ("gate", "a gate for each image"), ("sample", "no mixture")],
)
def test_only_of_a_norm_without_a_mixture_it_is_said_that_there_is_none(page: Page, mode: str, expected: str) -> None:
    layer: Any = toy.layer("1", "BatchNorm", MOMENTS, mode=mode)
    page.open(toy.recording("mn", moments=MOMENTS, layers=(layer,)))
    assert expected in told(page)
    assert ("no mixture" in told(page)) == (mode == "sample")
    assert page.one("#key").text.split("\n") == [
        "activations of the batch", "eight of them", "batch normalization: its one Gaussian",
    ]  # fmt: skip
