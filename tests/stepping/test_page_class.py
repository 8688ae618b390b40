"""What a class uses in the explorer's page: links to a state, a game, a quiz of rules, a size to project."""

from __future__ import annotations

# ruff: noqa: F811  a fixture's name stands for what it makes
import json
import re
from typing import Any

import numpy as np
import pytest
from support import browser
from test_page_browser import Page, near, page, shared, slow  # noqa: F401  fixtures

from uanref.derivations import find
from uanref.derivations.mistakes import Mistake, mistakes, plant
from uanref.stepping import explorer
from uanref.stepping.unicode import local_equation

STATE = "return explorer.lesson.state.write()"
SLIP = "mu <- centred: sign flipped"


def slip(name: str, id: str) -> Mistake:
    return next(mistake for mistake in mistakes(find(name)) if mistake.id == id)


def follow(page: Page, fragment: str) -> None:
    """Go to another fragment of the open page, as one who types it in."""
    # The browser's own event may still be on its way.
    page.script("location.hash = arguments[0]; dispatchEvent(new HashChangeEvent('hashchange'))", fragment)


def notice(page: Page) -> str:
    text: str = page.script("const n = document.querySelector('#notice'); return n.hidden ? '' : n.textContent")
    return text


# --- links ------------------------------------------------------------------------------------------


def test_a_link_restores_stop_numbers_mistake_tab_and_size(page: Page) -> None:
    page.open("bn")
    assert page.script(STATE) == ""
    page.script(
        "const { state } = explorer; state.edit('x', 2, 2.5); state.edit('eps', 0, 1e-21); state.editUpstream(3, -3);"
        "state.plant(state.data.mistakes.find((m) => m.id === arguments[0])); state.go(7)",
        SLIP,
    )
    page.one("#tab-mistakes").click()
    page.one("#present").click()
    fragment = page.script(STATE)
    owner = re.match(r"of=bn:0:[0-9a-z]+&", fragment)
    assert owner
    assert fragment[owner.end() :] == (
        "at=8&edit=x.1.0:2.5,eps:1e-21&upstream=1.1:-3&mistake=mu+%3C-+centred:+sign+flipped&tab=mistakes&big=1"
    )
    assert page.driver.current_url.endswith(f"bn.html#{fragment}")
    length = page.script("return history.length")
    url = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(url)
    assert page.script("return history.length") == length + 2  # nothing was added while the state changed
    bn = page.derivation
    inputs, upstream = bn.example(), bn.trace(numerical=False).upstream.copy()
    inputs["x"][1, 0], inputs["eps"], upstream[1, 1] = 2.5, np.asarray(1e-21), -3
    page.holds(plant(bn, slip("bn", SLIP), inputs, upstream, numerical=False))
    assert page.script("return [explorer.state.at, explorer.state.mistake.id]") == [7, SLIP]
    assert page.one("#mistakes").is_displayed()
    assert page.one("#mistake").get_property("value") == SLIP
    assert page.one("#present").get_attribute("aria-pressed") == "true"
    assert page.script(STATE) == fragment
    page.script("explorer.state.select('gamma')")
    assert "&at=8&node=gamma&" in page.script(STATE)
    page.one("#reset").click()
    page.script("explorer.state.go(0)")
    page.one("#tab-panel").click()
    page.one("#present").click()
    page.holds(bn.trace(numerical=False))
    page.until(lambda: "#" not in page.driver.current_url, "nothing differs any more")


def test_a_link_of_another_page_is_refused_with_a_sentence(page: Page) -> None:
    page.open("bn")
    page.script("explorer.state.go(3)")
    own = page.script(STATE)
    mark = own.split("&")[0].split(":")[2]
    for fragment, sentence in {
        f"of=uan:0:{mark}&at=8": "belongs to the derivation uan",
        f"of=bn:5:{mark}&at=8": "made by: uanref explore bn --seed 5",
        "of=bn:0:abc&at=8": "made with other numbers",
    }.items():
        follow(page, fragment)
        assert sentence in notice(page)
        assert "nothing was changed" in notice(page)
        assert page.script("return explorer.state.at") == 3
    follow(page, own.replace("at=4", "at=5"))
    assert notice(page) == ""
    assert page.script("return explorer.state.at") == 4


