"""What the page says of one entry: the sum that made it, evaluated as it is written; and how numbers are written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest
from support.browser import run_javascript

from uanref.derivations import DERIVATIONS, Trace, find
from uanref.derivations.mistakes import mistakes, plant
from uanref.derivations.primitives import ELEMENTWISE
from uanref.stepping import markup
from uanref.stepping.export import exported
from uanref.stepping.road import stand_in

MOST = 5  # entries of each value, gradient and contribution
NAMES = [derivation.name for derivation in DERIVATIONS]

TOLD = """
const cases = JSON.parse(CASES);
globalThis.result = JSON.stringify(cases.map(({ data, asked, mistake }) => {
  const traced = derivation.trace(data, derivation.inputsOf(data), derivation.upstreamOf(data), mistake);
  return asked.map((one) => explain.told(data, traced, one, mistake));
}));
"""


def script(*names: str) -> str:
    folder = resources.files("uanref.stepping") / "page"
    return "\n".join((folder / name).read_text("utf-8") for name in names)


def told(cases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    code = script("primitives.js", "derivation.js", "dom.js", "arrays.js", "written.js", "told.js", "explain.js")
    found: list[list[dict[str, Any]]] = json.loads(
        run_javascript("\n".join([code, f"const CASES = {json.dumps(json.dumps(cases))};", TOLD]))
    )
    return found


def questions(trace: Trace) -> Iterator[dict[str, Any]]:
    """Of every node some entries: the first, the last, some between."""
    for node in trace.nodes.values():
        for entry in sorted(set(np.linspace(0, node.value.size - 1, MOST).astype(int).tolist())):
            asked = {"name": node.name, "entry": entry}
            yield asked | {"kind": "value"}
            if node.gradient is not None:
                yield asked | {"kind": "gradient"}
                for user in node.contributions:
                    yield asked | {"kind": "contribution", "user": user}
    if stand_in(trace.derivation) is not None:
        yield {"name": "loss", "entry": 0, "kind": "value"}
        yield {"name": "loss", "entry": 0, "kind": "gradient"}
        yield {"name": trace.derivation.output.name, "entry": 0, "kind": "contribution", "user": "loss"}


def right(trace: Trace, asked: dict[str, Any]) -> float:
    if asked["name"] == "loss" and "loss" not in trace.nodes:
        return 1.0 if asked["kind"] == "gradient" else float((trace.upstream * trace.output).sum())
    if asked.get("user") == "loss" and "loss" not in trace.nodes:
        return float(trace.upstream.ravel()[asked["entry"]])
    node = trace[asked["name"]]
    arrays = {"value": node.value, "gradient": node.gradient, "contribution": node.contributions.get(asked.get("user"))}
    return float(np.ravel(arrays[asked["kind"]])[asked["entry"]])


def evaluated(parts: list[dict[str, Any]]) -> float:
    """The number of a sum as a reader would work it out: as it is written, by Python's rules."""
    text = "".join(written(parts))
    for sign, meaning in {"·": "*", "−": "-", "√": "sqrt", "²": "**2"}.items():
        text = text.replace(sign, meaning)
    names = {
        "max": max, "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "step": lambda x: float(x > 0),
        "sigmoid": lambda x: float(ELEMENTWISE["sigmoid"](np.float64(x))),
        "softplus": lambda x: float(ELEMENTWISE["softplus"](np.float64(x))),
    }  # fmt: skip
    return float(eval(text, {"__builtins__": {}}, names))  # the test's own text


def written(parts: list[dict[str, Any]]) -> Iterator[str]:
    for part in parts:
        if "text" in part:
            yield part["text"]
        elif "more" in part:
            assert part["count"] > 1
            yield from written(part["more"])
        else:  # a negative number without parentheses, as the page shows it
            yield repr(part["number"]) if part["number"] < 0 else f"({part['number']!r})"


def sources(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for part in parts:
        if "more" in part:
            yield from sources(part["more"])
        elif part.get("source"):
            yield part


def near(found: float, expected: float, scale: float, what: Any) -> None:
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-11 * max(1.0, scale)), what


def holds(trace: Trace, asked: dict[str, Any], found: dict[str, Any]) -> None:
    """The entry is the one in Python, the lines say it, and every number put in is that of its source."""
    near(found["result"], right(trace, asked), 1.0, asked)
    scale = 0.0
    for line in found["lines"]:
        put_in = list(sources(line["parts"]))
        largest = max((abs(part["number"]) for part in put_in), default=1.0)
        near(evaluated(line["parts"]), line["value"], largest, asked)
        scale = max(scale, abs(line["value"]))
        for part in put_in:
            source = part["source"]
            weight = source["name"] == "g" and "g" not in trace.nodes
            expected = float(trace.upstream.ravel()[source["entry"]]) if weight else right(trace, source)
            near(part["number"], expected, 1.0, (asked, source))
    if found["lines"]:
        near(sum(line["value"] for line in found["lines"]), found["result"], scale, asked)
    else:
        assert found["given"], asked


