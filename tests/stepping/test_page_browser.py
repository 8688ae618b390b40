"""The explorer's page in a real browser: steps, edits, mistakes, quiz, collapse, drags, keyboard; and nothing loaded.

Pictures of it go into the folder that the variable UANREF_SCREENSHOTS names.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special
from support import browser, turns

from uanref.derivations import Trace, find
from uanref.stepping import explorer, markup
from uanref.stepping.road import road

PATIENCE = 60  # seconds, on a busy machine


class Page:
    """A page of a derivation in a browser, in the words of a reader."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, name: str) -> None:
        self.derivation = find(name)
        path = self.folder / f"{name}.html"
        if not path.exists():
            explorer.write(path, explorer.page(self.derivation))
        self.driver.get(path.as_uri())

    def one(self, selector: str) -> Any:
        return browser.one(self.driver, selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def script(self, code: str, *args: Any) -> Any:
        return self.driver.execute_script(code, *args)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        return browser.until(self.driver, condition, what, PATIENCE)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def key(self, name: str) -> str:
        from selenium.webdriver import Keys

        found: str = getattr(Keys, name)
        return found

    def current(self) -> str:
        text: str = self.one("#panel h2 code").text
        return text

    def tab(self, name: str) -> None:
        """Choose a view beside the graph."""
        self.one(f"#tab-{name}").click()
        assert self.one(f"#{name}").is_displayed()

    def select(self, name: str) -> None:
        self.tab("panel")
        node = self.one(f'.node[data-name="{name}"]')
        self.script("arguments[0].scrollIntoView({block: 'center'})", node)
        node.click()
        assert self.current() == name

    def set(self, element: Any, value: float | str) -> None:
        """Type into a number field, over what stands there."""
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        element.send_keys(self.key("CONTROL"), "a")
        element.send_keys(str(value))

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        element = self.one(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        Select(element).select_by_value(value)

    def numbers(self, selector: str) -> list[float]:
        """All numbers of the tables below an element, with all their digits."""
        titles = self.script(
            "return [...document.querySelectorAll(arguments[0] + ' table.array td')].map((cell) => "
            "(cell.firstElementChild ?? cell).title)",
            selector,
        )
        return [float(title) for title in titles]

    def numbers_are_missing(self, selector: str) -> int:
        """How many entries below an element are no number."""
        return sum(np.isnan(number) for number in self.numbers(selector))

    def proven(self) -> None:
        """Wait until every numerical proof is computed."""
        self.until(lambda: "checking" not in self.one("#verdict").text, "the proofs end")

    def marks(self) -> dict[str, str]:
        """What each node of the graph is marked with."""
        found: dict[str, str] = self.script(
            "return Object.fromEntries([...document.querySelectorAll('.node')].map("
            "(n) => [n.dataset.name, n.querySelector('.mark').textContent]))"
        )
        return found

    def shot(self, name: str) -> None:
        """Take a picture of the whole page."""
        folder = Path(os.environ.get("UANREF_SCREENSHOTS") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.script("window.scrollTo(0, 0)")
        width, height = self.script("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 8000), "scale": 1}
        made = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        (folder / f"{name}.png").write_bytes(base64.b64decode(made["data"]))

    def view(self, name: str) -> None:
        """Take a picture of what is in view."""
        folder = Path(os.environ.get("UANREF_SCREENSHOTS") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(self.driver.get_screenshot_as_png())

    def holds(self, trace: Trace) -> None:
        """All values and gradients of the table are those of a trace in Python, to 1e-6."""
        for node in trace.nodes.values():
            near(self.numbers(f"#row-{node.name} .value"), node.value, f"value of {node.name}")
            if node.gradient is not None:
                near(self.numbers(f"#row-{node.name} .gradient"), node.gradient, f"gradient of {node.name}")


def slow(*names: str) -> list[Any]:
    """Return further derivations for a slow run: at a commit every second one of them, at another commit the others."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in turns.part(names, min(2, len(names)))]


def near(found: list[float], expected: Any, what: str) -> None:
    expected = np.ravel(expected)
    assert len(found) == len(expected) > 0, what
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(expected).max()), err_msg=what)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser.opened() as driver:
        yield Page(driver, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def page(shared: Page) -> Iterator[Page]:
    """The shared browser; after each test: no error on the console, no request but for the page itself."""
    browser.resize(shared.driver, 1280, 900)
    shared.driver.get_log("performance")
    shared.driver.get_log("browser")
    yield shared
    assert shared.driver.get_log("browser") == []
    sent = browser.messages(shared.driver)
    requested = browser.requests(sent)
    assert all(url.endswith(".html") for url in requested if url.startswith("file:")), requested
    sockets = [event for event in sent if "webSocket" in event["method"] or "webTransport" in event["method"]]
    assert not sockets
    assert shared.script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


# --- the nodes --------------------------------------------------------------------------------------


def test_each_node_shows_its_rules_its_numbers_and_its_proof(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace()
    for at, (name, node) in enumerate(trace.nodes.items()):
        page.select(name)
        assert page.one(".node[aria-current]").get_attribute("data-name") == name
        near(page.numbers("#panel #value"), node.value, name)
        if node.gradient is not None:
            near(page.numbers("#panel #gradient"), node.gradient, name)
            near(page.numbers("#panel #numerical"), node.numerical, name)
            assert float(page.one("#panel #error").text.replace("−", "-")) == pytest.approx(node.error, rel=0.1)
            for user, part in node.contributions.items():
                near(page.numbers(f'#contributions [data-user="{user}"]'), part, f"{user} to {name}")
        if at >= len(page.derivation.inputs):
            definition = page.derivation.node(name)
            text = page.one("#panel").text
            assert definition.meaning in text
            assert definition.source in text  # type: ignore[union-attr]
            assert f"{definition.file}:{definition.line}" in text  # type: ignore[union-attr]
            assert len(page.all("#panel .equation math")) == 1
            assert len(page.all("#back-rules li .scroll math")) == len(definition.backward)  # type: ignore[union-attr]
            for source in definition.inputs:  # type: ignore[union-attr]
                near(page.numbers(f'#inputs [data-name="{source}"]'), trace[source].value, f"{source}, put into {name}")


def test_the_ways_of_x_through_uan_are_shown_and_add_up(page: Page) -> None:
    page.open("uan")
    page.select("x")
    trace = page.derivation.trace()
    ways = {
        way: np.array(page.numbers(f'#named-ways [data-way="{way}"]'))
        for way in ("directly", "through the moments", "through the posterior")
    }
    near(list(sum(ways.values())), trace["x"].gradient, "sum of the ways")
    near(list(ways["through the posterior"]), trace["x"].contributions["offset"], "posterior")
    direct = (trace["x_hat"].gradient * trace["inverse_std"].value[:, None]).sum(0)  # the collapse's direct path
    near(list(ways["directly"]), direct, "direct")
    page.shot("uan-desktop-light")


def test_pointing_at_a_node_shows_what_it_depends_on_and_what_depends_on_it(page: Page) -> None:
    from selenium.webdriver import ActionChains

    page.open("bn")
    ActionChains(page.driver).move_to_element(page.one('.node[data-name="var"]')).perform()
    before = {node.get_attribute("data-name") for node in page.all(".node.before")}
    after = {node.get_attribute("data-name") for node in page.all(".node.after")}
    assert before == {"x", "mu", "centred", "squared"}
    assert after == {"std", "inverse_std", "x_hat", "scaled", "y", "loss"}
    assert {e.get_attribute("data-source") for e in page.all(".edge.before")} == {"x", "mu", "centred", "squared"}
    ActionChains(page.driver).move_to_element(page.one("h1")).perform()
    assert page.all(".node.before, .node.after") == []


# --- changing numbers -------------------------------------------------------------------------------


def test_an_edited_entry_changes_every_number_as_in_python(page: Page) -> None:
    page.open("uan")
    inputs = page.derivation.example()
    trace = page.derivation.trace()
    page.holds(trace)
    page.select("x")
    page.set(page.all("#value input")[2], 2.25)
    inputs["x"][1, 0] = 2.25
    page.proven()
    page.holds(page.derivation.trace(inputs, trace.upstream, numerical=False))
    # A constant, too, and the upstream gradient.
    page.select("eps")
    page.set(page.one("#value input"), 0.5)
    page.select("loss")
    page.set(page.all("#weights input")[3], -3)
    inputs["eps"] = np.asarray(0.5)
    upstream = trace.upstream.copy()
    upstream[1, 1] = -3
    page.proven()
    changed = page.derivation.trace(inputs, upstream)
    page.holds(changed)
    assert set(page.marks().values()) == {"✓", ""}
    worst = page.one("#verdict").text.split("numerical ones: ")[1].split(" ")[0]
    assert float(worst.replace("−", "-")) <= 1e-6
    page.one("#reset").click()
    page.holds(trace)
    page.select("y")
    assert page.numbers("#panel #gradient") == pytest.approx(list(trace.upstream.ravel()))


def test_what_is_no_number_is_refused_and_what_gives_none_is_told(page: Page) -> None:
    page.open("bn")
    page.select("eps")
    field = page.one("#value input")
    page.set(field, "e")
    assert field.get_attribute("aria-invalid") == "true"
    page.holds(page.derivation.trace(numerical=False))
    page.set(field, -100)
    page.proven()
    assert field.get_attribute("aria-invalid") is None
    assert page.marks()["x"] == "?"
    assert page.numbers_are_missing("#row-x .value") == 0
    assert page.numbers_are_missing("#row-x .gradient") == 10
    assert "No number" not in page.one("#panel").text  # of eps, a constant
    page.select("std")
    assert "No number" in page.one("#node-proof").text
    page.one("#reset").click()
    assert set(page.marks().values()) == {"✓", ""}


# --- the collapse -----------------------------------------------------------------------------------


def test_the_collapse_shows_probabilities_and_targets_beside_their_difference(page: Page) -> None:
    page.open("softmax-cross-entropy")
    trace = page.derivation.trace(numerical=False)
    page.tab("collapse")
    page.one("#line").send_keys(page.key("END"))
    names = ["d_loss", "softmax z", "t"]  # in the order of the line
    assert [part.get_attribute("data-of") for part in page.all("#collapse .put-in [data-of]")] == names
    shown = {of: page.numbers(f'#collapse .put-in [data-of="{of}"]') for of in names}
    p, t = np.exp(trace["log_p"].value), trace["t"].value
    near(shown["softmax z"], p, "p")
    near(shown["t"], t, "t")
    assert shown["d_loss"] == [1.0]
    near(page.numbers("#collapse .line-value"), (p - t) / len(p), "probabilities minus targets")


@pytest.mark.parametrize("name", ["bn", "uan", "layer-norm", "posterior", "uan-shared"])
def test_what_a_line_puts_in_is_the_trace_s(page: Page, name: str) -> None:
    page.open(name)
    trace = page.derivation.trace(numerical=False)
    page.tab("collapse")
    for _ in page.derivation.collapse[0].lines:
        for of in [part.get_attribute("data-of") for part in page.all("#collapse .put-in [data-of]")]:
            if of.startswith("softmax "):
                known = special.softmax(trace[of.removeprefix("softmax ")].value, 0)  # over the components
            else:
                known = trace[of.removeprefix("d_")].gradient if of.startswith("d_") else trace[of].value
            near(page.numbers(f'#collapse .put-in [data-of="{of}"]'), known, of)
        page.one("#line").send_keys(page.key("ARROW_RIGHT"))


@pytest.mark.parametrize("name", ["bn", "uan"])
def test_every_line_of_the_collapse_equals_the_one_before(page: Page, name: str) -> None:
    page.open(name)
    trace, (collapse, *_) = page.derivation.trace(numerical=False), page.derivation.collapse
    page.tab("collapse")
    slider = page.one("#line")
    page.script("arguments[0].scrollIntoView({block: 'center'})", slider)
    slider.send_keys(page.key("HOME"))
    for at, line in enumerate(collapse.lines):
        assert line.why in page.one(".lines li[aria-current]").text
        assert line.why in str(slider.get_attribute("aria-valuetext"))
        near(page.numbers("#collapse .line-value"), trace[collapse.name].gradient, f"line {at + 1}")
        assert len(page.all("#collapse .check .right")) == at
        assert page.all("#collapse .check .wrong") == []
        slider.send_keys(page.key("ARROW_RIGHT"))
    assert f"{len(collapse.lines)} of {len(collapse.lines)}" in page.one("#collapse").text


# --- one channel ------------------------------------------------------------------------------------

DRAWN = """
const { set, drawn, batch } = explorer.channel;
return { set, batch, grid: drawn.grid, y: drawn.y && [...drawn.y], batchY: drawn.batchY && [...drawn.batchY],
  posterior: drawn.posterior.map((row) => [...row]), prior: [...drawn.prior], variance: [...drawn.variance] };
"""


def mixture_holds(page: Page, name: str) -> dict[str, Any]:
    """What is drawn is what Python computes with the inputs that the reader has set."""
    drawn: dict[str, Any] = page.script(DRAWN)
    many = drawn["set"]["K"]
    column = {key: np.array(drawn["set"][key][:many])[:, None] for key in ("mean", "raw_variance", "prior_logits")}
    eps = find(name).example()["eps"]
    on_grid = find("posterior").trace({**column, "eps": eps, "x": np.array(drawn["grid"])[:, None]}, numerical=False)
    np.testing.assert_allclose(drawn["posterior"], on_grid["tau"].value[:, :, 0], atol=1e-9)
    np.testing.assert_allclose(drawn["variance"], on_grid["variance"].value[:, 0], rtol=1e-9)
    np.testing.assert_allclose(drawn["prior"], np.exp(on_grid["log_prior"].value[:, 0]), rtol=1e-9)
    if name != "posterior":
        x = np.array(drawn["batch"])
        inputs = {**column, "eps": eps, "x": x[:, None], "gamma": np.ones(1), "beta": np.zeros(1)}
        y = find(name).trace(inputs, numerical=False).output[:, 0]
        np.testing.assert_allclose(drawn["batchY"], y, rtol=1e-9, atol=1e-9)
        # The curve goes through the points, for it has the moments of the batch.
        np.testing.assert_allclose(np.interp(x, drawn["grid"], drawn["y"]), y, atol=0.02)
    return drawn


@pytest.mark.parametrize("name", ["uan", *slow("uan-learned", "posterior")])
def test_curves_follow_the_reader_who_drags_and_moves_sliders(page: Page, name: str) -> None:
    from selenium.webdriver import ActionChains

    page.open(name)
    page.tab("mixture")
    page.script("document.querySelector('#plot').scrollIntoView({block: 'center'})")
    start = mixture_holds(page, name)
    assert len(page.all("#plot .transform")) == (0 if name == "posterior" else 1)
    curve = page.one("#plot .curve").get_attribute("d")
    handle = page.one('#plot .peak[data-k="0"]')
    ActionChains(page.driver).click_and_hold(handle).move_by_offset(60, -30).release().perform()
    dragged = mixture_holds(page, name)
    assert dragged["set"]["mean"][0] > start["set"]["mean"][0] + 0.3
    assert dragged["prior"][0] > start["prior"][0] + 0.05
    assert page.one("#plot .curve").get_attribute("d") != curve
    side = page.one('#plot .side[data-k="1"]')
    ActionChains(page.driver).click_and_hold(side).move_by_offset(40, 0).release().perform()
    # The square stands one standard deviation beside the mean, and stays under the pointer.
    grid, width = start["grid"], page.one("#plot svg").size["width"] - 34 - 8
    moved_by = 40 * (grid[-1] - grid[0]) / width
    deviation = np.sqrt(mixture_holds(page, name)["variance"][1])
    assert deviation == pytest.approx(np.sqrt(start["variance"][1]) + moved_by, abs=0.03)
    slider = page.one('input[aria-label="Component 2: mean"]')
    slider.send_keys(*[page.key("ARROW_LEFT")] * 12)
    moved = mixture_holds(page, name)
    assert moved["set"]["mean"][1] < dragged["set"]["mean"][1] - 0.3
    page.one('input[aria-label="Component 1: prior"]').send_keys(page.key("HOME"))
    assert mixture_holds(page, name)["prior"][0] < 0.02
    for many in (1, 2, 3, 4, 5):
        page.one("#components").send_keys(page.key("HOME"), *[page.key("ARROW_RIGHT")] * (many - 1))
        mixture_holds(page, name)
        assert len(page.all("#plot .posterior")) == len(page.all("#mixture fieldset")) == many
    page.shot(f"{name}-five-components-desktop-light")


def test_a_peak_is_dragged_by_a_finger(page: Page) -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    browser.resize(page.driver, 390, 844)
    page.open("uan")
    page.tab("mixture")
    page.script("document.querySelector('#plot').scrollIntoView({block: 'center'})")
    start = mixture_holds(page, "uan")["set"]["mean"][0]
    actions = ActionBuilder(page.driver, mouse=PointerInput(POINTER_TOUCH, "finger"))
    finger = actions.pointer_action
    finger.move_to(page.one('#plot .peak[data-k="0"]')).pointer_down()
    for _ in range(5):
        finger.move_by(12, 0)
    finger.pointer_up()
    actions.perform()
    assert mixture_holds(page, "uan")["set"]["mean"][0] > start + 0.8
    assert page.script("return scrollX") == 0


def test_a_channel_of_the_example_can_be_drawn(page: Page) -> None:
    page.open("uan")
    page.tab("mixture")
    page.choose("#mixture select", "1")
    drawn = page.script(DRAWN)
    trace = page.derivation.trace(numerical=False)
    near(drawn["batchY"], trace.output[:, 1], "y of the second channel")
    # An edit of the inputs arrives there, too.
    page.select("beta")
    page.set(page.all("#value input")[1], 7)
    moved = trace.output[:, 1] - trace["beta"].value[1] + 7
    near(page.script(DRAWN)["batchY"], moved, "y with another shift")


# --- by keyboard, without a script, and on a phone --------------------------------------------------


def test_an_entry_far_away_leaves_the_drawn_channel_readable(page: Page) -> None:
    page.open("uan-learned")
    page.tab("mixture")
    page.script(
        """const select = document.querySelector("#mixture select");
        select.value = "0";
        select.dispatchEvent(new Event("change"));"""
    )
    for far in (40.0, 900.0, 1e7):
        page.script("explorer.state.edit('x', 0, arguments[0])", far)
        assert 6 <= len(page.all("#plot text")) <= 3 * (14 + 3) + 3, far
    page.script("explorer.state.edit('x', 0, 1e300)")
    assert page.one("#plot").text.startswith("No number")
    page.script("explorer.state.edit('x', 0, 0.5); explorer.state.edit('eps', 0, -5)")
    assert page.one("#plot").text.startswith("No number")
    page.script("explorer.state.edit('eps', 0, 1e-5)")
    assert len(page.all("#plot text")) >= 6


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    page.open("bn")
    keys = {"→": page.key("ARROW_RIGHT"), "←": page.key("ARROW_LEFT"), "Home": page.key("HOME"), "End": page.key("END")}
    nodes = [node.name for node in page.derivation.nodes]
    stops = [stop.node for stop in road(page.derivation)]
    for key, at in (("f", 1), (keys["→"], 2), ("b", 1), (keys["←"], 0), (keys["End"], -1), (keys["Home"], 0)):
        page.press(key)
        assert page.current() == stops[at]
    assert not page.one("#keys").is_displayed()
    page.press("?")
    assert "forward" in page.one("#keys").text
    page.press("?")
    assert not page.one("#keys").is_displayed()
    # Tab goes through the page; Enter on a node of the graph selects it.
    reached = set()
    for _ in range(120):
        page.press(page.key("TAB"))
        focused = page.driver.switch_to.active_element
        reached.add(focused.get_attribute("data-name") or focused.get_attribute("id") or focused.tag_name)
        if focused.get_attribute("data-name") == "var":
            before = {node.get_attribute("data-name") for node in page.all(".node.before")}
            assert before == {"x", "mu", "centred", "squared"}
            page.press(page.key("ENTER"))
            assert page.current() == "var"
            page.press("f")
            assert page.driver.switch_to.active_element.get_attribute("data-name") == "std"
            reached.add("std")
    buttons = {"theme", "first", "back", "play", "forward", "last", "quiz", "reset", "present", "help", "tab-panel"}
    assert {*nodes, *buttons} <= reached
    # The arrows go from tab to tab, Tab into the view that is shown.
    page.tab("panel")
    for control, view in (("mistake", "mistakes"), ("line", "collapse")):
        page.one("[role=tab][tabindex='0']").send_keys("")  # the focus goes to the tab that is shown
        for _ in page.all("[role=tab]"):
            if page.driver.switch_to.active_element.get_attribute("aria-controls") == view:
                break
            page.press(page.key("ARROW_RIGHT"))
        for _ in range(3):
            page.press(page.key("TAB"))
            if page.driver.switch_to.active_element.get_attribute("id") == control:
                break
        assert page.driver.switch_to.active_element.get_attribute("id") == control
    # Keys that are typed into a field are the field's.
    page.select("x")
    page.set(page.all("#value input")[0], 1)
    page.press(page.key("HOME"))
    assert page.current() == "x"


def test_focus_is_seen_and_every_control_has_a_name(page: Page) -> None:
    page.open("uan")
    page.press(page.key("TAB"))
    assert page.one(".skip").text == "Skip the graph"
    assert page.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    unnamed = page.script(
        "return [...document.querySelectorAll('button, input, select, a, [role=region], svg[role]')].filter((e) => "
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_a_link_of_the_panel_keeps_the_focus_in_it(page: Page) -> None:
    page.open("bn")
    page.script("explorer.state.go(3)")
    before = page.current()
    page.one("#panel button.plain").send_keys(page.key("ENTER"))
    assert page.current() != before
    assert page.script("return document.activeElement.id") == "panel"
    page.press("f")
    assert page.script("return document.activeElement.id") == "panel"


def test_what_is_checked_is_read_aloud_once_and_numbers_of_edges_are_not(page: Page) -> None:
    page.open("bn")
    said = page.script(
        "explorer.state.edit('x', 0, 2); const { textContent, ariaBusy } = document.querySelector('#verdict');"
        "return [ariaBusy, textContent]"
    )
    assert said == ["true", "… checking: 12 gradients are still to be proven. "]
    page.proven()
    assert page.one("#verdict").get_attribute("aria-busy") == "false"
    page.script("explorer.state.go(14)")
    assert page.one(".labels .flow").is_displayed()
    assert page.one(".labels").get_attribute("aria-hidden") == "true"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_with_forced_colours_formulas_have_the_readers_colour_and_cover_nothing(page: Page, dark: bool) -> None:
    features = {"forced-colors": "active", "prefers-color-scheme": "dark" if dark else "light"}
    media = [{"name": name, "value": value} for name, value in features.items()]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    page.open("uan")
    page.script("explorer.state.go(30)")
    found = page.script(
        "return [...document.querySelectorAll('#panel p, #panel math, #panel mi')].map((e) => {"
        "const { color, forcedColorAdjust } = getComputedStyle(e); return [e.localName, color, forcedColorAdjust]; })"
    )
    assert {name for name, *_ in found} == {"p", "math", "mi"}
    assert len({color for _, color, _ in found}) == 1
    assert all((adjust == "none") == (name != "p") for name, _, adjust in found)


def test_light_and_dark_by_preference_and_by_button(page: Page) -> None:
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    page.open("bn")
    light = page.script(paper)
    page.one("#theme").click()
    dark = page.script(paper)
    assert light != dark
    browser.resize(page.driver, 1280, 900, dark=True)
    page.open("bn")
    assert page.script(paper) == dark
    page.shot("bn-desktop-dark")
    page.one("#theme").click()
    assert page.script(paper) == light


FAINT = r"""
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
function behind(element) {
  const papers = [];
  for (let e = element; e; e = e.parentElement) papers.unshift(rgba(getComputedStyle(e).backgroundColor));
  return papers.reduce((below, top) => over(top, below), [255, 255, 255]);
}
const texts = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility({ visibilityProperty: true }) &&
  !e.closest(":disabled") &&
  ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.matches("input[type=text]")));
const faint = texts.flatMap((e) => {
  const drawn = e.closest("svg"), style = getComputedStyle(e), box = e.closest(".node")?.querySelector("rect");
  let paper = behind(drawn ? drawn.parentElement : e);
  if (box) paper = over(rgba(getComputedStyle(box).fill), paper);
  const ink = over(rgba(drawn ? style.fill : style.color), paper);
  const [low, high] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  const named = `${e.tagName} ${e.getAttribute("class")} ${e.textContent.slice(0, 20)}`;
  return ratio < 4.5 ? [`${named}: ${ratio.toFixed(2)}`] : [];
});
return [texts.length, faint];
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Page, dark: bool) -> None:
    browser.resize(page.driver, 1366, 768, dark)
    page.open("uan")
    page.script("explorer.state.go(30); explorer.state.plant(explorer.state.data.mistakes[3])")
    page.proven()
    # A box changes its colour slowly; what is measured is where it ends.
    page.until(lambda: not page.script("return document.getAnimations().length"), "nothing moves")
    for tab in page.all("[role=tab]"):
        tab.click()
        texts, faint = page.script(FAINT)
        assert texts > 50, tab.text
        assert faint == [], tab.text


@pytest.mark.parametrize("name", ["bn", *slow("uan", "conv", "adam")])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_the_page_does_not_scroll_sideways(page: Page, name: str, dark: bool) -> None:
    browser.resize(page.driver, 390, 844, dark)
    page.open(name)
    for at in range(len(road(page.derivation))):
        page.script("explorer.state.go(arguments[0])", at)
        assert page.script("return document.documentElement.scrollWidth") <= 390, page.current()
    page.shot(f"{name}-phone-{'dark' if dark else 'light'}")
    for tab in page.all("[role=tab]"):
        tab.click()
        assert page.script("return document.documentElement.scrollWidth") <= 390, tab.text
    page.tab("table")
    for element in page.script("return [...document.querySelectorAll('#table details')]"):
        page.script("arguments[0].open = true", element)
    assert page.script("return document.documentElement.scrollWidth") <= 390
    for element in page.script("return [...document.querySelectorAll('#table details')]"):
        page.script("arguments[0].open = false", element)


def test_without_javascript_there_are_the_graph_and_the_table(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open("bn")
        assert not page.one("#panel").is_displayed()
        assert not page.one("#forward").is_displayed()
        assert page.one("svg.graph").is_displayed()
        for node in page.derivation.trace().nodes.values():
            row = page.one(f"#row-{node.name}")
            assert row.is_displayed()
            assert node.definition.meaning in row.text
            if node.error is not None:
                assert markup.error_text(node.error) in row.text
        assert page.one("#row-loss").is_displayed()
        assert (
            page.script("const box = document.querySelector('#map'); return box.scrollHeight - box.clientHeight") <= 1
        )
        page.one('.node[data-name="var"]').click()
        assert page.driver.current_url.endswith("#row-var")
        page.shot("bn-without-javascript")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
