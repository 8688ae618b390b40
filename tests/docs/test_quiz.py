"""The quiz: its right answers by an independent way, and a pupil who answers both runs in a browser."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from support import browser, requirements

from uanref.derivations import find
from uanref.stepping.unicode import local_equation

requirements.require("sphinx", extra="docs")
import quiz_questions  # noqa: E402
import site_quiz  # noqa: E402

RUNS = {run: quiz_questions.questions(seed) for run, seed in quiz_questions.RUNS.items()}
NUMBER = r"[−-]?\d+(?:\.\d+)?"


def numbers(text):
    return np.array([float(found.replace("−", "-")) for found in re.findall(NUMBER, text)])


def rows(question, name):
    """The numbers in brackets after ``name =``, as the pupil sees them."""
    (found,) = re.findall(rf"{name} = \((.*?)\)", " ".join(question.given))
    return numbers(found)


EXPECTED = {
    "shift-number": lambda q: rows(q, "dy").sum(),
    "square-number": lambda q: 2 * np.prod([numbers(part)[0] for part in q.given[-1].split("= ")[1:]]),
    "two-ways": lambda q: numbers(q.given[1])[0] + numbers(q.given[1])[1] / numbers(q.given[0])[0],
    "relu": lambda q: rows(q, "dy")[rows(q, "x") > 0].sum(),
    "softmax": lambda q: numbers(q.given[1])[int(numbers(q.asked)[0]) - 1] - 1,
}
RULES = {
    "shift": ("bn", "y", "beta"),
    "square": ("bn", "squared", "centred"),
    "mean": ("bn", "mu", "x"),
    "log-sum-exp": ("posterior", "log_total", "score"),
}


def test_ten_questions_twice_with_other_numbers():
    before, after = RUNS.values()
    assert [question.id for question in before] == [question.id for question in after]
    assert len({question.id for question in before}) == 10
    for first, second in zip(before, after, strict=True):
        assert first.given != second.given or first.choices != second.choices, first.id
        if first.id in EXPECTED:
            assert first.right != second.right, first.id


@pytest.mark.parametrize("run", RUNS)
def test_right_answers_follow_from_what_is_given(run):
    by_id = {question.id: question for question in RUNS[run]}
    for name, expected in EXPECTED.items():
        assert by_id[name].right == pytest.approx(expected(by_id[name]), abs=1e-9), name
    for name, (derivation, step_name, to) in RULES.items():
        step = next(step for step in find(derivation).steps if step.name == step_name)
        question = by_id[name]
        assert question.choices[int(question.right)] == local_equation(step, to, find(derivation))
        assert len(set(question.choices)) == len(question.choices) >= 3
    total = by_id["sum-of-dx"]
    assert total.choices[int(total.right)] == "0"
    assert set(by_id) == {*EXPECTED, *RULES, "sum-of-dx"}


def test_a_number_typed_to_two_places_counts():
    for question in (question for run in RUNS.values() for question in run if not question.choices):
        assert abs(round(question.right, 2) - question.right) <= quiz_questions.TOLERANCE


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver():
    with browser.opened(390, 844) as opened:
        yield opened


@pytest.fixture
def quiz(driver, tmp_path):
    """The page, opened from a file of its own, with a folder for what it saves."""
    (tmp_path / "quiz.html").write_text(site_quiz.page(), "utf-8")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    driver.get_log("browser"), driver.get_log("performance")
    driver.get((tmp_path / "quiz.html").as_uri())
    driver.execute_script("localStorage.clear()")
    browser.reload(driver)
    return driver


def press(driver, selector):
    element = browser.one(driver, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def answer(driver, run, right):
    """Answer a run, the first ``right`` questions rightly and all others wrongly."""
    press(driver, f"#{run}")
    for i, question in enumerate(RUNS[run]):
        if question.choices:
            place = (int(question.right) + (i >= right)) % len(question.choices)
            press(driver, f"#{run}-{question.id} input[value='{place}']")
        else:
            field = browser.one(driver, f"#{run}-{question.id} input")
            field.send_keys(f"{question.right + (i >= right):.2f}".replace(".", ",", i % 2))
    press(driver, "#finish")


def saved(folder, pattern):
    for _ in range(100):
        if found := [path for path in folder.glob(pattern) if path.stat().st_size]:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} was saved")


def test_a_pupil_answers_before_and_after_and_saves_the_answers(quiz, tmp_path, monkeypatch, capsys):
    browser.one(quiz, "#code").send_keys("=red 7<b>")
    answer(quiz, "before", 4)
    assert browser.one(quiz, "#score-before").text == "before: 4 of 10"
    assert not quiz.find_elements("css selector", "#results"), "right answers are not told before the second run"
    browser.reload(quiz)
    assert browser.one(quiz, "#score-before").text == "before: 4 of 10", "kept"
    answer(quiz, "after", 9)
    assert browser.one(quiz, "#gain").text == "From 4 to 9 of 10."
    marks = [cell.text[0] for cell in quiz.find_elements("css selector", "#results td > span")]
    assert "".join(marks[::2]) == "✓" * 4 + "✗" * 6
    assert "".join(marks[1::2]) == "✓" * 9 + "✗"
    assert quiz.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    shown = [code.text for code in quiz.find_elements("css selector", "#results code")]
    assert any("\N{MINUS SIGN}" in text for text in shown)
    assert not [text for text in shown if "-" in text], "every minus alike"

    press(quiz, "#csv")
    press(quiz, "#json")
    file = saved(tmp_path, "*.csv")
    assert file.name == "gradients-red_7b.csv"
    with file.open(encoding="utf-8-sig") as stream:
        told = list(csv.DictReader(stream))
    assert [int(row["correct"]) for row in told] == [1] * 4 + [0] * 6 + [1] * 9 + [0]
    assert {row["code"] for row in told} == {"red 7b"}
    assert [row["question"] for row in told if row["run"] == "after"] == [question.id for question in RUNS["after"]]
    as_json = json.loads(saved(tmp_path, "*.json").read_text("utf-8"))
    assert [row["correct"] for row in as_json] == [int(row["correct"]) for row in told]

    # What the teacher's page offers to add up the files with.
    teaching = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", teaching, re.DOTALL)[1], {})
    gains = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [float(gain[-1]) for gain in gains] == [0] * 4 + [1] * 5 + [0]

    browser.requests(browser.messages(quiz))
    assert not [entry for entry in quiz.get_log("browser") if entry["level"] == "SEVERE"]


def test_missing_answers_are_asked_for_once_and_count_as_wrong(quiz):
    press(quiz, "#before")
    press(quiz, "#finish")
    assert "10 without an answer" in browser.one(quiz, "[role=status]").text
    press(quiz, "#finish")
    assert browser.one(quiz, "#score-before").text == "before: 0 of 10"
    press(quiz, "#delete")
    press(quiz, "#delete")
    assert browser.one(quiz, "#before").is_displayed()


def test_whatever_the_storage_holds_the_page_begins(quiz):
    key = f"uanref-quiz-{site_quiz.data()['version']}"
    for held in (
        "{",
        "null",
        '{"code":7}',
        '{"code":"<img>","runs":{"before":{"answers":[99,{},"<b>",null,[1]],"done":true,"seconds":"x"}}}',
    ):
        quiz.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, held)
        browser.reload(quiz)
        assert browser.one(quiz, "#code").is_displayed(), held
    for _ in range(3):  # the browser's storage of files may take a moment from one load to the next
        if quiz.find_elements("css selector", "#score-before"):
            break
        quiz.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, held)
        browser.reload(quiz)
    assert browser.one(quiz, "#score-before").text == "before: 0 of 10"


def test_each_question_leads_to_its_node_in_the_explorer(driver, tmp_path):
    from uanref.stepping import explorer

    (tmp_path / "quiz.html").write_text(site_quiz.page(), "utf-8")
    driver.get((tmp_path / "quiz.html").as_uri())
    driver.execute_script("localStorage.clear()")
    browser.reload(driver)
    for run in RUNS:
        answer(driver, run, 10)
    links = [link.get_attribute("href") for link in driver.find_elements("css selector", "#results a")]
    assert len(links) == 10
    folder = tmp_path / "explore"
    folder.mkdir()
    for name in {question.explorer[0] for question in RUNS["after"]}:
        explorer.write(folder / f"{name}.html", explorer.page(find(name)))
    for link, question in zip(links, RUNS["after"], strict=True):
        driver.get("about:blank")
        driver.get(link)
        shown = "L" if question.explorer[1] == "loss" else question.explorer[1]
        assert re.fullmatch(rf"\d+ of \d+: {shown}, .*", browser.one(driver, "#position").text), link
        assert not browser.one(driver, "#notice").is_displayed()


def test_without_a_storage_answers_last_as_long_as_the_page(quiz):
    quiz.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})"},
    )
    browser.reload(quiz)
    assert "keeps nothing" in browser.one(quiz, "#main").text
    answer(quiz, "before", 10)
    assert browser.one(quiz, "#score-before").text == "before: 10 of 10"
