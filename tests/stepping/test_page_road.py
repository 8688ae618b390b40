"""The explorer's page as one road on one screen: out, the loss, and back; what is in view and what travels."""

from __future__ import annotations

# ruff: noqa: F811  a fixture's name stands for what it makes
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from support import browser
from test_page_browser import Page, near, page, shared, slow  # noqa: F401  fixtures

from uanref.derivations import Derivation, Trace, find
from uanref.stepping import explorer, font
from uanref.stepping.road import BACKWARD, FORWARD, LOSS, road

SCREENS = [(1366, 768), (1024, 768)]
OTHERS = ("linear", "relu", "layer-norm", "posterior", "uan-learned", "uan-shared", "adam")


def position(derivation: Derivation, at: int) -> str:
    """What the header says at a stop."""
    stops = road(derivation)
    name, phase = ("L", "the loss") if stops[at].node == LOSS else (stops[at].node, stops[at].phase)
    return f"{at + 1} of {len(stops)}: {name}, {phase}"


def sent_by(derivation: Derivation, trace: Trace, name: str) -> dict[str, Any]:
    """What a stop of the way back sends to each of the nodes before it."""
    if name == LOSS and derivation.output.name != LOSS:
        return {derivation.output.name: trace.upstream}
    inputs = derivation.node(name).inputs  # type: ignore[union-attr]
    return {to: trace[to].contributions[name] for to in inputs if name in trace[to].contributions}


@pytest.mark.parametrize("name", ["bn", "softmax-cross-entropy", *slow("uan", "conv", "posterior")])
def test_the_road_leads_out_to_the_loss_and_back_with_its_numbers(page: Page, name: str) -> None:
    page.open(name)
    trace, stops = page.derivation.trace(), road(page.derivation)
    arrived: dict[str, list[str]] = {node.name: [] for node in page.derivation.nodes}
    for at, stop in enumerate(stops):
        assert page.one("#position").text == position(page.derivation, at)
        assert page.current() == stop.node
        assert page.one(".node[aria-current]").get_attribute("data-name") == stop.node
        labels = {label["to"]: label for label in page.script(LABELS)}
        if stop.phase == FORWARD:
            assert labels == {}
            into = {edge["source"] for edge in page.script(EDGES) if edge["now"]}
            assert into == set(page.derivation.node(stop.node).inputs)  # type: ignore[union-attr]
        else:
            sent = sent_by(page.derivation, trace, stop.node)
            assert set(labels) == set(sent)
            for to, part in sent.items():
                size = float(part) if np.size(part) == 1 else np.abs(part).max()
                assert labels[to]["size"] == pytest.approx(size, rel=1e-9)
                assert labels[to]["text"].startswith("≤ ") == (np.size(part) > 1)
                near(page.numbers(f'#sent [data-target="{to}"]'), part, f"{stop.node} to {to}")
                arrived[to].append(stop.node)
        counted = page.script(COUNTS)
        for to, users in arrived.items():
            every = len(trace[to].contributions) + (
                to == page.derivation.output.name and name != "softmax-cross-entropy"
            )
            partly = 0 < len(users) < every
            assert counted[to] == (f"{len(users)}/{every}" if partly else ""), (stop, to)
        page.press("f")
    assert page.one("#position").text == position(page.derivation, len(stops) - 1)
    assert page.one("#forward").get_attribute("aria-disabled") == "true"
    page.one("#back").click()
    assert page.one("#position").text == position(page.derivation, len(stops) - 2)
    # Wide is large: each step of width ten times as much.
    for edge in page.script(EDGES):
        if edge["sent"]:
            part = sent_by(page.derivation, trace, edge["target"])[edge["source"]]
            size = np.abs(part).max()
            steps = min(max(math.log10(size) + 4, 0), 5) if size > 0 else 0
            assert edge["width"] == pytest.approx(1.2 + 0.85 * steps, abs=0.01)


LABELS = """return [...document.querySelectorAll(".labels .flow")].map((label) => (
  {to: label.dataset.source, size: Number(label.dataset.size), text: label.textContent}));"""