HOSTILE = [
    "at=0", "at=20", "at=1.5", "at=-1", "at=NaN", "at=99999999999999999999", "at=8&at=9", "node=nowhere",
    "node=__proto__", "node=constructor", "edit=x.0.0:NaN", "edit=x.0.0:1e999", "edit=x.0.0:Infinity",
    "edit=x.0.0:0x10", "edit=x.0.0:", "edit=x.0.0", "edit=x.0:1", "edit=x.0.0.0:1",
    "edit=x.5.0:1", "edit=x.-1.0:1", "edit=x.1e0.0:1",
    "edit=__proto__.0.0:1", "edit=constructor:1", "edit=toString.length:1", "edit=mu.0:1", "edit=x.0.0:1,x.9.9:2",
    "edit=,", "edit=", "upstream=0.0:1:2", "upstream=9.9:1", "mistake=__proto__", "mistake=<script>pwned=1</script>",
    "tab=nowhere", "tab=__proto__", "tab=data", "quiz=yes", "big=2", "find=0", "find=1e3", "find=-7", "find=7&quiz=1",
    "__proto__=1", "constructor=1", "hasOwnProperty=1", "of=bn:0", "of=<img src=x onerror=pwned=1>:0:a",
    "x=<img src=x onerror=pwned=1>", "at=%", "at=%E0%A4%A&=", "=", "&&&=&&&", "at=8&edit=" + "x.0.0:NaN," * 2000,
    "tab=javascript:pwned=1", "at=8%00", "at=８",
]  # fmt: skip


def test_a_fragment_that_does_not_fit_changes_nothing_and_injects_nothing(page: Page) -> None:
    page.open("bn")
    page.script("explorer.state.edit('x', 0, 1.5); explorer.state.go(4)")
    page.proven()
    kept = page.script(STATE)
    count = page.script("return document.querySelectorAll('*').length")
    for fragment in HOSTILE:
        page.script("document.querySelector('#notice').hidden = true")
        follow(page, fragment)
        assert "nothing was changed" in notice(page), fragment[:80]
        assert page.script("return explorer.lesson.state.text") == kept, fragment[:80]
    assert page.script("return document.querySelectorAll('*').length") == count
    assert page.script("return typeof pwned + typeof {}.polluted") == "undefinedundefined"
    follow(page, "panel")  # a place on the page is no state
    assert page.script("return explorer.lesson.state.text") == kept


def test_a_fresh_page_with_a_bad_fragment_is_the_page_as_it_is(page: Page) -> None:
    page.open("bn")
    page.driver.get("about:blank")
    page.driver.get((page.folder / "bn.html").as_uri() + "#at=3&edit=__proto__.0:1")
    page.holds(page.derivation.trace(numerical=False))
    assert page.script("return explorer.state.at") == 0
    assert "nothing was changed" in notice(page)


def test_the_back_button_goes_back_to_the_state_before(page: Page) -> None:
    page.open("bn")
    follow(page, "at=6&edit=x.0.1:2.5")
    follow(page, f"at=9&mistake={SLIP.replace(' ', '+').replace('<', '%3C')}")
    assert page.script("return [explorer.state.at, explorer.state.mistake.id]") == [8, SLIP]
    page.holds(plant(page.derivation, slip("bn", SLIP), numerical=False))
    page.script(STATE)
    page.driver.back()
    page.until(lambda: page.script("return explorer.state.at") == 5, "the state before")
    assert page.script("return explorer.state.mistake") is None
    inputs = page.derivation.example()
    inputs["x"][0, 1] = 2.5
    page.holds(page.derivation.trace(inputs, numerical=False))


def test_changes_that_do_not_fit_into_a_link_are_counted(page: Page) -> None:
    bn = find("bn")
    path = page.folder / "bn-many.html"
    if not path.exists():
        explorer.write(path, explorer.page(bn, bn.example(m=100)))
    page.driver.get(path.as_uri())
    page.script(
        "const { state } = explorer; const { base } = state; const x = base.inputs.x;"
        "state.load({ inputs: { ...base.inputs, x: { ...x, data: x.data.map((number) => number + 0.1) } }, "
        "upstream: base.upstream, mistake: null })"
    )
    fragment = page.script(STATE)
    kept = fragment.split("edit=")[1].split(",")
    assert 100 < len(kept) < 200
    assert len(fragment) < 4200
    assert f"{200 - len(kept)} more do not fit" in notice(page)
    numbers = [float(change.split(":")[1]) for change in kept]
    assert numbers == page.script("return [...explorer.state.inputs.x.data].slice(0, arguments[0])", len(kept))