@pytest.fixture(scope="module")
def explained() -> dict[str, tuple[Trace, list[dict[str, Any]], list[dict[str, Any]]]]:
    traces = [derivation.trace(numerical=False) for derivation in DERIVATIONS]
    asked = [list(questions(trace)) for trace in traces]
    found = told([{"data": exported(t), "asked": a, "mistake": None} for t, a in zip(traces, asked, strict=True)])
    return {name: made for name, *made in zip(NAMES, traces, asked, found, strict=True)}  # type: ignore[misc]


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_the_sum_that_is_written(name: str, explained: dict[str, Any]) -> None:
    trace, asked, found = explained[name]
    for question, answer in zip(asked, found, strict=True):
        holds(trace, question, answer)
        step = question["name"] in {step.name for step in trace.derivation.steps}
        assert len(answer["lines"]) == 1 or question["kind"] == "gradient" or not step, question
        if question["kind"] == "gradient":
            users = [line["user"] for line in answer["lines"]]
            if question["name"] in trace.nodes and trace[question["name"]].contributions:
                assert users == list(trace[question["name"]].contributions)


@pytest.mark.parametrize("name", ["bn", "posterior"])
def test_a_planted_mistake_is_what_is_explained_and_said(name: str) -> None:
    derivation = find(name)
    chosen = mistakes(derivation)[::5]
    traces = [plant(derivation, mistake, numerical=False) for mistake in chosen]
    cases: list[dict[str, Any]] = []
    for mistake, trace in zip(chosen, traces, strict=True):
        asked = [
            {"kind": "gradient", "name": node.name, "entry": 0} for node in trace.nodes.values() if node.contributions
        ]
        wrong = mistake.replacement.backward[mistake.input].expression.as_list()
        told_of = {
            "step": mistake.step,
            "input": mistake.input,
            "description": mistake.description,
            "expression": wrong,
        }
        cases.append({"data": exported(derivation.trace(numerical=False)), "asked": asked, "mistake": told_of})
    for case, mistake, trace, found in zip(cases, chosen, traces, told(cases), strict=True):
        for asked, answer in zip(case["asked"], found, strict=True):
            holds(trace, asked, answer)
            for line in answer["lines"]:
                here = (line["user"], asked["name"]) == (mistake.step, mistake.input)
                assert line["mistake"] == (mistake.description if here else None)


def test_a_gradient_on_its_way_adds_up_what_has_arrived() -> None:
    trace = find("bn").trace(numerical=False)
    first, second = list(trace["centred"].contributions)[:2]
    asked = {"kind": "gradient", "name": "centred", "entry": 3}
    some, none = told(
        [{"data": exported(trace), "asked": [asked | {"users": [second]}, asked | {"users": []}], "mistake": None}]
    )[0]
    assert [line["user"] for line in some["lines"]] == [second] != [first]
    assert some["result"] == pytest.approx(float(trace["centred"].contributions[second].ravel()[3]))
    assert (none["lines"], none["result"], none["given"]) == ([], 0, "nothing has arrived yet")


def test_long_sums_show_the_largest_terms_and_how_many_more() -> None:
    trace = find("linear").trace(find("linear").example(3, i=20))
    asked = {"kind": "value", "name": trace.derivation.steps[0].name, "entry": 0}
    parts = told([{"data": exported(trace), "asked": [asked], "mistake": None}])[0][0]["lines"][0]["parts"]
    (more,) = [part for part in parts if "more" in part]
    shown = [abs(evaluated_product) for evaluated_product in products(parts)]
    hidden = [abs(evaluated_product) for evaluated_product in products(more["more"])]
    assert (len(shown), len(hidden), more["count"]) == (6, 14, 14)
    assert min(shown) >= max(hidden)
    assert more["value"] == pytest.approx(sum(products(more["more"])))


def products(parts: list[dict[str, Any]]) -> list[float]:
    numbers = [part["number"] for part in parts if "number" in part]
    return [a * b for a, b in zip(numbers[::2], numbers[1::2], strict=True)]


# --- numbers ----------------------------------------------------------------------------------------


def test_page_and_markup_write_numbers_alike() -> None:
    rng = np.random.default_rng(5)
    halves = [1.0625, 2.0625, -1.0625, 0.00103125, 1031.25, 9999.5, 9999.4, 0.00099995, 0.5, 0.1, 1e4, 1e-3, 12345.0]
    extreme = [0.0, -0.0, 5e-324, -1e300, -1e-300, 1.0, -1.0, 100.0, math.nan, math.inf]
    drawn = rng.standard_normal(400) * 10.0 ** rng.integers(-12, 13, 400)
    numbers = [*halves, *extreme, *drawn.tolist()]
    listed = ", ".join("NaN" if math.isnan(x) else "Infinity" if math.isinf(x) else repr(x) for x in numbers)
    each = "(x) => [dom.number(x), dom.error(x), dom.parsed(dom.number(x))]"
    code = f"{script('dom.js')}\nglobalThis.result = JSON.stringify([{listed}].map({each}));"
    for x, (number, error, back) in zip(numbers, json.loads(run_javascript(code)), strict=True):
        assert number == markup.number_text(x)
        assert error == markup.error_text(x)
        assert "-" not in number + error
        if math.isfinite(x):
            assert back == pytest.approx(x, rel=6e-4, abs=0)
            assert sum(letter.isdigit() for letter in number.split("e")[0].lstrip("−0.")) == (4 if x else 0), number
            assert len(number) <= 11


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.5, "0.5000"),
        (-1.0, "−1.000"),
        (1234.5678, "1235"),
        (12345.0, "1.235e4"),
        (-0.0001234, "−1.234e−4"),
        (0.00123, "0.001230"),
    ],
)
def test_four_significant_digits(number: float, text: str) -> None:
    assert markup.number_text(number) == text
