"""The replay's page in a real browser: what is drawn is what was recorded, and every moment leads into its derivation.

Pictures of it go into the folder that the variable UANREF_SCREENSHOTS names.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support import browser
from support import recordings as toy
from support.replay_page import Page, mixture_at

from uanref.derivations import find

MOMENTS = 12
HEIGHT = 196  # of the panel of densities
STYLES = (Path(__file__).parents[2] / "docs" / "_static" / "custom.css").read_text("utf-8")
FRAME = int(16 * float(re.search(r"figure\.explorer\.drag iframe { height: min\(([0-9.]+)rem", STYLES)[1])) - 2
"""The height of the landing page's frames without their border."""


BN, UAN = toy.recording("bn", moments=MOMENTS), toy.recording("uan", seed=1, moments=MOMENTS)


@pytest.mark.parametrize("t", [0, 7])
def test_the_drawn_curves_are_those_of_the_moment(page: Page, t: int) -> None:
    page.open(BN, UAN)
    page.choose("channel", "5")
    page.script("replay.time.go(arguments[0])", t)
    layer = UAN.layers[0]
    x, y = page.scale()
    grid = np.array(page.script("return replay.film.grid"))
    frame = page.script("const f = replay.film.frames[1][arguments[0]]; return {total: [...f.total], y: [...f.y], "
                        "posterior: f.posterior.map((row) => [...row]), sampleY: [...f.sampleY]}", t)  # fmt: skip
    parts, posterior, transformed = mixture_at(layer, t, 1, grid)
    np.testing.assert_allclose(frame["total"], parts.sum(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(frame["posterior"], posterior, atol=1e-3)
    np.testing.assert_allclose(frame["y"], transformed, atol=5e-3)
    samples = layer.samples[t, :, 1].astype(float)
    np.testing.assert_allclose(frame["sampleY"], mixture_at(layer, t, 1, samples)[2], atol=5e-3)
    # In pixels: the bold line, and batch normalization's Gaussian dashed in both runs.
    for run, kind, expected in (
        (2, "total", parts.sum(axis=0)),
        (2, "curve", parts[0]),
        (2, "single", stats.norm.pdf(grid, layer.mean[t, 1], np.sqrt(layer.variance[t, 1] + layer.eps))),
        (1, "single", stats.norm.pdf(grid, BN.layers[0].mean[t, 1], np.sqrt(BN.layers[0].variance[t, 1]))),
    ):
        across, down = page.drawn(run, kind)
        height = (20 + HEIGHT - down) / HEIGHT * y[1]
        np.testing.assert_allclose(height, np.minimum(expected, y[1]), atol=0.003 * y[1], err_msg=kind)
        assert np.ptp(across) == pytest.approx(across[-1] - across[0])
        np.testing.assert_allclose(x[0] + (across - across[0]) / np.ptp(across) * (x[1] - x[0]), grid, atol=0.01)
    dashes = page.script(
        "return [...document.querySelectorAll('.run .single')].map((e) => getComputedStyle(e).strokeDasharray)"
    )
    assert len(dashes) == 4
    assert "none" not in dashes
    of_y = page.script("return [...replay.film.frames[1][arguments[0]].single.y]", t)
    hat = (grid - layer.mean[t, 1]) / np.sqrt(layer.variance[t, 1] + layer.eps)
    np.testing.assert_allclose(of_y, layer.gamma[t, 1] * hat + layer.beta[t, 1], atol=2e-3)


def test_the_histogram_is_the_recorded_one_and_the_axes_stay(page: Page) -> None:
    page.open(BN, UAN)
    axes = page.scale()
    for t in (0, 5, 11):
        page.script("replay.time.go(arguments[0])", t)
        assert page.scale() == axes
        bars = page.script("return replay.film.frames[0][arguments[0]].bars.map((bar) => [bar.wide, bar.high])", t)
        wide, high = np.array(bars).T
        counts = BN.layers[0].counts[t, 0]
        np.testing.assert_allclose(wide * high * counts.sum(), counts, atol=0.05)
        assert len(page.all(".run.run1 .bar")) == len(counts)
        assert len(page.all(".run.run1 .rug")) == len(page.all(".run.run1 .dot")) == 8


def test_time_goes_by_slider_keys_curves_and_play(page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    page.open(BN, UAN)
    assert page.one("#position").text == "step 0 of 110, epoch 0"
    page.press(Keys.ARROW_RIGHT)
    assert page.one("#position").text == "step 10 of 110, epoch 0.3"
    page.press(Keys.END)
    page.press(Keys.ARROW_RIGHT)
    assert page.one("#position").text == "step 110 of 110, epoch 2.8"
    assert page.one("#time").get_attribute("aria-valuetext") == "step 110 of 110, epoch 2.8"
    # A click on a curve: step 60 of 110 lies there between the margins of 38 and 14.
    curve = page.one('[data-curve="loss"]')
    width, place = curve.size["width"], 60 / 110
    across = 38 + place * (width - 52) - width / 2
    ActionChains(page.driver).move_to_element_with_offset(curve, round(across), 0).click().perform()
    assert page.one("#position").text.startswith("step 60 of 110")
    for mark in page.all("#curves > figure .mark"):
        assert float(mark.get_attribute("d")[1:].split("V")[0].split()[0]) == pytest.approx(across + width / 2, abs=1)
    shown = [float(part.text.replace("−", "-")) for part in page.all("#curves > figure:first-child .readout b")]
    np.testing.assert_allclose(shown, [BN.loss[6], UAN.loss[6]], rtol=1e-3)
    page.press(" ")
    assert page.one("#play").get_attribute("aria-pressed") == "true"
    page.until(lambda: page.one("#position").text.startswith("step 80"), "two moments pass")
    page.press(" ")
    stopped = page.one("#position").text
    assert page.one("#play").text == "▶ Play"
    assert page.one("#position").text == stopped


def test_with_reduced_motion_play_is_one_moment_at_a_time(page: Page) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    page.open(BN, UAN)
    assert page.one("#play").text == "▶ Next moment"
    page.one("#play").click()
    assert page.one("#position").text.startswith("step 10 ")
    assert page.one("#play").get_attribute("aria-pressed") == "false"


def test_the_table_tells_the_numbers_and_the_pictures_are_described(page: Page) -> None:
    page.open(BN, UAN)
    page.choose("layer", "4: BatchNorm | UAN")
    page.script("replay.time.go(4)")
    assert page.one("#table caption").text == "layer 4 (BatchNorm | UAN), channel 0, step 40"
    layer, found = UAN.layers[1], page.numbers(2)
    assert found["loss of the batch"] == pytest.approx(UAN.loss[4], rel=1e-4)
    assert found["batch variance"] == pytest.approx(layer.variance[4, 0], rel=1e-4)
    prior = toy.softmax(layer.prior_logits[4, :, 0].astype(float))
    for k in range(toy.K):
        assert found[f"component {k + 1}: prior"] == pytest.approx(prior[k], rel=1e-4)
        assert found[f"component {k + 1}: mean"] == pytest.approx(layer.component_mean[4, k, 0], rel=1e-4)
        assert found[f"component {k + 1}: variance"] == pytest.approx(
            np.log1p(np.exp(layer.raw_variance[4, k, 0])), rel=1e-3
        )
        assert found[f"component {k + 1}: mean of its share of the batch"] == pytest.approx(
            layer.moment_mean[4, k, 0], rel=1e-4
        )
    assert set(page.numbers(1)) == {n for n in found if "component" not in n}
    label = page.one(".run.run2 .plot").get_attribute("aria-label")
    assert label.startswith("uan, seed 1, step 40")
    assert f"mean {layer.component_mean[4, 0, 0]:.4g}".replace("-", "−") in label
    assert "not fitted to the histogram" in page.one("#honest").text


@pytest.mark.parametrize(("run", "name"), [(2, "uan"), (1, "bn")])
def test_a_moment_leads_into_its_derivation(page: Page, run: int, name: str) -> None:
    page.open(BN, UAN)
    page.choose("channel", "5")
    page.script("replay.time.go(7)")
    page.one(f".run.run{run} .step-through").click()
    frame = page.one("#derivation iframe")
    page.driver.switch_to.frame(frame)
    page.until(lambda: page.script("return typeof explorer === 'object'"), "the explorer runs")
    held = page.script(
        "return Object.fromEntries(Object.entries(explorer.state.inputs).map(([n, v]) => [n, [...v.data]]))"
    )
    expected = toy.inputs(page.recordings[run - 1].layers[0], 7, 1)
    for each, value in expected.items():
        np.testing.assert_allclose(held[each], np.ravel(value), rtol=1e-4, err_msg=each)
    trace = find(name).trace({**expected, **{n: np.reshape(held[n], np.shape(v)) for n, v in expected.items()}})
    values = page.script(
        "return Object.fromEntries(Object.entries(explorer.state.traced.values).map(([n, v]) => [n, [...v.data]]))"
    )
    np.testing.assert_allclose(values["y"], trace["y"].value.ravel(), rtol=1e-9, atol=1e-12)
    page.until(
        lambda: page.script("return explorer.state.proven.every((n) => explorer.state.numerical(n))"), "proofs end"
    )
    assert set(page.script("return explorer.state.proven.map(explorer.state.state)")) == {"right"}
    if name == "uan":  # at each sample the replay's curve goes through the explorer's posterior
        posterior = np.exp(np.reshape(values["score"], (toy.K, 8)) - np.ravel(values["log_total"]))
        layer = page.recordings[run - 1].layers[0]
        drawn = mixture_at(layer, 7, 1, layer.samples[7, :, 1].astype(float))[1]
        np.testing.assert_allclose(posterior, drawn, atol=1e-3)
        page.driver.switch_to.default_content()
        grid, curve = page.script(
            "const f = replay.film; return [f.grid, f.frames[1][7].posterior.map((row) => [...row])]"
        )
        for k in range(toy.K):
            np.testing.assert_allclose(np.interp(held["x"], grid, curve[k]), posterior[k], atol=2e-3)
    page.driver.switch_to.default_content()
    page.shot(f"jump-{name}")
    page.one("#derivation button").click()
    assert not page.one("#derivation").is_displayed()
    assert page.one("#position").text.startswith("step 70")


def test_the_frame_of_a_derivation_is_all_there_is_and_keys_lead_into_it_and_out(page: Page) -> None:
    from selenium.webdriver import Keys

    def focused() -> bool:
        return bool(page.script("return document.activeElement.tagName === 'IFRAME'"))

    page.open(BN, UAN)
    page.script("replay.time.play()")
    page.script("document.querySelector('.run.run2 .step-through').focus()")
    page.press(Keys.ENTER)
    page.until(focused, "the focus goes into the frame")
    assert page.one("#play").get_attribute("aria-pressed") == "false"
    wide = page.script(
        "return [document.querySelector('iframe').getBoundingClientRect().right, document.documentElement.clientWidth]"
    )
    assert wide == [1366, 1366], "no bar of the page beneath stands beside the frame"
    page.driver.switch_to.frame(page.one("#derivation iframe"))
    assert not page.one("#link").is_displayed(), "what stands in a frame has no address to copy"
    cut = page.script(
        "return [...document.querySelectorAll('button')].filter((e) => e.offsetParent && !e.closest('main') && "
        "e.getBoundingClientRect().right > innerWidth).map((e) => e.textContent)"
    )
    assert cut == []
    before = page.script("return explorer.state.current")
    page.press(Keys.ARROW_RIGHT)
    assert page.script("return explorer.state.current") != before, "the explorer's keys work at once"
    page.press(Keys.ESCAPE)
    page.driver.switch_to.default_content()
    page.until(lambda: not page.one("#derivation").is_displayed(), "Escape leads back")
    assert page.script("return document.activeElement.className") == "step-through"
    page.press(Keys.ENTER)
    page.until(focused, "the focus goes into the frame")
    page.script("document.querySelector('#derivation button').focus()")
    page.press(Keys.ENTER)
    page.until(lambda: not page.one("#derivation").is_displayed(), "and so does the button")


def test_a_derivation_that_is_opened_again_at_once_is_there(page: Page) -> None:
    page.open(BN, UAN)
    step_through = "document.querySelector('.run.run2 .step-through').click()"
    focused = "return document.activeElement.tagName === 'IFRAME'"
    page.script(step_through)
    page.until(lambda: page.script(focused), "the focus goes into the frame")
    page.script(f"document.querySelector('#derivation').close(); {step_through}")
    page.until(lambda: page.script(focused), "and again, before the browser has told that the dialog was closed")
    page.script("return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    page.driver.switch_to.frame(page.one("#derivation iframe"))
    assert page.one("#position").is_displayed()
    page.driver.switch_to.default_content()


def test_a_network_without_norms_stands_beside_one_with_them(page: Page) -> None:
    bare = dataclasses.replace(toy.recording("none", moments=MOMENTS), layers=())
    page.open(bare, UAN)
    page.script("replay.time.go(6)")
    assert "no norm layer" in page.one(".run.run1 .why").text
    assert not page.one(".run.run1 .step-through").is_displayed()
    assert len(page.all(".run.run2 .plot path.total")) == 2
    shown = [float(part.text.replace("−", "-")) for part in page.all("#curves > figure:first-child .readout b")]
    np.testing.assert_allclose(shown, [bare.loss[6], UAN.loss[6]], rtol=1e-3)


@pytest.mark.parametrize(("kind", "told"), [
    ("UAN", "trained for the loss"), ("UAN (EM)", "EM moves this mixture"), ("MixtureNorm", "fitted to the batch"),
])  # fmt: skip
def test_what_is_said_of_a_mixture_depends_on_what_moves_it(page: Page, kind: str, told: str) -> None:
    page.open(toy.recording("uan", moments=MOMENTS, layers=(dataclasses.replace(UAN.layers[0], kind=kind),)))
    assert told in page.one("#honest").text
    assert len(page.all("#honest p")) == 1
    page.one(".step-through").click()
    page.until(page.one("#derivation p").is_displayed, "the pages are unpacked")
    assert ("EM moves" in page.one("#derivation p").text) == (kind != "UAN")
    page.script("document.querySelector('#derivation').close()")


def test_playing_is_smooth_and_the_first_drawing_comes_soon(page: Page) -> None:
    page.open(BN, UAN)
    assert page.script("return performance.getEntriesByType('navigation')[0].domInteractive") < 5000
    longest = page.script("""
        return Math.max(...replay.time.steps.map((_, t) => {
          const begun = performance.now();
          replay.time.go(t);
          document.body.getBoundingClientRect();
          return performance.now() - begun;
        }).sort((a, b) => a - b).slice(0, -2));""")
    assert longest < 50, "of twenty frames a second each has 50 ms"


def test_space_plays_with_the_slider_in_focus_and_the_position_is_not_told_meanwhile(page: Page) -> None:
    page.open(BN, UAN)
    page.one("#time").click()
    assert page.one("#position").get_attribute("aria-live") == "polite"
    page.press(" ")
    assert page.one("#play").get_attribute("aria-pressed") == "true"
    assert page.one("#position").get_attribute("aria-live") == "off"
    page.press(" ")
    assert page.one("#play").get_attribute("aria-pressed") == "false"


def test_a_run_that_stopped_says_where_and_stays_there(page: Page) -> None:
    short = toy.recording("uan", moments=6, stopped="the loss is not finite in step 57")
    page.open(BN, short)
    page.script("replay.time.go(2)")
    assert not page.one(".run.run2 .stopped").is_displayed()
    page.script("replay.time.go(9)")
    assert page.one(".run.run2 .stopped").text == (
        "This run stopped: the loss is not finite in step 57. Its last recorded moment, step 50, stays."
    )
    assert not page.one(".run.run1 .stopped").is_displayed()
    assert "uan, seed 0, step 50" in page.one(".run.run2 .plot").get_attribute("aria-label")


def test_a_norm_that_is_no_function_of_a_channel_shows_its_activations_alone(page: Page) -> None:
    evil = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    layer = toy.layer("1", evil, MOMENTS, mode="own")
    page.open(toy.recording(evil, layers=(layer,), dataset=evil, gradient_norms={evil: np.ones(MOMENTS)}))
    assert evil in page.one(".run h2").text
    assert "code of its own" in page.one(".why").text
    assert not page.one(".step-through").is_displayed()
    assert page.one("#honest").text == ""
    assert len(page.all(".plot rect.bar")) == 32
    assert not page.script("return window.hacked")


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1024, 768), (390, 844)])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits(page: Page, width: int, height: int, dark: bool) -> None:
    browser.resize(page.driver, width, height, dark)
    page.open(BN, UAN)
    page.script("replay.time.go(8)")
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    bottom = page.one(".run.run1 .plot").rect
    if width > 600:
        assert bottom["y"] + bottom["height"] <= height
        assert page.one("#honest").rect["y"] <= height
    cut = page.script(
        "return [...document.querySelectorAll('svg.plot text')].filter((e) => { const b = e.getBoundingClientRect(), "
        "s = e.closest('svg').getBoundingClientRect(); "
        "return b.width && (b.left < s.left - 1 || b.right > s.right + 1); })"
        ".map((e) => e.textContent)"
    )
    assert cut == []
    page.shot(f"replay-{width}{'-dark' if dark else ''}")


def test_the_short_view_fits_its_frame(page: Page) -> None:
    browser.resize(page.driver, 720, FRAME)
    page.open(BN, UAN, fragment="#short")
    assert page.script("return [document.documentElement.scrollHeight, document.documentElement.scrollWidth]") == [
        FRAME,
        720,
    ]
    assert not page.one("#curves").is_displayed()
    assert not page.one("#exact").is_displayed()
    assert page.one("#play").is_displayed()
    assert len(page.all(".run .plot")) == 2
    page.shot("replay-short")


# --- the explorer's mixture, alone in a frame -----------------------------------------------------------


def test_the_mixture_alone_fits_its_frame_and_has_a_gaussian_beside_it(page: Page) -> None:
    from uanref.stepping import explorer

    browser.resize(page.driver, 720, FRAME)
    path = page.folder / "uan.html"
    path.write_text(explorer.page(find("uan")), "utf-8")
    page.driver.get(path.as_uri() + "#only=mixture")
    shown = page.script("return [...document.body.children].filter((e) => e.offsetParent !== null).map((e) => e.id)")
    assert shown == ["mixture"]
    size = "return [document.documentElement.scrollWidth, document.body.scrollHeight]"
    assert page.script(size)[0] == 720
    assert page.script(size)[1] <= FRAME
    # More components than the frame holds: it scrolls down to the last slider, and not to the side.
    more = "const c = document.querySelector('#components'); c.value = 5; c.dispatchEvent(new Event('input'));"
    assert page.script(more + size)[0] <= 720
    last = page.script(
        "scrollTo(0, 1e6); return [...document.querySelectorAll('fieldset input')].pop().getBoundingClientRect().bottom"
    )
    assert 0 < last <= FRAME
    page.script(more.replace("= 5", "= 2") + "scrollTo(0, 0)")
    drawn = page.script(
        "const { drawn, batch } = explorer.channel; "
        "return {grid: drawn.grid, density: [...drawn.single.density], y: [...drawn.single.y], batch: batch}"
    )
    mean, deviation = np.mean(drawn["batch"]), np.sqrt(np.var(drawn["batch"]) + 1e-5)
    np.testing.assert_allclose(drawn["density"], stats.norm.pdf(drawn["grid"], mean, deviation), rtol=1e-9)
    np.testing.assert_allclose(drawn["y"], (np.array(drawn["grid"]) - mean) / deviation, rtol=1e-9, atol=1e-12)
    dashes = page.script(
        "return [...document.querySelectorAll('#plot .single')].map((e) => getComputedStyle(e).strokeDasharray)"
    )
    assert len(dashes) == 2
    assert "none" not in dashes
    assert "batch normalization" in page.one("#mixture .key").text
    page.shot("only-mixture")
