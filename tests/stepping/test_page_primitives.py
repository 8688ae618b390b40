"""The page's JavaScript against Python: primitives on random values, and every derivation's trace, proof, collapse."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import numpy as np
import pytest
from support.browser import run_javascript

from uanref.derivations import DERIVATIONS, Derivation, Trace
from uanref.derivations.expressions import Expression, ref
from uanref.derivations.mistakes import mistakes, plant
from uanref.derivations.primitives import ELEMENTWISE, LEAVES, PRIMITIVES, Named, evaluate
from uanref.stepping.export import exported
from uanref.stepping.page_data import WAYS

SIZES = {"m": 4, "c": 3, "k": 5, "n": 2, "h": 4, "u": 2, "v": 3, "p": 3, "q": 3}
NAMES = [derivation.name for derivation in DERIVATIONS]
PER_PRIMITIVE = 12

# What the scripts compute, as nested objects of numbers; {axes, data} per value.
TRACES = """
const cases = JSON.parse(CASES);
const bare = (found) => Object.fromEntries(
  Object.entries(found).map(([name, { axes, data }]) => [name, { axes, data: [...data] }]));
const asValues = (given) => Object.fromEntries(
  Object.entries(given).map(([name, { axes, lists }]) => [name, primitives.fromLists(axes, lists)]));