def test_the_button_copies_the_link_or_shows_it(page: Page) -> None:
    page.open("bn")
    page.script("explorer.state.go(2)")
    page.script("Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (t) => { copied = t; } } })")
    page.one("#link").click()
    page.until(lambda: page.one("#link").text == "Copied", "the button tells")
    assert page.script("return copied") == page.driver.current_url
    assert page.driver.current_url.endswith("&at=3")
    page.script("navigator.clipboard.writeText = async () => { throw new Error('refused'); }")
    page.one("#link").click()
    page.until(lambda: notice(page) == page.driver.current_url, "the link is shown")
    assert page.script("return String(getSelection())").strip() == page.driver.current_url


def test_where_nothing_goes_back_there_is_no_quiz_but_a_link(page: Page) -> None:
    page.open("adam")
    assert not page.one("#quiz").is_displayed()
    assert page.all("#tab-game, #tab-mistakes") == []
    page.script("explorer.state.go(2)")
    fragment = page.script(STATE)
    for more in ("&quiz=1", "&find=3"):
        follow(page, fragment + more)
        assert "nothing was changed" in notice(page)
    follow(page, fragment.replace("at=3", "at=2"))
    assert page.script("return [explorer.state.at, explorer.lesson.state.text]") == [
        1,
        fragment.replace("at=3", "at=2"),
    ]


# --- numbers of another page ------------------------------------------------------------------------


def started(page: Page, name: str, begin: Any) -> None:
    """Open a derivation's page with a start put into it, as another page does."""
    plain = page.folder / f"{name}.html"
    if not plain.exists():
        page.open(name)
    text = plain.read_text("utf-8")
    empty = '<script type="application/json" id="start">null</script>'
    assert text.count(empty) == 1
    path = page.folder / f"{name}-started.html"
    path.write_text(text.replace(empty, empty.replace("null", explorer.embedded(begin))), "utf-8")
    page.driver.get(path.as_uri())


def test_another_page_can_put_its_numbers_into_this_one(page: Page) -> None:
    uan = find("uan")
    inputs = uan.example(5)
    upstream = np.arange(inputs["x"].size, dtype=float).reshape(inputs["x"].shape) - 3
    begin = {key: array.tolist() for key, array in inputs.items() if key != "eps"}
    started(page, "uan", {"inputs": begin, "upstream": upstream.tolist(), "node": "x_hat", "phase": "backward"})
    trace = uan.trace({**inputs, "eps": uan.example()["eps"]}, upstream, numerical=False)
    page.holds(trace)
    assert page.script("const { current, phase } = explorer.state; return [current, phase]") == ["x_hat", "backward"]
    page.proven()
    assert set(page.marks().values()) == {"✓", ""}
    page.script("explorer.state.edit('x', 0, 9)")
    page.one("#reset").click()
    page.holds(trace)
    mark = page.script(STATE).split("&")[0]
    page.open("uan")
    page.script("explorer.state.go(2)")
    assert page.script(STATE).split("&")[0] != mark  # a link of one is no link of the other


@pytest.mark.parametrize(
    "begin",
    [
        {"inputs": {"x": [[1.0, 2.0]]}},
        {"inputs": {"nothing": 1.0}},
        {"inputs": {"eps": "<b>"}},
        {"node": "nowhere"},
        {"mistake": "none such"},
        [],
        3,
    ],
    ids=str,
)
def test_a_start_that_does_not_fit_is_told(page: Page, begin: Any) -> None:
    started(page, "bn", begin)
    if begin != []:
        assert "do not fit" in notice(page)
    assert page.script("return [explorer.state.at, explorer.lesson.state.text]") == [0, ""]


# --- mistakes ---------------------------------------------------------------------------------------