EDGES = """return [...document.querySelectorAll(".edge")].map((edge) => ({...edge.dataset,
  now: edge.classList.contains("now"), sent: edge.classList.contains("sent"),
  width: parseFloat(edge.style.strokeWidth)}));"""
COUNTS = """return Object.fromEntries([...document.querySelectorAll(".node")].map((node) => (
  [node.dataset.name, node.querySelector(".count").textContent])));"""


@pytest.mark.parametrize("name", ["bn", *slow("uan")])
def test_the_stand_in_loss_has_its_value_and_sends_its_weights(page: Page, name: str) -> None:
    page.open(name)
    trace = page.derivation.trace(numerical=False)
    page.select(LOSS)
    near(page.numbers("#panel #value"), (trace.upstream * trace.output).sum(), "L = sum g y")
    assert page.numbers("#panel #gradient") == [1]
    near(page.numbers("#weights"), trace.upstream, "g")
    near(page.numbers("#row-loss .value"), (trace.upstream * trace.output).sum(), "L among all nodes")
    page.set(page.all("#weights input")[0], 2)
    upstream = trace.upstream.copy()
    upstream[0, 0] = 2
    near(page.numbers("#panel #value"), (upstream * trace.output).sum(), "L with another weight")
    page.holds(page.derivation.trace(upstream=upstream, numerical=False))


def test_a_loss_of_its_own_starts_from_one_and_asks_for_no_upstream_gradient(page: Page) -> None:
    page.open("softmax-cross-entropy")
    assert page.all("#weights") == []
    page.select(LOSS)
    near(page.numbers("#panel #value"), page.derivation.trace(numerical=False).output, "the loss")
    assert page.numbers("#panel #gradient") == [1]
    assert page.all("#gradient input") == []
    assert "= 1" in page.one("#gradient .state").text


def test_the_gradient_of_an_input_fills_up_on_the_way_back(page: Page) -> None:
    page.open("uan")
    trace, stops = page.derivation.trace(numerical=False), road(page.derivation)
    parts = trace["x"].contributions
    assert len(parts) == 3
    passed: list[str] = []
    page.press(page.key("END"))
    for at, stop in enumerate(stops):
        if stop.phase != BACKWARD or stop.node not in parts:
            continue
        passed.append(stop.node)
        page.script("explorer.state.go(arguments[0]); explorer.state.select('x')", at)
        near(page.numbers("#panel #gradient"), sum(parts[user] for user in passed), f"the sum after {passed}")
        assert [part.get_attribute("data-user") for part in page.all("#contributions [data-user]")] == [
            user for user in parts if user in passed
        ]
        told = page.one("#gradient .state").text
        assert ("all 3 parts have arrived" if len(passed) == 3 else f"{len(passed)} of 3 part") in told
        assert page.one("#position").text == "beside the road: x"
        page.press("f")  # goes on from where the road was left
        assert page.script("return explorer.state.at") == min(at + 1, len(stops) - 1)
    assert len(passed) == 3


IN_VIEW = """
const box = document.querySelector("#map").getBoundingClientRect();
const found = [];
for (let at = 0; at < explorer.state.road.length; ++at) {
  explorer.state.go(at);
  const node = document.querySelector(".node[aria-current] rect").getBoundingClientRect();
  const panel = document.querySelector("#panel").getBoundingClientRect();
  const cells = [...document.querySelectorAll(".column")].map((column) => column.children);
  found.push({
    at, node: [node.left - box.left, node.top - box.top, box.right - node.right, box.bottom - node.bottom],
    box: [box.left, box.top, innerWidth - box.right, innerHeight - box.bottom],
    // Of each column the rule, and of the table below it the first row at least, lie within the panel.
    rules: cells.map(([rule]) => Math.min(panel.bottom, innerHeight) - rule.getBoundingClientRect().bottom),
    tables: cells.map(([, cell]) => cell.querySelector("td")?.getBoundingClientRect().bottom ?? 0),
    lefts: cells.map(([rule]) => rule.getBoundingClientRect().left),
    heads: cells.map(([, cell]) => cell.querySelector("td")?.getBoundingClientRect().top ?? null),
    page: [document.documentElement.scrollWidth, document.documentElement.scrollHeight],
    across: document.querySelector("#panel").scrollWidth - document.querySelector("#panel").clientWidth,
    wide: [...document.querySelectorAll("#panel .column .arrays")].filter((e) => e.scrollWidth > e.clientWidth).length,
    name: parseFloat(getComputedStyle(document.querySelector(".node .name")).fontSize) * node.height / 38,
  });
}
return found;
"""