globalThis.result = JSON.stringify(cases.map((given) => {
  if (given.expression) {
    const made = primitives.evaluate(given.expression, asValues(given.values), given.sizes);
    return bare({ made: primitives.along(made, given.axes, given.sizes) }).made;
  }
  const { data } = given;
  const output = data.nodes.find((node) => node.name === data.output);
  const traced = derivation.trace(
    data, asValues(given.inputs), primitives.fromLists(output.axes, given.upstream), given.mistake);
  const proofs = {};
  for (const name of given.proofs) {
    const { numerical, error } = derivation.proof(data, traced, name);
    proofs[name] = { numerical: [...numerical.data], error };
  }
  return {
    values: bare(traced.values), gradients: bare(traced.gradients), proofs,
    contributions: Object.fromEntries(Object.entries(traced.contributions).map(([k, v]) => [k, bare(v)])),
    collapse: data.collapse.map(({ name, lines }) =>
      lines.map((line) => [...derivation.evaluateIn(data, traced, line.expression, name).data])),
    ways: given.hops.map(([name, user, second]) => [...derivation.contribution(
      data, traced, user, name, traced.contributions[user][second]).data]),
  };
}));
"""


def computed(cases: list[dict[str, Any]]) -> list[Any]:
    folder = resources.files("uanref.stepping") / "page"
    scripts = [(folder / name).read_text("utf-8") for name in ("primitives.js", "derivation.js")]
    found: list[Any] = json.loads(
        run_javascript("\n".join([*scripts, f"const CASES = {json.dumps(json.dumps(cases))};", TRACES]))
    )
    return found


def agree(found: Any, expected: Any, what: str, tolerance: float = 1e-9) -> None:
    expected = np.asarray(expected, dtype=np.float64).ravel()
    assert np.asarray(found).shape == expected.shape, what
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# --- primitives -------------------------------------------------------------------------------------


def drawn(op: str, rng: np.random.Generator) -> tuple[Expression, dict[str, Named]]:
    """A primitive applied to random values with random axes."""
    if op == "number":
        return Expression("number", (), (float(rng.standard_normal()),)), {}
    if op == "count":
        return Expression("count", (), tuple(rng.permutation(["m", "c", "k"])[: rng.integers(1, 4)])), {}
    if op == "patches":
        return Expression(op, (ref("a"),)), {"a": value(rng, tuple(rng.permutation(["n", "h", "k"])))}
    if op == "fold":
        axes = tuple(rng.permutation(["n", "u", "v", "p", "q"]))
        missing = rng.choice(["", "n", "u", "p"])  # a value without an axis is the same all along it
        return Expression(op, (ref("a"),)), {"a": value(rng, tuple(axis for axis in axes if axis != missing))}
    axes = tuple(rng.permutation(["m", "c", "k"])[: rng.integers(0, 4)])
    positive = op in ("log", "sqrt")
    a = value(rng, axes, positive)
    if op in ELEMENTWISE:
        many = 2 if op in ("add", "sub", "mul", "div", "maximum") else 1
        other = value(rng, tuple(rng.permutation(["m", "c", "k"])[: rng.integers(0, 4)]))
        return Expression(op, (ref("a"), ref("b"))[:many]), {"a": a, "b": other}
    if op in ("sum", "mean", "max"):
        over = tuple(rng.permutation(["m", "c", "k"])[: rng.integers(1, 4)])
        return Expression(op, (ref("a"),), over), {"a": a}
    if op in ("softmax", "logsumexp"):
        axes = axes or ("c",)
        return Expression(op, (ref("a"),), (axes[rng.integers(len(axes))],)), {"a": value(rng, axes, scale=300.0)}
    assert op == "ref", f"no case for {op}"
    return ref("a"), {"a": a}


def value(rng: np.random.Generator, axes: tuple[str, ...], positive: bool = False, scale: float = 3.0) -> Named:
    array = scale * rng.standard_normal(tuple(SIZES[axis] for axis in axes))
    return Named(tuple(str(axis) for axis in axes), np.abs(array) + 0.01 if positive else np.asarray(array))


@pytest.fixture(scope="module")
def by_primitive() -> dict[str, list[tuple[Any, Named, str]]]:
    rng = np.random.default_rng(7)
    drawings = [(op, *drawn(op, rng)) for op in PRIMITIVES for _ in range(PER_PRIMITIVE)]
    expected = [evaluate(expression, values, SIZES) for _, expression, values in drawings]
    cases = [
        {
            "expression": expression.as_list(),
            "values": {name: {"axes": list(v.axes), "lists": v.array.tolist()} for name, v in values.items()},
            "sizes": SIZES,
            "axes": list(made.axes),
        }
        for (_, expression, values), made in zip(drawings, expected, strict=True)
    ]
    found: dict[str, list[tuple[Any, Named, str]]] = {}
    for (op, expression, _), made, right in zip(drawings, computed(cases), expected, strict=True):
        found.setdefault(op, []).append((made, right, str(expression.as_list())))
    return found


@pytest.mark.parametrize("op", PRIMITIVES)
def test_a_primitive_is_that_of_python(op: str, by_primitive: dict[str, list[tuple[Any, Named, str]]]) -> None:
    assert len(by_primitive[op]) == PER_PRIMITIVE
    for made, expected, what in by_primitive[op]:
        agree(made["data"], expected.array, what)


def test_the_page_has_these_primitives_and_no_others() -> None:
    folder = resources.files("uanref.stepping") / "page"
    code = (folder / "primitives.js").read_text("utf-8")
    names = json.loads(run_javascript(code + "\nglobalThis.result = JSON.stringify(primitives.names);"))
    assert sorted(names) == sorted(PRIMITIVES)
    assert set(LEAVES) <= set(names)


def test_an_unknown_primitive_or_value_is_an_error() -> None:
    folder = resources.files("uanref.stepping") / "page"
    code = (
        (folder / "primitives.js").read_text("utf-8")
        + """
    const told = [["tanh", []], ["ref", ["nobody"]]].map((wrong) => {
      try { return String(primitives.evaluate(wrong, {}, {})); } catch (error) { return error.message; }
    });
    globalThis.result = JSON.stringify(told);"""
    )
    assert json.loads(run_javascript(code)) == ["unknown primitive tanh", "unknown value nobody"]


# --- derivations ------------------------------------------------------------------------------------


def hops(name: str) -> list[list[str]]:
    """The ways of a value that go over two steps: [value, user, user's user]."""
    return [
        [value, *hop.split("/")]
        for value, ways in WAYS.get(name, {}).items()
        for way in ways.values()
        for hop in way
        if "/" in hop
    ]


def case(derivation: Derivation, trace: Trace, mistake: Any = None, proofs: bool = True) -> dict[str, Any]:
    return {
        "data": exported(derivation.trace(numerical=False)),
        "inputs": {
            node.name: {"axes": list(node.axes), "lists": trace[node.name].value.tolist()} for node in derivation.inputs
        },
        "upstream": trace.upstream.tolist(),
        "mistake": mistake,
        "proofs": [n for n, node in trace.nodes.items() if node.gradient is not None] if proofs else [],
        "hops": hops(derivation.name),
    }


@pytest.fixture(scope="module")
def recomputed() -> dict[str, tuple[Trace, Any]]:
    """Per derivation: a trace on other inputs than the exported ones, and what the page makes of them."""
    traces = {d.name: d.trace(d.example(11), seed=12) for d in DERIVATIONS}
    found = computed([case(d, traces[d.name]) for d in DERIVATIONS])
    return {name: (traces[name], made) for name, made in zip(NAMES, found, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_values_gradients_and_contributions_are_those_of_python(
    name: str, recomputed: dict[str, tuple[Trace, Any]]
) -> None:
    trace, found = recomputed[name]
    assert set(found["values"]) == set(trace.nodes)
    for node in trace.nodes.values():
        agree(found["values"][node.name]["data"], node.value, f"value of {node.name}")
        assert found["values"][node.name]["axes"] == list(node.definition.axes)
        if node.gradient is not None:
            agree(found["gradients"][node.name]["data"], node.gradient, f"gradient of {node.name}")
        assert set(found["contributions"][node.name]) == set(node.contributions)
        for user, part in node.contributions.items():
            agree(found["contributions"][node.name][user]["data"], part, f"{user} to {node.name}")


@pytest.mark.parametrize("name", NAMES)
def test_proofs_are_those_of_python_and_hold(name: str, recomputed: dict[str, tuple[Trace, Any]]) -> None:
    trace, found = recomputed[name]
    assert set(found["proofs"]) == {node.name for node in trace.nodes.values() if node.gradient is not None}
    for proven, proof in found["proofs"].items():
        agree(proof["numerical"], trace[proven].numerical, f"numerical gradient of {proven}", tolerance=1e-6)
        assert proof["error"] <= 1e-6, proven


def test_proofs_know_of_rounding_where_a_component_has_hardly_any_sample() -> None:
    """Traces that were falsely red: a weight or a total below 1e-7, which steps of the value's size jump over."""
    uan = next(d for d in DERIVATIONS if d.name == "uan")
    sizes = [({"m": 1, "c": 3, "k": 4}, 1980958360), ({"m": 2, "c": 8, "k": 8}, 193158811)]
    traces = [uan.trace(uan.example(seed, **lengths), seed=seed) for lengths, seed in sizes]
    cases = [case(uan, t) | {"data": exported(t), "proofs": ["total", "weight"]} for t in traces]
    for trace, found in zip(traces, computed(cases), strict=True):
        for name in ("total", "weight"):
            assert trace[name].error <= 1e-6
            assert found["proofs"][name]["error"] <= 1e-6, name


@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_the_collapse_is_the_gradient(name: str, recomputed: dict[str, tuple[Trace, Any]]) -> None:
    trace, found = recomputed[name]
    assert len(found["collapse"]) == len(trace.derivation.collapse)
    for collapse, lines in zip(trace.derivation.collapse, found["collapse"], strict=True):
        assert len(lines) == len(collapse.lines)
        for line in lines:
            agree(line, trace[collapse.name].gradient, collapse.name, tolerance=1e-7)


@pytest.mark.parametrize("name", sorted(WAYS))
def test_the_ways_of_a_value_add_up_to_its_gradient(name: str, recomputed: dict[str, tuple[Trace, Any]]) -> None:
    trace, found = recomputed[name]
    split = {tuple(hop): np.asarray(part) for hop, part in zip(hops(name), found["ways"], strict=True)}
    for value, ways in WAYS[name].items():
        total = np.zeros(trace[value].value.size)
        for way in ways.values():
            for hop in way:
                user, _, second = hop.partition("/")
                total += split[value, user, second] if second else trace[value].contributions[user].ravel()
        agree(total, trace[value].gradient, f"{name}: {value}")


@pytest.mark.parametrize("name", ["bn", "posterior", "conv"])
def test_a_planted_mistake_makes_the_same_numbers_and_the_same_nodes_red(name: str) -> None:
    derivation = next(d for d in DERIVATIONS if d.name == name)
    chosen = mistakes(derivation)[:: 3 if name != "conv" else 8]
    traces = [plant(derivation, mistake, derivation.example(5), seed=6, numerical=False) for mistake in chosen]
    cases = [
        case(
            derivation,
            trace,
            {
                "step": mistake.step,
                "input": mistake.input,
                "expression": mistake.replacement.backward[mistake.input].expression.as_list(),
            },
            proofs=False,
        )
        for mistake, trace in zip(chosen, traces, strict=True)
    ]
    right = derivation.trace(derivation.example(5), seed=6, numerical=False)
    for mistake, trace, found in zip(chosen, traces, computed(cases), strict=True):
        for node in trace.nodes.values():
            if node.gradient is not None:
                agree(found["gradients"][node.name]["data"], node.gradient, f"{mistake.id}: {node.name}")
        wrong = np.asarray(found["gradients"][mistake.input]["data"])
        assert not np.allclose(wrong, np.ravel(right[mistake.input].gradient), rtol=1e-9, atol=1e-12), mistake.id