def test_the_source_of_a_mistake_and_those_that_inherited_it_are_told_apart(page: Page) -> None:
    page.open("bn")
    listed = [option.get_attribute("textContent") for option in page.all("#mistake option")][1:]
    assert listed == [mistake.id for mistake in mistakes(page.derivation)]  # as the terminal lists them
    chosen = slip("bn", "var <- std: sign flipped")
    trace = plant(page.derivation, chosen)
    red = {node.name for node in trace.nodes.values() if (node.error or 0) > 1e-6}
    page.one("#tab-mistakes").click()
    page.choose("#mistake", chosen.id)
    assert {name for name, mark in page.marks().items() if mark == "✗"} == red
    page.holds(trace)
    assert f"{len(red)} gradients are wrong" in page.one("#verdict").text

    def nodes(kind: str) -> set[str]:
        return {str(node.get_attribute("data-name")) for node in page.all(f".node.{kind}")}

    assert nodes("source") == {"var"}
    assert nodes("inherited") == red - {"var"} == {"squared", "centred", "x"}
    text = page.one("#mistake-result").text
    assert "Source: var." in text
    assert "Inherited on the way back from there: squared, centred, x." in text
    assert "enters here" in str(page.one('.node[data-name="var"]').get_attribute("aria-label"))
    assert page.one("#mistake-result .written").text == written("bn", chosen.step, chosen.input)
    page.one("#mistake-result button").click()
    page.one("#tab-panel").click()
    assert page.current() == "var"
    assert "planted here" in page.one("#contributions").text
    page.one("#tab-mistakes").click()
    page.choose("#mistake", "")
    assert set(page.marks().values()) == {"✓", ""}
    assert nodes("source") | nodes("inherited") == set()


def written(name: str, step: str, input: str) -> str:
    derivation = find(name)
    return local_equation(next(s for s in derivation.steps if s.name == step), input, derivation).replace("-", "−")


# --- find it ----------------------------------------------------------------------------------------

VISIBLE = """
const copy = document.documentElement.cloneNode(true);
copy.querySelectorAll('script, style, #mistake, #game').forEach((element) => element.remove());
return copy.outerHTML + document.querySelector('#game').textContent + document.title + location.href;
"""


def betrayed(page: Page, mistake: Mistake) -> list[str]:
    """What on the page tells of a mistake."""
    told = page.script(VISIBLE)
    texts = (mistake.id, mistake.description, "planted here", "enters here", "inherits")
    roles = page.all(".node.source, .node.inherited")
    return [text for text in texts if text in told] + [str(node.get_attribute("data-name")) for node in roles]


def test_a_mistake_is_planted_unseen_and_found(page: Page) -> None:
    page.open("bn")
    page.one("#tab-game").click()
    page.one("#game-start").click()
    page.script("explorer.lesson.game.start(3)")
    id = page.script("return explorer.state.planted.id")
    hidden, bn = slip("bn", id), page.derivation
    trace = plant(bn, hidden)
    red = {node.name for node in trace.nodes.values() if (node.error or 0) > 1e-6}
    page.proven()
    assert {name for name, mark in page.marks().items() if mark == "✗"} == red
    fragment = page.script(STATE)
    assert re.fullmatch(r"of=bn:0:\w+&tab=game&find=3", fragment)
    for stop in range(page.script("return explorer.state.road.length")):
        page.script("explorer.state.go(arguments[0])", stop)
        assert betrayed(page, hidden) == [], stop
    page.script("explorer.state.select(arguments[0])", hidden.input)
    page.one("#tab-panel").click()
    page.one("#gradient td button").click()
    assert "Not while a mistake is planted unseen" in page.one(".column.backward .entry-explained").text
    page.one("#tab-game").click()
    assert page.one("#mistake").get_property("disabled")
    assert page.one("#mistake").get_property("value") == ""
    lines = [option.text for option in page.all("#game-line option")]
    wrong = next(s for s in ("y → scaled", "scaled → x_hat") if s != f"{hidden.step} → {hidden.input}")
    line(page, wrong)
    assert "Not there" in page.one("#game .answer").text
    page.one("#game-hint").click()
    place = [s.name for s in bn.steps][::-1].index(hidden.step)
    assert ("first half" if place < len(bn.steps) / 2 else "second half") in page.one("#game-hints").text
    page.one("#game-hint").click()
    assert f"at the gradient of {hidden.input}." in page.one("#game-hints").text
    assert page.all("#game-hint") == []
    assert f"{hidden.step} → {hidden.input}" in lines
    line(page, f"{hidden.step} → {hidden.input}")
    assert betrayed(page, hidden) == []
    # The rule: the right one and the planted one are there, once each; a wrong one is answered with numbers.
    planted = local_equation(hidden.replacement, hidden.input, bn).replace("-", "−")
    rules = [rule.text for rule in page.all("#game .rules .written")]
    right = written("bn", hidden.step, hidden.input)
    assert rules.count(right) == rules.count(planted) == 1
    assert 3 <= len(rules) == len(set(rules)) <= 4
    page.all("#game .rules input")[rules.index(right)].click()
    page.press(page.key("ENTER"))
    assert "That is the right rule: it would send" in page.one("#game .answer").text
    page.all("#game .rules input")[rules.index(planted)].click()
    page.press(page.key("ENTER"))
    assert f"Found: {id}" in page.one("#game").text
    assert "4 tries, 2 hints. Found so far: 1 of 1." in page.one("#game-score").text
    gradients = [bn.trace(numerical=False)[hidden.input].gradient, trace[hidden.input].gradient]
    entry = int(np.abs(gradients[0] - gradients[1]).argmax())  # type: ignore[operator]
    for row, gradient in zip(("#game-right", "#game-wrong"), gradients, strict=True):
        shown = page.one(f"{row} td:last-child").text.replace("−", "-")
        assert float(shown) == pytest.approx(np.ravel(gradient)[entry], rel=1e-3)
    assert {n.get_attribute("data-name") for n in page.all(".node.source")} == {hidden.input}
    assert {n.get_attribute("data-name") for n in page.all(".node.inherited")} == red - {hidden.input}
    assert page.script("return document.activeElement.id") == "game-another"
    last = page.script("return explorer.state.last") + 1  # who gets the link has to find it, too
    assert page.script(STATE) == fragment.replace("&tab", f"&at={last}&tab")
    page.one("#game-another").click()
    assert page.script("return explorer.state.mistake") is None
    assert page.script("return explorer.state.planted") is not None
    assert page.all(".node.source") == []
    page.one("#game-stop").click()
    assert set(page.marks().values()) == {"✓", ""}


