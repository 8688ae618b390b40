"""The site as a reader opens it: from files, with nothing from a network, with links that lead somewhere."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support import browser

from uanref.derivations import DERIVATIONS

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
TUTORIALS = sorted(path.stem for path in (CHECKOUT / "tutorials").glob("[0-9][0-9]*_*.ipynb"))
KINDS = (
    "index.html",
    "explorer.html",
    "ten-minutes.html",
    "teaching.html",
    "handout.html",
    "conventions.html",
    "neighbours.html",
    "tutorials/05_batch_normalization.html",
    "tutorials/10_uan.html",
    "api/norms.html",
    "api/commands.html",
    "genindex.html",
    "_modules/uanref/norms/uan.html",
)
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
    "image": "href",
    "use": "href",
}


class Page(HTMLParser):
    """What a page names: its anchors, its links, what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: defaultdict[str, int] = defaultdict(int)
        self.feed(text)

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in given}
        self.tags[tag] += 1
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag in LOADED and named.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loads += [named[name] for name in (LOADED[tag], "srcset") if name in named]
        elif tag == "link":
            self.links.append(named["href"])
        self.loads += re.findall(r"url\(([^)]*)\)", named.get("style", ""))


@cache
def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def pages(site: Path) -> list[Path]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 100
    return found


