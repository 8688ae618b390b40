"""The parts of the site that are made at build time, each by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import requirements

from uanref import UAN, BatchNorm
from uanref.derivations import find

requirements.require("sphinx", extra="docs")
import site_answers  # noqa: E402
import site_frames  # noqa: E402
import site_handout  # noqa: E402
import site_numbers  # noqa: E402
import site_reading  # noqa: E402
from docutils import nodes, utils  # noqa: E402

CHECKOUT = Path(__file__).parents[2]
NOTEBOOKS = sorted((CHECKOUT / "tutorials").glob("[0-9][0-9]*_*.ipynb"))


# --- the ten-minute route -------------------------------------------------------------------------


def test_the_exercises_answers_are_the_layers():
    told = site_numbers.numbers()
    norm = BatchNorm(1, eps=0.0, dtype="float64")
    x = np.array(site_numbers.X)[:, None]
    y = norm.forward(x)
    dx = norm.backward(np.array(site_numbers.DY)[:, None])
    for i in range(len(x)):
        assert told[f"y{i + 1}"] == pytest.approx(y[i, 0])
        assert told[f"moved{i + 1}"] == pytest.approx(y[i, 0])
        assert told[f"dx{i + 1}"] == pytest.approx(dx[i, 0])
    assert told["dgamma"] == pytest.approx(norm.gamma.grad[0])
    assert told["dbeta"] == pytest.approx(norm.beta.grad[0])
    assert told["sum_dx"] == pytest.approx(0, abs=1e-12)
    assert told["sum_dx_x_hat"] == pytest.approx(0, abs=1e-12)


def test_the_mixtures_answers_are_bayes_rule():
    told = site_numbers.numbers()
    at, means = site_numbers.ACTIVATION, np.array(site_numbers.MEANS)
    density = np.exp(-((at - means) ** 2) / 2)
    tau = density / density.sum()
    assert [told["tau1"], told["tau2"]] == pytest.approx(list(tau))
    assert told["exponent"] == pytest.approx(np.log(density[0] / density[1]))
    assert [told["x_hat1"], told["x_hat2"]] == pytest.approx(list(at - means))
    assert told["uan_y"] == pytest.approx(float(tau @ (at - means)))
    layer = UAN(1, 2, statistics="learned", rescale=True, eps=1e-12, dtype="float64")
    state = layer.state_dict()
    given = {
        "prior_logits": 0.0,
        "mean": means[:, None],
        "raw_variance": np.log(np.expm1(1.0)),
        "gamma": 1.0,
        "beta": 0.0,
    }
    layer.load_state_dict(
        {**state, **{name: np.broadcast_to(value, state[name].shape) for name, value in given.items()}}
    )
    assert told["uan_y"] == pytest.approx(layer.forward(np.array([[at]]))[0, 0])
    draws = means[:, None] + np.random.default_rng(0).standard_normal((2, 200_000))
    assert told["one_variance"] == pytest.approx(draws.var(), rel=0.01)
    assert told["one_y"] == pytest.approx(at / draws.std(), rel=0.01)
    assert told["uan_y"] > 0 > told["one_y"], "above the middle of its heap, below the middle of everything"


def test_the_page_shows_every_number_and_takes_ten_minutes():
    source = (CHECKOUT / "docs" / "ten-minutes.md").read_text("utf-8")
    page = site_numbers.filled(source)
    assert "<<" not in page
    assert len(re.findall(r"<<\w+>>", source)) > 30
    assert not re.search(r"(?<![\w-])-\d", re.sub(r"\$.*?\$", "", page, flags=re.DOTALL)), "a minus is no hyphen"
    assert 8 <= site_numbers.minutes_of_page(source) <= 12
    with pytest.raises(KeyError):
        site_numbers.filled("<<nobody>>")


# --- reading times and the answer key -------------------------------------------------------------


def cell(kind, source, *outputs):
    return {"cell_type": kind, "source": source, **({"outputs": list(outputs)} if kind == "code" else {})}


def test_minutes_count_words_formulas_and_code_but_no_exercise():
    prose, formulas, code = "word " * 2000, "$$ x $$\n\n" * 30, "x = 1\n\n" * 100
    body = [cell("markdown", prose + "\n\n" + formulas), cell("code", code)]
    assert site_reading.minutes({"cells": body}) == 10 + 5 + 5
    exercises = [cell("markdown", "## Exercises\n\n" + "word " * 5000), cell("code", code * 10)]
    sources = [cell("markdown", "## Sources\n\n" + "word " * 1000)]
    assert site_reading.minutes({"cells": body + exercises + sources}) == 25


def test_an_exercise_ends_at_the_next_and_at_a_section():
    printed, picture = {"text": ["7\n"]}, {"data": {"image/png": "", "text/plain": "<Figure>"}}
    cells = [
        cell("markdown", "# 07 · Seven\n\n## Exercises\n\n**1.** Why?\n\n**Solution**\n\nSo."),
        cell("code", "# not a section\n7", printed, picture),
        cell("markdown", "**2.** And?\n\n**Solution**\n\nThis.\n\n## Sources\n\nBooks."),
    ]
    first, second = site_answers.exercises({"cells": cells})
    assert (first.number, "\n".join(first.asked).strip()) == (1, "Why?")
    answered = "\n".join(first.answered)
    assert "```python\n# not a section\n7\n```" in answered
    assert "```text\n7\n```" in answered
    assert "Figure" not in answered
    assert "\n".join(second.answered).strip() == "This."


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:3])
def test_every_exercise_of_a_tutorial_has_its_answer(path):
    source = path.with_suffix(".md").read_text("utf-8")
    found = site_answers.exercises(json.loads(path.read_text("utf-8")))
    assert len(found) == source.count("<details>") > 0
    assert [exercise.number for exercise in found] == list(range(1, len(found) + 1))
    for exercise in found:
        assert "".join(exercise.asked).strip()
        assert "```python" in exercise.answered


# --- frames and sheets ----------------------------------------------------------------------------


def framed(name, offered, link, text, runs=()):
    """The HTML of a page with one paragraph, as the site makes it."""
    document = utils.new_document("page")
    paragraph = nodes.paragraph()
    paragraph += [nodes.strong("", offered), nodes.Text(" "), nodes.reference("", link), nodes.Text(text)]
    document += paragraph
    app = SimpleNamespace(env=SimpleNamespace(docname=name), srcdir="")
    site_frames.frame_paragraphs(app, document)
    return "".join(part.astext() for part in document.children), len(document.children)


def test_a_paragraph_that_offers_an_explorer_becomes_its_frames_caption(monkeypatch):
    html, parts = framed("tutorials/05_batch_normalization", "Explorer", "bn", ": try it")
    assert parts == 3
    assert re.search(r'<iframe src="../explore/bn.html" title="[^"]+" loading="lazy">', html)
    assert html.index("<figcaption>") < html.index(": try it") < html.index("Open full page")
    with pytest.raises(ValueError, match="unknown derivation"):
        framed("tutorials/05", "Explorer", "nobody", ".")
    assert framed("tutorials/05", "You need", "bn", ".")[1] == 1

    assert framed("tutorials/13", "Replay", "bn and uan", ".")[1] == 1, "without a recorded run a paragraph it stays"
    monkeypatch.setattr(site_frames, "runs", lambda srcdir: [Path("bn.npz")])
    assert "../explore/replay.html" in framed("tutorials/13", "Replay", "bn and uan", ".")[0]


@pytest.mark.parametrize("name", ["bn", "uan", "uan-learned"])
def test_a_sheet_tells_every_rule_and_a_short_form_that_needs_nothing_else(name):
    derivation = find(name)
    told = [node.astext() for node in site_handout.rows(derivation) if isinstance(node, nodes.math)]
    equations = [step.equation for step in derivation.steps]
    local = [local.equation for step in derivation.steps for local in step.backward.values()]
    assert sorted(told) == sorted(equations + local)
    way, short = site_handout.collapse_of(derivation, "x")
    (collapse,) = derivation.collapse
    assert {*way, *short} >= {line.equation for line in collapse.lines}
    if name != "bn":
        assert any("dy_{mc}" in line for line in short), "what the short form calls the scaled upstream gradient"
