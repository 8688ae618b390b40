"""The explorer's page as Python makes it: complete, self-contained, safe, readable without a script; and its layout."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import re
import time
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import math_font

from uanref import files
from uanref.derivations import DERIVATIONS, Derivation, find
from uanref.derivations.mistakes import mistakes
from uanref.derivations.primitives import Named, evaluate
from uanref.stepping import explorer, font, layout, markup, page_data
from uanref.stepping import policy as policies
from uanref.stepping.export import exported
from uanref.stepping.layout_columns import WIDTH
from uanref.stepping.unicode import local_equation

VOID = {"meta", "link", "input", "br", "path"}
NAMES = [derivation.name for derivation in DERIVATIONS]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {derivation.name: explorer.page(derivation) for derivation in DERIVATIONS}


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


class Reader(HTMLParser):
    """Collects tags, attributes and the text outside of scripts; unbalanced tags are an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


# --- the page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_sound_and_loads_nothing(name: str, pages: dict[str, str]) -> None:
    reader = read(pages[name])
    loading = {
        (tag, key): text
        for tag, attributes in reader.tags
        for key, text in attributes.items()
        if key in ("src", "srcset", "href", "action", "data", "poster", "xlink:href")
    }
    assert all(str(text).startswith(("#", "data:,")) for text in loading.values()), loading
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    css = re.search(r"<style>(.*?)</style>", pages[name], re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", pages[name], re.DOTALL)
    assert css
    assert len(scripts) == len(explorer.SCRIPTS)
    assert policy == policies.policy([css[1]], scripts)
    assert "default-src 'none'" in str(policy)
    assert "connect-src" not in str(policy)
    assert "unsafe" not in str(policy)
    # The policy refuses both, wherever they stand.
    assert not [key for _, attributes in reader.tags for key in attributes if key == "style" or key.startswith("on")]
    assert "style=" not in json.dumps(data_of(pages[name])).replace("displaystyle=", "")
    css = "".join((resources.files("uanref.stepping") / "page" / name).read_text("utf-8") for name in explorer.STYLES)
    assert not re.search(r"@import|url\((?!#)", css)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_every_node_is_in_the_graph_and_in_the_table_with_its_error(name: str, pages: dict[str, str]) -> None:
    page, trace = pages[name], find(name).trace()
    links = [a for tag, a in read(page).tags if tag == "a" and "node" in str(a.get("class"))]
    stand_in = [] if trace.derivation.forward_only or "loss" in trace.nodes else ["loss"]
    assert [a["data-name"] for a in links] == [*trace.nodes, *stand_in]
    for loss in stand_in:
        row = re.search(rf'<tr id="row-{loss}".*?</tr>\n', page + "\n", re.DOTALL)
        assert row
        value = float((trace.upstream * trace.output).sum())
        assert f">{markup.number_text(value)}</td>" in row[0]
        assert f">{markup.number_text(1.0)}</td>" in row[0]
    for node in trace.nodes.values():
        row = re.search(rf'<tr id="row-{node.name}".*?</tr>\n', page, re.DOTALL)
        assert row, node.name
        if node.error is None:
            assert "no gradient" in row[0]
        else:
            assert node.error <= 1e-6
            assert f'<td class="error">{markup.error_text(node.error)}</td>' in row[0]
            assert row[0].count(f">{markup.number_text(float(np.ravel(node.gradient)[-1]))}</td>") >= 1
        assert f">{markup.number_text(float(np.ravel(node.value)[0]))}</td>" in row[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_carries_the_trace_and_the_mistakes(name: str, pages: dict[str, str]) -> None:
    derivation, data = find(name), data_of(pages[name])
    assert data["derivation"] == json.loads(json.dumps(exported(derivation.trace())))
    listed = [] if derivation.forward_only else mistakes(derivation)
    assert [mistake["id"] for mistake in data["mistakes"]] == [mistake.id for mistake in listed]
    for told, mistake in zip(data["mistakes"], listed, strict=True):
        wrong = mistake.replacement.backward[mistake.input].expression
        assert told["expression"] == json.loads(json.dumps(wrong.as_list()))
        assert told["text"] == local_equation(mistake.replacement, mistake.input, derivation)
        right = next(s for s in derivation.steps if s.name == mistake.step).backward[mistake.input].expression
        assert told["expression"] != json.loads(json.dumps(right.as_list()))


def test_the_page_of_uan_is_small_and_quickly_made() -> None:
    start = time.perf_counter()
    page = explorer.page(find("uan"))
    assert time.perf_counter() - start < 5
    assert len(page.encode()) < 1_000_000


def test_every_script_is_on_the_page_and_ends_no_element() -> None:
    folder = resources.files("uanref.stepping") / "page"
    assert {file.name for file in folder.iterdir() if file.name.endswith(".js")} == set(explorer.SCRIPTS)
    for name in explorer.SCRIPTS:
        code = (folder / name).read_text("utf-8")
        assert '"use strict";' in code
        assert not re.search(r"</script|<!--", code, re.IGNORECASE)
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import)\s*\(", code), name
        assert "http" not in code.replace("http://www.w3.org/2000/svg", ""), name


def test_text_is_escaped_everywhere() -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(1)">&\'"'
    bn = find("bn")
    steps = tuple(dataclasses.replace(step, meaning=evil, source=evil) for step in bn.steps)
    inputs = tuple(dataclasses.replace(node, meaning=evil) for node in bn.inputs)
    axes = {"m": evil, "c": evil}
    derivation = dataclasses.replace(bn, title=evil, summary=evil, layer=evil, steps=steps, inputs=inputs, axes=axes)
    page = explorer.page(derivation)
    reader, plain = read(page), read(explorer.page(bn))
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in plain.tags]
    assert evil in "".join(reader.text)
    assert data_of(page)["derivation"]["nodes"][0]["meaning"] == evil


def test_given_inputs_and_upstream_are_on_the_page() -> None:
    bn = find("bn")
    inputs = bn.example(3, m=7)
    upstream = np.random.default_rng(4).standard_normal((7, 2))
    trace = bn.trace(inputs, upstream)
    told = data_of(explorer.page(bn, inputs, upstream))["derivation"]
    assert told == json.loads(json.dumps(exported(trace)))
    assert data_of(explorer.page(bn, seed=9))["derivation"]["nodes"][0]["value"] == bn.example(9)["x"].tolist()


def test_what_does_not_fit_on_a_page_is_told() -> None:
    bn = find("bn")
    with pytest.raises(ValueError, match="give smaller inputs"):
        explorer.page(bn, bn.example(m=2000))
    with pytest.raises(ValueError, match="not finite"):
        explorer.page(bn, bn.example() | {"x": np.full((5, 2), 1e300) * np.arange(10).reshape(5, 2)})
    with pytest.raises(ValueError, match="missing gamma"):
        explorer.page(bn, {key: array for key, array in bn.example().items() if key != "gamma"})


def test_a_gradient_without_a_numerical_one_is_told_and_the_page_is_made() -> None:
    posterior = find("posterior")
    inputs = posterior.example()
    inputs["x"][0, 0] = 1e8
    page = explorer.page(posterior, inputs)
    trace = posterior.trace(inputs)
    (name,) = [node.name for node in trace.nodes.values() if node.unproven]
    told = {node["name"]: node for node in data_of(page)["derivation"]["nodes"]}[name]
    assert told["gradient"] == trace[name].gradient.tolist()  # type: ignore[union-attr]
    assert [told[key] for key in ("numerical", "doubt", "error")] == [None] * 3
    assert f"{explorer.NO_NUMERICAL}: 1. Largest relative error of 11 gradients" in page
    assert '<td class="error">no number</td>' in page


def test_numbers_are_written_with_four_digits_and_colored_by_size() -> None:
    table = markup.array_table([[1.0, -2.0], [0.123456, 0.0]], ["m", "c"], {"m": "sample", "c": "channel"}, "Value")
    assert '<td class="negative h10">−2.000</td>' in table
    assert '<td class="positive h1">0.1235</td>' in table
    assert "m, c" in table
    assert markup.error_text(1.24e-6) == "1.2e−6"
    assert markup.error_text(3e-12) == "3.0e−12"
    three = markup.array_table(np.ones((2, 1, 2)).tolist(), ["k", "m", "c"], {"k": "component"}, "Value")
    assert three.count("<table") == 2
    assert "<caption>Value, component 2</caption>" in three
    assert markup.array_table(3.5, [], {}, "Value").count("<td") == 1
    assert "NaN" not in markup.array_table([0.0], ["c"], {"c": "channel"}, "Value")


# --- the font ---------------------------------------------------------------------------------------


def test_the_font_holds_every_character_of_every_equation() -> None:
    ttf = pytest.importorskip("fontTools.ttLib")
    face = ttf.TTFont(io.BytesIO(font.font()))
    assert "MATH" in face
    held = {chr(code) for code in face.getBestCmap()}
    for derivation in DERIVATIONS:
        wanted = math_font.characters(exported(derivation.trace(numerical=False)))
        assert len(wanted) > 10
        assert wanted <= held, (derivation.name, sorted(wanted - held))
    named = {str(record) for record in face["name"].names if record.nameID in (1, 4)}
    assert named == {font.FAMILY}  # its licence reserves the name of the whole font


def test_the_font_is_small_and_its_licence_stands_beside_it() -> None:
    assert font.font()[:4] == b"wOFF"
    assert len(font.font()) < 60_000
    licence = (resources.files("uanref.stepping") / "page" / "math.LICENSE.txt").read_text("utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence


# --- writing ----------------------------------------------------------------------------------------


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    explorer.write(target, "one")
    with pytest.raises(FileExistsError, match="--force"):
        explorer.write(target, "two")
    assert target.read_text() == "one"
    explorer.write(target, "two", force=True)
    assert target.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.html"
    explorer.write(target, "one")
    with pytest.raises(UnicodeEncodeError):
        explorer.write(target, "half a page \ud800", force=True)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        explorer.write(target, "two", force=True)
    assert target.read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_or_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        explorer.write(tmp_path, "text", force=True)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        explorer.write(tmp_path / "nowhere" / "page.html", "text")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(OSError, match=r"cannot be written \(Permission denied\)"):
        explorer.write(tmp_path / "page.html", "text")


# --- the one-dimensional view -----------------------------------------------------------------------


def test_a_prior_of_all_channels_is_not_drawn_for_one() -> None:
    assert page_data.mixture(find("uan-shared")) is None


@pytest.mark.parametrize("name", ["posterior", "uan", "uan-learned"])
def test_the_view_of_a_mixture_draws_densities_and_posteriors(name: str) -> None:
    derivation = find(name)
    view = page_data.mixture(derivation)
    assert view is not None
    grid = np.linspace(-30, 30, 6001)
    inputs = derivation.example(2, m=len(grid)) | {"x": np.stack([grid, grid], 1)}
    trace = derivation.trace(inputs, numerical=False)
    values = {node.name: Named(node.definition.axes, node.value) for node in trace.nodes.values()}

    def along(key: str, axes: tuple[str, ...]) -> Any:
        return evaluate(expression_of(view[key]), values, trace.sizes).along(axes)

    prior, density, posterior = (
        along("prior", ("k", "c")),
        along("density", ("k", "m", "c")),
        along("posterior", ("k", "m", "c")),
    )
    total = along("total", ("m", "c"))
    np.testing.assert_allclose(prior.sum(0), 1)
    np.testing.assert_allclose(density.sum(1) * (grid[1] - grid[0]), prior, rtol=1e-6)
    np.testing.assert_allclose(density.sum(0), total)
    np.testing.assert_allclose(posterior, density / total, atol=1e-12)
    np.testing.assert_allclose(along("variance", ("k", "c")), np.logaddexp(0, inputs["raw_variance"]))
    assert view["transform"] == (None if name == "posterior" else "y")


def expression_of(lists: list[Any]) -> Any:
    from uanref.derivations.expressions import Expression

    op, options, *args = lists
    return Expression(op, tuple(expression_of(arg) for arg in args), tuple(options))


def test_a_derivation_without_components_has_no_such_view() -> None:
    assert page_data.mixture(find("bn")) is None
    assert page_data.mixture(find("softmax-cross-entropy")) is None


# --- the layout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=NAMES)
def test_boxes_do_not_touch_and_edges_run_down_past_them(derivation: Derivation) -> None:
    drawn = layout.layout(derivation)
    assert list(drawn.boxes) == [node.name for node in derivation.nodes]
    for one, other in itertools.combinations(drawn.boxes.values(), 2):
        apart = abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= layout.HEIGHT
        assert apart, (one.name, other.name)
    for box in drawn.boxes.values():
        assert WIDTH / 2 <= box.x <= drawn.width - WIDTH / 2
        assert 0 <= box.y <= drawn.height - layout.HEIGHT
    assert {(e.source, e.target) for e in drawn.edges} == {(i, s.name) for s in derivation.steps for i in s.inputs}
    for edge in drawn.edges:
        points = corners(edge.path)
        heights = [y for _, y in points]
        assert heights == sorted(heights)
        source, target = drawn.boxes[edge.source], drawn.boxes[edge.target]
        assert points[0] == pytest.approx((source.x, source.y + layout.HEIGHT), abs=0.06)
        assert points[-1][1] == pytest.approx(target.y, abs=0.06)
        assert abs(points[-1][0] - target.x) <= WIDTH / 2
        for (x, top), (_, bottom) in itertools.pairwise(points):  # past a row an edge runs straight down
            for box in drawn.boxes.values():
                if bottom - top == pytest.approx(layout.HEIGHT, abs=0.11) and box.y == pytest.approx(top, abs=0.06):
                    assert abs(box.x - x) >= WIDTH / 2, (edge.source, edge.target, box.name)


def corners(path: str) -> list[tuple[float, float]]:
    """The ends of a path's parts: of ``M x y``, ``C x y x y x y`` and ``V y``."""
    points: list[tuple[float, float]] = []
    for letter, rest in re.findall(r"([MCV])([^MCV]*)", path):
        numbers = [float(number) for number in rest.split()]
        points.append((points[-1][0], numbers[0]) if letter == "V" else (numbers[-2], numbers[-1]))
    return points


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=NAMES)
def test_inputs_stand_just_above_their_first_user_and_the_graph_fits_a_phone(derivation: Derivation) -> None:
    drawn = layout.layout(derivation)
    for node in derivation.inputs:
        users = [drawn.boxes[step.name].y for step in derivation.steps if node.name in step.inputs]
        assert min(users) - drawn.boxes[node.name].y == layout.HEIGHT + layout.ROW_GAP
    lowest = max(box.y for box in drawn.boxes.values())
    assert drawn.boxes[derivation.output.name].y == lowest
    # Squeezed into 366 px, symbols of 14 px are still 9.9 px high.
    assert drawn.width <= 520