def line(page: Page, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.one("#game-line")).select_by_visible_text(text)
    page.one("#game form button").click()


def test_a_line_shows_its_numbers_and_what_was_sent(page: Page) -> None:
    page.open("bn")
    page.one("#tab-game").click()
    page.script("explorer.lesson.game.start(3)")
    hidden = slip("bn", page.script("return explorer.state.planted.id"))
    at = page.script(
        "return [...document.querySelectorAll('#game-line option')].find((o) => o.text === arguments[0]).value",
        f"{hidden.step} → {hidden.input}",
    )
    page.choose("#game-line", at)
    assert written("bn", hidden.step, hidden.input) in page.one("#game-numbers").text
    sent = plant(page.derivation, hidden, numerical=False)[hidden.input].contributions[hidden.step]
    near(page.numbers("#game-numbers")[-sent.size :], sent, "what was sent")
    page.script("explorer.state.edit('x', 0, 1.25)")
    inputs = page.derivation.example()
    inputs["x"][0, 0] = 1.25
    upstream = page.derivation.trace(numerical=False).upstream
    sent = plant(page.derivation, hidden, inputs, upstream, numerical=False)[hidden.input].contributions[hidden.step]
    near(page.numbers("#game-numbers")[-sent.size :], sent, "what was sent after an edit")


def test_a_game_ends_with_reset_and_with_the_quiz_and_a_link_opens_the_same(page: Page) -> None:
    page.open("uan")
    page.script("explorer.lesson.game.start(11)")
    id = page.script("return explorer.state.planted.id")
    fragment = page.script(STATE)
    page.one("#reset").click()
    assert page.script("return [explorer.lesson.game.seed, explorer.state.planted]") == [None, None]
    assert page.script(STATE) == ""
    follow(page, fragment)
    assert page.script("return [explorer.lesson.game.seed, explorer.state.planted.id]") == [11, id]
    assert page.script("return explorer.state.mistake") is None
    page.one("#quiz").click()
    assert page.script("return [explorer.lesson.game.seed, explorer.state.planted]") == [None, None]
    page.one("#quiz").click()


# --- the quiz ---------------------------------------------------------------------------------------


