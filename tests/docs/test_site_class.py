"""What the site has for a class, as it is built: the first page's frame, sheets that print, files to keep, answers."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from support import browser

from uanref.derivations import find

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
SOURCES = sorted((CHECKOUT / "tutorials").glob("[0-9][0-9]*_*.md"))


@pytest.fixture(scope="module")
def driver():
    with browser.opened() as opened:
        opened.set_script_timeout(60)
        yield opened


def test_every_tutorial_says_its_time_and_offers_its_files(site):
    listed = (site / "tutorials.html").read_text("utf-8")
    for source in SOURCES:
        page = (site / "tutorials" / f"{source.stem}.html").read_text("utf-8")
        (time,) = re.findall(r'<p class="reading">(\d+) minutes', page)
        assert re.search(rf'href="tutorials/{source.stem}.html".*?, {time} min:', listed, re.DOTALL), source.stem
        for path in (source, source.with_suffix(".ipynb")):
            assert f'href="../downloads/{path.name}" download' in page
            assert (site / "downloads" / path.name).read_bytes() == path.read_bytes()
        offered = len(re.findall(r"^\*\*Explorer\*\* \[", source.read_text("utf-8"), re.MULTILINE))
        assert page.count('<iframe src="../explore/') >= offered


def test_all_answers_stand_apart(site):
    page = (site / "answers.html").read_text("utf-8")
    exercises = sum(source.read_text("utf-8").count("<details>") for source in SOURCES)
    assert len(re.findall(r"<strong>\d\d\w?\.\d+\.</strong>", page)) == exercises
    assert page.count("<strong>Answer.</strong>") == exercises


def typeset(driver, page):
    driver.get(page.as_uri())
    driver.execute_async_script("const done = arguments[0]; MathJax.startup.promise.then(() => done())")


def test_the_answers_fit_a_phone(site, driver):
    browser.resize(driver, 390, 844)
    typeset(driver, site / "answers.html")
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert not driver.find_elements("css selector", "[data-mjx-error]")


def test_each_sheet_is_one_page_of_paper(site, driver):
    browser.resize(driver, 1280, 900)
    typeset(driver, site / "handout.html")
    assert not driver.find_elements("css selector", "[data-mjx-error]")
    shown = driver.execute_script("return document.querySelectorAll('.sheet mjx-container').length")
    rules = sum(1 + len(step.backward) for name in ("bn", "uan") for step in find(name).steps)
    assert shown > rules
    alone = "document.querySelector('#sheet-' + arguments[0]).remove()"
    for removed in (None, "bn", "uan"):
        if removed:
            typeset(driver, site / "handout.html")
            driver.execute_script(alone, removed)
        printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
        count = len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed)))
        assert count == (1 if removed else 2)


def test_the_first_page_begins_with_a_mixture_to_drag(site, driver):
    browser.resize(driver, 1366, 768)
    driver.get((site / "index.html").as_uri())
    frame = browser.one(driver, "figure.explorer iframe")
    above = driver.find_elements("css selector", "article h2")
    assert frame.location["y"] < min(heading.location["y"] for heading in above)
    assert frame.location["y"] + frame.size["height"] < 768, "on one screen with the title"
    assert frame.get_attribute("title")
    full = [link.get_attribute("href") for link in driver.find_elements("css selector", "figure.explorer .alone a")]
    assert [link.rpartition("/")[2] for link in full] == ["uan.html#tab=mixture", "replay.html"], "all of each page"
    picture = browser.one(driver, "figure.explorer img.fallback")
    assert not picture.is_displayed()
    assert picture.get_attribute("alt")
    driver.switch_to.frame(frame)
    (peak, *_) = driver.find_elements("css selector", "#mixture svg .handle")
    if "only-mixture" in (site / "explore" / "uan.html").read_text("utf-8"):  # the page shows it alone on request
        box = driver.execute_script("return arguments[0].getBoundingClientRect().toJSON()", peak)
        assert 0 < box["top"] < box["bottom"] < driver.execute_script("return innerHeight")
    assert not browser.one(driver, "#notice").is_displayed()
    assert driver.execute_script("return document.getElementById('notice').hidden"), "the view is no wrong link"
    driver.switch_to.default_content()


def test_without_scripts_a_picture_stands_for_the_frame(site, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get((site / "index.html").as_uri())
        assert browser.one(driver, "figure.explorer img.fallback").is_displayed()
        assert not browser.one(driver, "figure.explorer iframe").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_ten_minutes_fold_their_answers(site, driver):
    browser.resize(driver, 390, 844)
    typeset(driver, site / "ten-minutes.html")
    folds = driver.find_elements("css selector", "details.solution")
    assert len(folds) == 3
    for fold in folds:
        assert not fold.get_attribute("open")
        driver.execute_script("arguments[0].open = true", fold)
        assert re.search(r"\d\.\d", fold.text)


def test_the_quiz_is_one_small_page_without_a_request(site, driver):
    assert (site / "quiz.html").stat().st_size < 100_000
    driver.get_log("performance"), driver.get_log("browser")
    driver.get((site / "quiz.html").as_uri())
    assert browser.one(driver, "#before").is_displayed()
    browser.requests(browser.messages(driver))
    assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
