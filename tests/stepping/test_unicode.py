"""Equations on one line: they say what is computed, and parentheses stand where they are needed."""

from __future__ import annotations

import re

import pytest

from uanref.derivations import DERIVATIONS, Derivation, Step, find
from uanref.derivations.batch_norm import BATCH_NORM
from uanref.derivations.expressions import count, d, mean, ref, sqrt, square, sum_
from uanref.stepping.mathml import mathml
from uanref.stepping.unicode import equation, local_equation, symbol, text

x, mu, centred, gamma, var = ref("x"), ref("mu"), ref("centred"), ref("gamma"), ref("var")

WRITTEN = [
    (x - mu, "x_mc - μ_c"),
    (x - (mu - gamma), "x_mc - (μ_c - γ_c)"),
    (x + (mu + gamma), "x_mc + μ_c + γ_c"),
    (x * (mu + gamma), "x_mc (μ_c + γ_c)"),
    (x / (2 * mu), "x_mc / (2 μ_c)"),
    (x / mu * gamma, "x_mc / μ_c · γ_c"),
    (x * mu / gamma, "x_mc μ_c / γ_c"),
    (x / mu / gamma, "x_mc / μ_c / γ_c"),
    (x / (mu / gamma), "x_mc / (μ_c / γ_c)"),
    (-sum_(d("centred"), "m"), "-Σ_m(dx̅_mc)"),
    (x - -mu, "x_mc - (-μ_c)"),
    (2 * (-0.5 * x), "2 (-0.5 x_mc)"),
    (-square(x) * mu, "-x_mc² μ_c"),
    (square(x + mu), "(x_mc + μ_c)²"),
    (sqrt(var + 1), "√(v_c + 1)"),
    (mean(square(centred), "m"), "mean_m(x̅_mc²)"),
    (d("y") * x * 2, "dy_mc x_mc · 2"),
    (x / count("m"), "x_mc / M"),
    (x / count("m", "c"), "x_mc / (M·C)"),
]


@pytest.mark.parametrize(("expression", "expected"), WRITTEN, ids=[expected for _, expected in WRITTEN])
def test_an_expression_is_written(expression, expected):
    assert text(expression, BATCH_NORM) == expected


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match="nowhere"):
        text(ref("nowhere"), BATCH_NORM)


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=[derivation.name for derivation in DERIVATIONS])
def test_every_equation_names_what_it_uses(derivation: Derivation):
    for step in derivation.steps:
        line = equation(step, derivation)
        assert line.startswith(symbol(step) + " = ")
        for name in step.inputs:
            assert symbol(derivation.node(name)) in line
        for name in step.backward:
            back = local_equation(step, name, derivation)
            assert back.startswith(f"d{symbol(derivation.node(name))} += ")
            assert f"d{symbol(step)}" in back
            assert not re.search(r"[\\{}]", back), "LaTeX is left over"


def test_symbols_of_one_derivation_differ():
    for derivation in DERIVATIONS:
        symbols = [symbol(node) for node in derivation.nodes]
        assert len(set(symbols)) == len(symbols), derivation.name


def test_mathml_has_the_sign_of_addition_to():
    step = find("bn").node("centred")
    assert isinstance(step, Step)
    made = mathml(step.backward["mu"].equation)
    assert made.startswith("<math")
    assert "<mo>+=</mo>" in made
    assert "mathrel" not in made


def latex_of(derivation: Derivation) -> list[str]:
    equations = [node.symbol for node in derivation.nodes]
    for step in derivation.steps:
        equations += [step.equation, *(local.equation for local in step.backward.values())]
    for collapse in derivation.collapse:
        equations += [line.equation for line in collapse.lines]
    return equations


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=[derivation.name for derivation in DERIVATIONS])
def test_every_equation_becomes_mathml(derivation: Derivation):
    for latex in latex_of(derivation):
        made = mathml(latex)
        assert "\\" not in made, f"{latex} was not understood: {made}"
        assert "<merror" not in made
        # Hats and bars are accents: else a browser sets them high above the letter, and too far to the right.
        over = re.findall(r"<mover.*?</mover>", made)
        assert len(over) == len(re.findall(r"\\(?:hat|bar)\b", latex)), latex
        for accent in over:
            assert re.fullmatch(r'<mover accent="true">.+<mo stretchy="false">&#x0(02C6|00AF);</mo></mover>', accent)


@pytest.mark.parametrize(
    ("latex", "sign"), [(r"\hat{m}_t", "02C6"), (r"\bar\sigma^2", "00AF"), (r"\tilde x", "02DC"), (r"\dot x", "02D9")]
)
def test_an_accent_stands_close_above_its_letter(latex: str, sign: str):
    assert f'<mo stretchy="false">&#x0{sign};</mo></mover>' in mathml(latex)
    assert mathml(latex).count('<mover accent="true">') == 1