def is_outside(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme not in ("", "data")


def test_every_page_is_there(site):
    assert TUTORIALS
    for name in TUTORIALS:
        assert (site / "tutorials" / f"{name}.html").is_file()
    for derivation in DERIVATIONS:
        assert derivation.title in (site / "explore" / f"{derivation.name}.html").read_text("utf-8")
        assert f"explore/{derivation.name}.html" in read(site / "explorer.html").links
    for source in (CHECKOUT / "docs").glob("*.md"):
        assert (site / f"{source.stem}.html").is_file()


def test_no_page_loads_anything_from_outside(site):
    outside = [(page.name, address) for page in pages(site) for address in read(page).loads if is_outside(address)]
    assert not outside
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        named = re.findall(r"url\(\s*[\"']?([^)\"']*)", text) + re.findall(r"@import\s+[\"']([^\"']*)", text)
        assert not [address for address in named if is_outside(address)], sheet
    for page in pages(site):
        assert '"enableMenu": false' in page.read_text("utf-8") or "tex-svg.js" not in page.read_text("utf-8")


def test_every_link_and_every_asset_leads_somewhere(site):
    broken = []
    for page in pages(site):
        for address in read(page).links + read(page).loads:
            parts = urlsplit(address)
            if parts.scheme or address.startswith("//"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = target.is_relative_to(site.resolve()) and target.is_file()
            state = target.parent.name == "explore"  # what follows the # is read by the page's own script
            if not there or (
                target.suffix == ".html" and not state and unquote(parts.fragment) not in read(target).anchors
            ):
                broken.append((page.relative_to(site).as_posix(), address))
    assert not broken


def test_solutions_are_folded_and_pictures_shown(site):
    for name in TUTORIALS:
        text = (site / "tutorials" / f"{name}.html").read_text("utf-8")
        source = (CHECKOUT / "tutorials" / f"{name}.md").read_text("utf-8")
        folds = re.findall(r'<details class="solution">(.*?)</details>', text, re.DOTALL)
        assert len(folds) == source.count("<details>") > 0, name
        assert all("highlight" in fold for fold in folds), "the fold holds the code"
        assert "<strong>Solution</strong>" not in text
        stored = json.loads((CHECKOUT / "tutorials" / f"{name}.ipynb").read_text("utf-8"))
        drawn = sum("image/png" in out.get("data", {}) for cell in stored["cells"] for out in cell.get("outputs", ()))
        assert read(site / "tutorials" / f"{name}.html").tags["img"] >= drawn


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver():
    with browser.opened() as opened:
        yield opened


def typeset(driver, page):
    """Open a page from its file and wait for its formulas."""
    driver.get(page.as_uri())
    if "tex-svg.js" in page.read_text("utf-8"):
        browser.until(
            driver, lambda: driver.execute_script("return !!(window.MathJax && MathJax.startup.promise)"), "MathJax"
        )
        driver.execute_async_script("MathJax.startup.promise.then(arguments[0])")


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_formulas_are_set(site, driver, width):
    driver.set_script_timeout(60)
    driver.get_log("performance"), driver.get_log("browser")
    for dark in (False, True):
        browser.resize(driver, width, 900, dark)
        for name in KINDS:
            typeset(driver, site / name)
            assert not driver.find_elements("css selector", "[data-mjx-error], merror"), name
            formulas, shown = driver.execute_script(
                "return [document.querySelectorAll('.math').length, document.querySelectorAll('mjx-container').length]"
            )
            assert shown >= formulas, name
            wide = driver.execute_script(
                "return [...document.querySelectorAll('article *')]"
                ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
                " && !e.closest('.table-wrapper, pre, mjx-container')).map((e) => e.outerHTML.slice(0, 200))"
            )
            assert not wide, name
            assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
            if width == 1280:
                cut = driver.execute_script(
                    "return [...document.querySelectorAll('pre')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
                    ".map((e) => Math.max(...e.innerText.split('\\n').map((line) => line.length)))"
                )
                assert all(columns > 80 for columns in cut), f"{name}: 80 columns must not scroll"
    browser.requests(browser.messages(driver))
    assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_no_formula_is_refused(site, driver):
    driver.set_script_timeout(60)
    browser.resize(driver, 1280, 900)
    refused = []
    for page in pages(site):
        if "explore" in page.parts or "tex-svg.js" not in page.read_text("utf-8"):
            continue
        typeset(driver, page)
        errors = driver.find_elements("css selector", "[data-mjx-error]")
        refused += [(page.name, error.get_attribute("data-mjx-error")) for error in errors]
    assert not refused


@pytest.mark.parametrize(
    ("words", "found"),
    [("posterior", "08a · Mixtures of Gaussians"), ("UANPublic", "uanref.norms.uan_public.UANPublic")],
)
def test_search_works_from_files(site, driver, words, found):
    browser.resize(driver, 1280, 900)
    driver.get(f"{(site / 'search.html').as_uri()}?q={words}")
    browser.until(driver, lambda: "finished" in browser.one(driver, "#search-results").text, "the search")
    browser.until(driver, lambda: found in browser.one(driver, "#search-results").text, found)


def test_the_explorer_runs_in_its_frame(site, driver):
    browser.resize(driver, 1280, 900)
    driver.get((site / "explorer.html").as_uri())
    frame = browser.one(driver, "figure.explorer iframe")
    assert driver.execute_script("return scrollY") == 0, "the frame must not take the page with it"
    driver.execute_script("arguments[0].scrollIntoView()", frame)
    assert frame.size["height"] > 500
    driver.switch_to.frame(frame)
    browser.until(driver, lambda: driver.find_elements("css selector", "#forward"), "the explorer")
    first = browser.one(driver, "#position").text
    browser.one(driver, "#forward").click()
    browser.until(driver, lambda: browser.one(driver, "#position").text != first, "a step forward")
    driver.switch_to.default_content()


def test_the_menu_of_formulas_that_needs_a_network_is_off(site, driver):
    from selenium.webdriver import ActionChains

    browser.resize(driver, 1280, 900)
    typeset(driver, site / "tutorials" / "05_batch_normalization.html")
    formula = browser.one(driver, "mjx-container[display]")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", formula)
    ActionChains(driver).context_click(formula).perform()
    assert not driver.find_elements("css selector", ".CtxtMenu_Menu")
    assert formula.find_elements("css selector", "mjx-assistive-mml"), "a screen reader still finds the formula"
