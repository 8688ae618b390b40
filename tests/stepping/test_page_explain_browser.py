"""Entries that explain themselves, in a real browser: by mouse and keyboard, forward and backward."""

from __future__ import annotations

# ruff: noqa: F811  a fixture's name stands for what it makes
from typing import Any

import numpy as np
import pytest
from support import browser
from test_page_browser import Page, page, shared  # noqa: F401  fixtures

from uanref.derivations import find
from uanref.derivations.mistakes import mistakes, plant
from uanref.stepping import markup

GO = """const { state } = explorer;
const at = state.road.findIndex((stop) => stop.node === arguments[0] && stop.phase === arguments[1]);
at >= 0 ? state.go(at) : state.select(arguments[0]);"""


def numbers(page: Page, selector: str) -> list[float]:
    return [float(element.get_attribute("data-value")) for element in page.all(selector)]


def entries(page: Page, selector: str) -> list[Any]:
    return page.all(f"{selector} button.entry")


def marked(page: Page, selector: str, name: str) -> list[int]:
    found: list[int] = page.script(
        "return [...document.querySelectorAll(arguments[0] + ' td')].flatMap((cell, i) => "
        "cell.classList.contains(arguments[1]) ? [i] : [])",
        selector,
        name,
    )
    return found


def test_a_click_on_a_value_shows_the_sum_and_its_sources(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace(numerical=False)
    page.script(GO, "mu", "forward")
    entries(page, "#value")[1].click()
    x = trace["x"].value[:, 1]
    assert numbers(page, ".forward .from") == pytest.approx(list(x))
    assert numbers(page, ".forward .own") == [1, 5]
    assert page.one(".forward .result").text == markup.number_text(float(x.mean()))
    assert [button.get_attribute("data-entry") for button in page.all(".forward .from")] == ["1", "3", "5", "7", "9"]
    assert "x, sample 2, channel 2" in page.all(".forward .from")[1].get_attribute("aria-label")
    assert marked(page, "#inputs [data-name=x]", "source") == [1, 3, 5, 7, 9]
    assert marked(page, "#value", "picked") == [1]
    assert entries(page, "#value")[1].get_attribute("aria-pressed") == "true"
    # It follows the numbers.
    page.script("explorer.state.edit('x', 1, -7.5)")
    assert page.one(".forward .result").text == markup.number_text(float((x[1:].sum() - 7.5) / 5))
    assert page.all(".forward .from")[0].text.endswith("−7.500")
    page.shot("explain-value-desktop-light")
    # A source leads to its node, where it is picked; an input explains that it is given.
    page.all(".forward .from")[0].click()
    assert page.current() == "x"
    assert page.script("return document.activeElement === document.querySelectorAll('#value input')[1]")
    page.one("#reset").click()


def test_a_gradient_adds_up_what_each_user_sends(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace(numerical=False)
    page.script(GO, "centred", "backward")
    entries(page, "#gradient")[3].click()
    parts = trace["centred"].contributions
    assert [line.get_attribute("data-user") for line in page.all(".backward .sum")[:2]] == list(parts)
    assert all(line.text.startswith("+=") for line in page.all(".backward .entry-explained .sum"))
    assert numbers(page, ".backward .part-value") == pytest.approx([part.ravel()[3] for part in parts.values()])
    gradient = trace["centred"].gradient
    assert gradient is not None
    assert numbers(page, ".backward .result") == pytest.approx([gradient.ravel()[3]])
    page.shot("explain-gradient-desktop-light")
    source = next(button for button in page.all(".backward .from") if button.get_attribute("data-kind") == "gradient")
    name, entry = source.get_attribute("data-name"), int(source.get_attribute("data-entry"))
    source.click()
    assert page.current() == name
    assert marked(page, "#gradient", "picked") == [entry]
    assert numbers(page, ".backward .result") == pytest.approx([np.ravel(trace[name].gradient)[entry]])


def test_the_loss_leads_to_the_upstream_gradient_and_a_sum_on_its_way_is_told(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace(numerical=False)
    page.script(GO, "loss", "loss")
    entries(page, "#value")[0].click()
    assert numbers(page, ".forward .result") == pytest.approx([float((trace.upstream * trace.output).sum())])
    assert "4 more" in page.one(".forward .more").text
    source = next(button for button in page.all(".forward .from") if button.get_attribute("data-name") == "g")
    entry = int(source.get_attribute("data-entry"))
    source.click()
    assert page.script(
        "return document.activeElement === document.querySelectorAll('#weights input')[arguments[0]]", entry
    )
    # Behind x_hat, only one of the two parts of the gradient of `centred` has arrived.
    page.script(GO, "x_hat", "backward")
    place = "document.querySelector('.backward .explained')"
    page.script(f"explain.show(explorer.state, {{kind: 'gradient', name: 'centred', entry: 3}}, {place})")
    assert [line.get_attribute("data-user") for line in page.all(".backward .entry-explained .sum")] == ["x_hat"]
    assert "so far" in page.one(".backward .total").text
    assert numbers(page, ".backward .result") == pytest.approx([trace["centred"].contributions["x_hat"].ravel()[3]])


def test_in_the_game_no_sum_tells_where_the_mistake_is(page: Page) -> None:
    page.open("bn")
    page.script(
        "const { state } = explorer;"
        "state.plant(state.data.mistakes.find((m) => m.id === arguments[0]), {secret: true})",
        "std <- inverse_std: sign flipped",
    )
    page.script(GO, "std", "backward")
    entries(page, "#gradient")[0].click()
    text = page.one(".backward .entry-explained").text
    assert "planted unseen" in text
    assert "planted here" not in text
    right = page.derivation.trace(numerical=False)["std"].gradient
    assert right is not None
    assert markup.number_text(float(right[0])) not in text
    assert page.all(".backward .from") == page.all(".backward .sum") == []


def test_entries_are_picked_by_keyboard(page: Page) -> None:
    page.open("bn")
    page.script(GO, "scaled", "forward")
    assert len(page.all('#value button.entry[tabindex="0"]')) == 1
    page.script("document.querySelector('#value button.entry[tabindex=\"0\"]').focus()")
    page.press(page.key("ARROW_DOWN"), page.key("ENTER"))
    assert marked(page, "#value", "picked") == [2]
    page.press(*[page.key("ARROW_DOWN")] * 4, page.key("SPACE"))
    assert marked(page, "#value", "picked") == [1]
    assert numbers(page, ".forward .result") == pytest.approx([page.derivation.trace()["scaled"].value[0, 1]])
    assert page.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(page.key("ARROW_RIGHT"))
    assert page.current() == "y"
    assert page.all(".entry-explained") == []


def test_long_sums_open_and_the_dark_phone_holds_them(page: Page) -> None:
    browser.resize(page.driver, 390, 844, dark=True)
    page.open("conv")
    trace = page.derivation.trace(numerical=False)
    page.script(GO, "product", "forward")
    page.script("document.querySelector('#value button.entry').click()")
    shown = numbers(page, ".forward .from")
    assert len(shown) == 12
    assert "more" in page.one(".forward .more").text
    page.one(".forward .more").click()
    found = numbers(page, ".forward .from")
    assert sum(a * b for a, b in zip(found[::2], found[1::2], strict=True)) == pytest.approx(
        trace["product"].value.flat[0]
    )
    assert page.script("return document.documentElement.scrollWidth") <= 390
    page.shot("explain-conv-phone-dark")


def test_a_planted_mistake_is_what_is_explained(page: Page) -> None:
    page.open("bn")
    mistake = next(m for m in mistakes(find("bn")) if m.id == "std <- inverse_std: sign flipped")
    page.script("explorer.state.plant(explorer.state.data.mistakes.find((m) => m.id === arguments[0]))", mistake.id)
    page.script(GO, "std", "backward")
    entries(page, "#gradient")[0].click()
    wrong = plant(find("bn"), mistake, numerical=False)["std"].gradient
    assert wrong is not None
    assert numbers(page, ".backward .result") == pytest.approx([wrong.ravel()[0]])
    assert mistake.description in page.one(".backward .entry-explained .wrong").text
    page.one("#reset").click()
    assert numbers(page, ".backward .result") == pytest.approx([-wrong.ravel()[0]])
    assert page.all(".backward .entry-explained .wrong") == []


def test_escape_restores_an_entry_and_inputs_show_the_digits_of_tables(page: Page) -> None:
    page.open("bn")
    page.script(GO, "x", "")
    trace = page.derivation.trace(numerical=False)
    x = trace["x"].value.ravel()
    texts = [field.get_property("value") for field in page.all("#value input")]
    assert texts == [markup.number_text(float(number)) for number in x]
    assert any(text.startswith("−") for text in texts)
    page.set(page.all("#value input")[3], "-12.5")
    assert page.script("return explorer.state.inputs.x.data[3]") == -12.5
    page.press(page.key("ESCAPE"))
    assert page.script("return explorer.state.inputs.x.data[3]") == x[3]
    assert page.all("#value input")[3].get_property("value") == texts[3]
    assert page.script("return document.activeElement.tagName") != "INPUT"
    page.set(page.all("#value input")[3], "−2,")
    assert page.all("#value input")[3].get_attribute("aria-invalid") == "true"
    page.press(page.key("TAB"))
    assert page.all("#value input")[3].get_property("value") == "−2.000"  # the last number on the way to it
    clipped = page.script(
        "return [...document.querySelectorAll('.array td > *, .array td')].filter("
        "(e) => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert clipped == 0