@pytest.mark.parametrize("size", SCREENS, ids=["1366", "1024"])
@pytest.mark.parametrize("name", ["bn", "uan", *slow("softmax-cross-entropy", "conv", *OTHERS)])
def test_every_stop_is_one_screen_with_the_node_and_three_columns_in_view(
    page: Page, name: str, size: tuple[int, int]
) -> None:
    browser.resize(page.driver, *size)
    page.open(name)
    page.proven() if not page.derivation.forward_only else None
    found = page.script(IN_VIEW)
    assert len(found) == len(road(page.derivation))
    for stop in found:
        assert min(stop["node"]) >= 0, stop
        assert min(stop["box"]) >= 0, stop
        assert stop["page"] == list(size), stop
        assert stop["across"] <= 0, stop
        assert min(stop["rules"]) >= 0, stop
        assert max(stop["tables"]) <= size[1], stop
        assert stop["lefts"] == sorted(set(stop["lefts"])), "side by side"
        heads = [head for head in stop["heads"] if head is not None]
        assert max(heads) - min(heads) < 1, "row beside row"
        assert stop["wide"] == 0, "tables of four columns as well"
        assert stop["name"] >= 7.4, "names stay readable"
    page.script("explorer.state.go(arguments[0])", len(found) * 2 // 3)
    page.view(f"{name}-{size[0]}-light")
    browser.resize(page.driver, *size, dark=True)
    page.view(f"{name}-{size[0]}-dark")


def test_on_a_phone_the_panel_comes_first(page: Page) -> None:
    browser.resize(page.driver, 390, 844)
    page.open("bn")
    tops = page.script("return ['#panel', '#map'].map((at) => document.querySelector(at).getBoundingClientRect().top)")
    assert tops[0] < 300 < tops[1]
    order = "return ['forward', 'backward'].map((at) => document.querySelector(`.column.${at}`).offsetTop)"
    forward, backward = page.script(order)
    assert forward < backward
    page.press(page.key("END"))  # on the way back the way back comes first
    forward, backward = page.script(order)
    assert backward < forward


def test_values_and_gradients_stand_in_rows_of_one_height_and_nothing_is_clipped(page: Page) -> None:
    page.open("bn")
    for name in ("x", "x_hat", "gamma"):
        page.select(name)
        heights = page.script(
            "return [...document.querySelectorAll('#value tbody tr, #gradient tbody tr, #numerical tbody tr')].map("
            "(row) => row.getBoundingClientRect().height)"
        )
        assert max(heights) - min(heights) < 1
        assert page.script(CLIPPED) == []
    page.select("x")
    page.set(page.all("#value input")[0], "-1234.5678")
    page.select("mu")
    page.select("x")
    assert page.script(CLIPPED) == []


CLIPPED = """return [...document.querySelectorAll("#panel .array td, #panel .array td input")].filter(
  (cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.outerHTML)"""


# --- tabs and the walk by itself --------------------------------------------------------------------


def test_views_are_tabs_beside_the_graph(page: Page) -> None:
    page.open("uan")
    tabs = page.all("[role=tab]")
    names = [tab.text for tab in tabs]
    assert names == ["Step", "Mistakes", "Find it", "Collapse", "Mixture", "All nodes", "About"]
    tabs[0].click()
    at = page.script("return explorer.state.at")
    for place in range(len(tabs)):
        chosen = [tab.get_attribute("aria-selected") for tab in tabs]
        assert chosen == ["true" if i == place else "false" for i in range(len(tabs))]
        shown = [section.get_attribute("id") for section in page.all("[role=tabpanel]") if section.is_displayed()]
        assert shown == [tabs[place].get_attribute("aria-controls")]
        assert page.one("#map").is_displayed()
        assert page.script("return document.documentElement.scrollHeight") == 900
        page.press(page.key("ARROW_RIGHT"))
    assert tabs[0].get_attribute("aria-selected") == "true"  # round again
    assert page.script("return explorer.state.at") == at  # the arrows of the tabs do not walk
    page.open("bn")
    assert page.all("#tab-mixture") == []


def motion(page: Page, reduced: bool) -> None:
    features = [{"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.mark.parametrize("reduced", [True, False])
def test_the_walk_goes_by_itself_and_stops_for_the_reader(page: Page, reduced: bool) -> None:
    motion(page, reduced)
    page.open("relu")
    page.script(
        "window.moved = 0; new MutationObserver((changes) => changes.forEach((change) => (moved += change.addedNodes"
        ".length))).observe(document.querySelector('.tokens'), {childList: true})"
    )
    play = page.one("#play")
    play.click()
    assert play.get_attribute("aria-pressed") == "true"
    page.until(lambda: page.script("return explorer.state.at") == 2, "the end of the road")
    assert play.get_attribute("aria-pressed") == "false"
    assert page.script("return moved") == (0 if reduced else 2)
    page.press("p")  # from the end it begins again
    assert page.script("return [explorer.state.at, explorer.player.on]") == [0, True]
    page.select("x")
    assert page.script("return explorer.player.on") is False
    motion(page, False)


# --- safety, and the font ---------------------------------------------------------------------------

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=\"window.hacked=1\"><b onclick='hacked=1'>&amp;"


def test_a_hostile_derivation_injects_nothing(page: Page) -> None:
    bn = find("bn")
    steps = tuple(dataclasses.replace(step, meaning=EVIL, source=EVIL) for step in bn.steps)
    inputs = tuple(dataclasses.replace(node, meaning=EVIL) for node in bn.inputs)
    evil = dataclasses.replace(
        bn, title=EVIL, summary=EVIL, layer=EVIL, steps=steps, inputs=inputs, axes={"m": EVIL, "c": EVIL}
    )
    path = page.folder / "evil.html"
    explorer.write(path, explorer.page(evil), force=True)
    page.driver.get(path.as_uri())
    for name in ("x", "mu", "x_hat", LOSS):
        page.script("explorer.state.select(arguments[0])", name)
    for tab in page.all("[role=tab]"):
        tab.click()
    assert page.one("h1").text == EVIL
    assert page.script("return typeof hacked") == "undefined"
    assert page.script("return document.querySelectorAll('img, b[onclick]').length") == 0
    page.open("bn")


def test_an_injected_script_would_not_run(page: Page) -> None:
    page.open("bn")
    page.script(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(script);"
        "const styled = document.createElement('p');"
        'styled.innerHTML = \'<i style="color: red" onclick="hacked=1">\';'
        "document.body.append(styled); styled.firstChild.click()"
    )
    assert page.script("return typeof hacked") == "undefined"
    refused = [entry["message"] for entry in page.driver.get_log("browser")]
    assert len(refused) >= 3
    assert all("Content Security Policy" in message for message in refused)


def test_equations_are_set_in_the_font_that_the_page_carries(page: Page) -> None:
    page.open("bn")
    assert page.script(
        "return document.fonts.ready.then(() => [...document.fonts].map((f) => [f.family, f.status]))"
    ) in (
        [[f'"{font.FAMILY}"', "loaded"]],
        [[font.FAMILY, "loaded"]],
    )
    assert font.FAMILY in page.script("return getComputedStyle(document.querySelector('math')).fontFamily")