def test_the_quiz_begins_near_the_output_and_asks_for_rule_and_number(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace()
    page.press("q")
    names = page.script("return explorer.lesson.questions.names")
    assert names == ["scaled", "beta", "x_hat", "gamma", "inverse_std", "std", "var", "squared", "centred", "mu", "x"]
    tries = 0
    for at, name in enumerate(names):
        assert page.current() == name
        assert page.script("return explorer.state.phase") == "backward"
        assert page.one("#score").text.startswith(f"{at} of {len(names)}")
        node = trace[name]
        gradient = np.ravel(node.gradient)
        step = next(s for s in node.contributions if s in re.findall(r"\w+", page.one("#question").text))
        rules = [rule.text for rule in page.all(".rules .written")]
        right = written("bn", step, name)
        assert rules.count(right) == 1
        assert 2 <= len(rules) == len(set(rules))
        hidden = page.one("#panel").text
        assert not any(f"{number:.4g}".replace("-", "−") in hidden.split() for number in gradient), name
        if at == 0:  # a wrong rule, and none
            page.press(page.key("ENTER"))
            page.script("document.querySelector('.rules').requestSubmit()")
            assert "Choose a rule first" in page.one(".answer").text
            choose(page, (rules.index(right) + 1) % len(rules))
            assert "Not that one" in page.one(".answer").text
            tries += 1
        choose(page, rules.index(right))
        entry = [cell.text for cell in page.all("#gradient td")].index("?")
        assert abs(gradient[entry]) == np.abs(gradient).max()
        page.press(f"{gradient[entry]:.4g}", page.key("ENTER"))  # the focus is in the field already
        assert "Right" in page.one(".ask").text
        near(page.numbers("#panel #gradient"), gradient, name)
        tries += 2
        each = f"{np.floor(10 * tries / (2 * at + 2) + 0.5) / 10:g}"
        assert page.one("#score").text == f"{at + 1} of {len(names)}, {each} {'try' if each == '1' else 'tries'} each"
        if at + 1 < len(names):
            page.press(page.key("ENTER"))  # the focus is on "Next question"
    assert "last question" in page.one(".ask").text


def choose(page: Page, at: int) -> None:
    """Choose a rule by keyboard."""
    page.script("document.querySelectorAll('.rules input')[arguments[0]].focus()", at)
    page.press(page.key("SPACE"), page.key("ENTER"))


def test_the_quiz_judges_numbers_and_asks_anew_after_an_edit(page: Page) -> None:
    page.open("bn")
    trace = page.derivation.trace()
    page.script("explorer.state.plant(explorer.state.data.mistakes.find((m) => m.id === arguments[0]))", SLIP)
    page.press("q")
    page.script("explorer.state.select('var')")
    page.one("#show-rule").click()
    right = float(trace["var"].gradient[[cell.text for cell in page.all("#gradient td")].index("?")])  # type: ignore[index]
    page.set(page.one("#answer"), 1.2 * right)
    page.press(page.key("ENTER"))
    assert "Not yet" in page.one(".answer").text
    page.set(page.one("#answer"), -right)
    page.press(page.key("ENTER"))
    assert "look at the signs" in page.one(".answer").text
    # With other numbers it asks anew, and what is needed has them.
    page.script("explorer.state.edit('gamma', 0, 30)")
    inputs = page.derivation.example()
    inputs["gamma"][0] = 30.0
    changed = page.derivation.trace(inputs, trace.upstream, numerical=False)
    page.one(".ask details summary").click()
    assert "gradient of std" in page.one(".ask details").text
    near(page.numbers(".ask details")[:2], changed["std"].gradient, "what is needed")
    near(page.numbers(".ask details")[2:], changed["std"].value, "what is needed")
    page.one("#reset").click()
    page.set(page.one("#answer"), f"{right:.4g}")
    page.press(page.key("ENTER"))
    assert "Right" in page.one(".ask").text
    near(page.numbers("#panel #gradient"), trace["var"].gradient, "shown after the answer")
    page.script("explorer.state.select('mu')")
    assert "?" in [cell.text for cell in page.all("#gradient td")]
    page.press("q")
    near(page.numbers("#panel #gradient"), trace["mu"].gradient, "shown without the quiz")


def test_what_the_quiz_asks_for_is_hidden_elsewhere(page: Page) -> None:
    page.open("bn")
    page.press("q")

    def edges() -> dict[str, str]:
        found: dict[str, str] = page.script(
            "return Object.fromEntries([...document.querySelectorAll('.flow')]"
            ".map((text) => [text.dataset.source, text.textContent]))"
        )
        return found

    page.script("explorer.state.select('y')")
    assert edges() == {"scaled": "?", "beta": "?"}
    assert page.one("#back-rules").text.count("asked for in the quiz") == 2
    assert page.all("#back-rules math[display=block]") == []
    assert page.all("#panel .part[data-target]") == []  # nor what is sent on
    page.script("explorer.state.select('scaled')")
    page.one("#show-rule").click()
    page.one("#show-number").click()
    page.script("explorer.state.select('y')")
    assert edges()["beta"] == "?"
    largest = np.abs(page.derivation.trace(numerical=False)["scaled"].gradient).max()  # type: ignore[arg-type]
    assert float(edges()["scaled"].strip("≤ ")) == pytest.approx(largest, rel=1e-3)
    page.one("#tab-collapse").click()
    hidden = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".every((element) => !element.checkVisibility({ visibilityProperty: true }))"
    )
    assert page.script(hidden, "#collapse > *")
    page.one("#tab-table").click()
    assert page.script(hidden, "#table .gradient, #table details")
    page.press("q")
    assert not page.script(hidden, "#table details")


def test_an_answer_that_is_shown_is_counted_as_such(page: Page) -> None:
    page.open("bn")
    page.one("#quiz").click()
    page.one("#show-rule").click()
    page.one("#show-number").click()
    assert page.one("#score").text == "1 of 11, 2 shown"
    assert page.script("return explorer.lesson.questions.hides('scaled')") is False
    assert page.script("return explorer.lesson.questions.hides('x_hat')") is True


@pytest.mark.parametrize("name", ["uan", "softmax-cross-entropy"])
def test_every_line_has_wrong_answers_that_differ_in_numbers(page: Page, name: str) -> None:
    page.open(name)
    made = page.script(
        "const { state } = explorer; const { step } = arguments[0] ?? {};"
        "return state.nodes.filter((n) => n.kind === 'step').flatMap((n) => Object.keys(n.backward)"
        ".filter((input) => state.byName[input].kind !== 'constant').map((input) => [n.name, input, "
        "rules.choices(state, { step: n.name, input }, { draw: rules.chance(1) })"
        ".map(({ slip, text, part }) => [slip === null, text, [...part.data]])]))"
    )
    assert len(made) > 4
    for step, input, offered in made:
        assert [text for right, text, _ in offered if right] == [written(name, step, input)]
        numbers = [json.dumps(part) for _, _, part in offered]
        assert 2 <= len(offered) == len(set(numbers)) <= 4, (step, input)


# --- a size to project ------------------------------------------------------------------------------


RECTANGLE = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.top, r.bottom]"


def test_the_presentation_size_is_half_as_large_again_and_one_screen(page: Page) -> None:
    browser.resize(page.driver, 1366, 768)
    page.open("bn")
    size = "return parseFloat(getComputedStyle(document.querySelector(arguments[0])).fontSize)"
    width = "return document.querySelector('.node rect').getBoundingClientRect().width"
    before = [page.script(size, "#panel h2"), page.script(size, "#value td"), page.script(width)]
    page.one("#present").click()
    after = [page.script(size, "#panel h2"), page.script(size, "#value td"), page.script(width)]
    assert np.divide(after, before)[:2] == pytest.approx([1.5] * 2, rel=0.1)
    assert after[2] > 1.1 * before[2]  # the graph is as wide as its box: nothing of it is cut
    assert page.script("const box = document.querySelector('#map'); return box.scrollWidth - box.clientWidth") <= 0
    for stop in range(page.script("return explorer.state.road.length")):
        page.script("explorer.state.go(arguments[0])", stop)
        assert page.script("return document.documentElement.scrollWidth") <= 1366
        assert page.script("return document.documentElement.scrollHeight") <= 768
        where = [page.script(RECTANGLE, selector) for selector in (".node[aria-current]", "#map")]
        (top, bottom), (first, last) = where
        assert first <= top < bottom <= last, stop


@pytest.mark.parametrize("name", ["bn", *slow("softmax-cross-entropy", "linear", "layer-norm", "uan")])
def test_no_number_is_cut_on_a_projector(page: Page, name: str) -> None:
    browser.resize(page.driver, 1366, 768)
    page.open(name)
    for big in (False, True):
        page.script("explorer.lesson.big.set(arguments[0])", big)
        for stop in range(page.script("return explorer.state.road.length")):
            page.script("explorer.state.go(arguments[0])", stop)
            assert page.script(WIDER) == [], (big, stop)


WIDER = """return [...document.querySelectorAll("#panel .arrays, #panel .scroll")].filter(
  (place) => place.scrollWidth > place.clientWidth + 1).map((place) => place.textContent)"""


def test_an_answer_may_be_typed_with_a_true_minus(page: Page) -> None:
    page.open("bn")
    page.press("q")
    page.one("#show-rule").click()
    name = page.current()
    gradient, entry = page.script(
        "const { state, lesson } = explorer; return [[...state.right.gradients[arguments[0]].data], "
        "lesson.questions.entryOf(arguments[0])]",
        name,
    )
    page.one("#answer").send_keys(f"{gradient[entry]:.6f}".replace("-", "\u2212"))
    page.press(page.key("ENTER"))
    assert "Right" in page.one("#node-question").text


def test_a_sum_tells_no_gradient_that_the_quiz_still_asks_for(page: Page) -> None:
    page.open("bn")
    page.press("q")
    page.script("explorer.state.go(explorer.state.road.length - 1); explorer.state.select('x')")
    page.one("#show-rule").click()
    page.one("#show-number").click()
    page.script("document.querySelector('#gradient button.entry').click()")
    told = page.one(".explained .entry-explained").text
    assert "Not before the quiz is through with" in told
    assert page.all(".entry-explained .from, .entry-explained .result") == []


def test_the_fragment_of_another_script_is_left_alone(page: Page) -> None:
    page.open("uan")
    page.driver.get("about:blank")
    page.driver.get((page.folder / "uan.html").as_uri() + "#only=mixture")
    assert notice(page) == ""
    page.script("explorer.state.go(3); explorer.lesson.state.write()")
    assert page.driver.current_url.endswith("#only=mixture")
    assert notice(page) == ""


def test_where_nothing_goes_back_no_column_is_empty_and_no_loss_is_told(page: Page) -> None:
    page.open("adam")
    assert [title.text.lower() for title in page.all(".column h3")] == ["forward", "put in"]
    assert not page.one("#notation").is_displayed()
    assert not page.one(".swatch.loss").is_displayed()
    page.tab("about")
    assert "to the loss" not in page.one("#about").text


def test_nothing_is_said_of_errors_before_one_is_known(page: Page) -> None:
    page.open("bn")
    told = page.script("explorer.state.edit('x', 0, 3); return document.querySelector('#verdict').textContent")
    assert "12 gradients are still to be proven" in told
    assert "relative error" not in told
    page.proven()
    assert "error of 12 gradients" in page.one("#verdict").text


def test_a_gradient_without_a_numerical_one_is_neither_proven_nor_wrong(page: Page) -> None:
    page.open("posterior")
    page.script("explorer.state.edit('x', 0, 1e8)")
    page.proven()
    assert [name for name, mark in page.marks().items() if mark == "?"] == ["log_total"]
    told = page.one("#verdict").text
    assert f"{explorer.NO_NUMERICAL}: 1. Largest relative error of 11 gradients" in told
    assert "wrong" not in told
    assert page.all(".node.wrong, tr.wrong-row") == []
    page.select("log_total")
    assert "No numerical gradient" in page.one("#node-proof").text
    assert "not to be proven" in str(page.one('.node[data-name="log_total"]').get_attribute("aria-label"))


def test_in_the_game_neither_ways_nor_collapse_tell_where_the_mistake_is(page: Page) -> None:
    page.open("bn")
    page.select("x")
    assert len(page.all("#named-ways [data-way]")) == 3
    page.script("explorer.lesson.game.start(3)")
    assert page.all("#named-ways [data-way]") == []
    page.tab("collapse")
    assert "planted unseen" in page.one("#collapse").text
    assert page.all("#collapse .lines li, #collapse .check, #collapse td") == []
    assert not page.one("#line").is_enabled()
    mistake = page.script("const { planted } = explorer.state; explorer.lesson.game.stop(); return planted.id")
    lines = len(page.derivation.collapse[0].lines)
    page.one("#line").send_keys(page.key("END"))
    assert len(page.all("#collapse .check .right")) == lines - 1
    page.script("explorer.state.plant(explorer.state.data.mistakes.find(({ id }) => id === arguments[0]))", mistake)
    assert "A mistake is planted" in page.one("#collapse").text
    assert page.all("#collapse .check .wrong") != []


def test_an_upstream_gradient_of_zeros_can_be_handed_over(page: Page) -> None:
    bn = find("bn")
    zeros = np.zeros(bn.example()["x"].shape)
    started(page, "bn", {"upstream": zeros.tolist()})
    assert notice(page) == ""
    page.holds(bn.trace(upstream=zeros, numerical=False))
    page.proven()
    assert set(page.marks().values()) == {"✓", ""}
