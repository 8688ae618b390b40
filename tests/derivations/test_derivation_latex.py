"""The printed equations: the LaTeX of every line is read, evaluated and held to the expression beside it.

What is printed in a terminal is made from the expressions; what a browser shows is LaTeX. A slip in the LaTeX computes
nothing, so nobody but a reader would notice: here every single one is planted, and the reading must turn red.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from support.derivation_cases import name_of
from support.latex_equations import LatexError, Reader, tokens

from uanref.derivations import DERIVATIONS, Derivation, find
from uanref.derivations.expressions import Expression
from uanref.derivations.primitives import Named, evaluate

EXACT = 1e-10  # of an equation's largest entry


class Readings:
    """The LaTeX of one derivation and what each line must say.

    A line must hold by itself: values and gradients are drawn, each for itself, so that two that happen to be equal, or
    to add up to 0, are told apart. A line that uses how values follow from each other (sigmoid(s) is 1 - exp(-sigma^2))
    is held to values that do; what stands beside a collapse's own gradient, to a true trace.
    """

    def __init__(self, derivation: Derivation, seed: int = 0) -> None:
        self.derivation = derivation
        rng = np.random.default_rng(seed)
        sizes = {"n": 5} if derivation.name == "layer-norm" else {}  # no two axes of one length
        inputs = {name: x * rng.uniform(0.5, 0.9, x.shape) for name, x in derivation.example(seed, **sizes).items()}
        if "eps" in inputs:
            inputs["eps"] = np.asarray(0.3)  # a small one would hide that it is missing
        trace = derivation.trace(inputs, seed=seed, numerical=False)
        self.sizes = trace.sizes
        forward = {n.name: trace[n.name].value for n in derivation.nodes}
        # With the signs that the values have: roots and logarithms stay real.
        free = {name: np.copysign(rng.uniform(0.3, 1.7, x.shape), x) for name, x in forward.items()}
        drawn = {f"d_{name}": rng.standard_normal(x.shape) for name, x in forward.items()}
        true = {f"d_{n.name}": node.gradient for n in derivation.nodes if (node := trace[n.name]).gradient is not None}
        self.modes = [self._mode(values) for values in (free | drawn, forward | drawn)]
        self.true, self.true_reader = self._mode(forward | true)
        self.mode_of = {line[0]: next((m for m in self.modes if not self.wrong(*line, m)), None) for line in self.lines}

    def _mode(self, values):
        return values, Reader(self.derivation, values, self.sizes)

    @functools.cached_property
    def lines(self) -> list[tuple[str, str, bool, bool, Expression]]:
        """Every line: its LaTeX; whose value or gradient stands on the left, whether it adds; what it computes."""
        found = []
        for step in self.derivation.steps:
            found.append((step.equation, step.name, False, False, step.forward))
            found += [(local.equation, name, True, True, local.expression) for name, local in step.backward.items()]
        for told in self.derivation.collapse:
            found += [(line.equation, told.name, True, False, line.expression) for line in told.lines]
        return found

    def wrong(self, latex: str, name: str, gradient: bool, adds: bool, expression: Expression, mode) -> str:
        """What is wrong with a line of LaTeX; empty if it says what the expression says."""
        values, reader = mode
        try:
            for i, (told, true) in enumerate(zip(reader.read(latex), self.true_reader.read(latex), strict=True)):
                if told.adds != (adds and i == 0):
                    return "another sign of equality"
                if i == 0 and (told.name, told.gradient) == (name, gradient):
                    right = _equal(told, self.value(expression, name, values))
                elif i == 0 and (adds or not gradient):
                    return "another value on the left"
                else:
                    right = _equal(true, self.true["d_" * told.gradient + told.name])
                if not right:
                    return "another number"
        except (LatexError, ArithmeticError, KeyError) as error:
            return f"no meaning: {error}"
        return ""

    def value(self, expression: Expression, name: str, values) -> np.ndarray:
        nodes = self.derivation.nodes
        named = {prefix + n.name: Named(n.axes, values[prefix + n.name]) for n in nodes for prefix in ("", "d_")}
        axes = self.derivation.node(name).axes
        made = evaluate(expression, named, self.sizes).along(axes)
        return np.broadcast_to(made, tuple(self.sizes[axis] for axis in axes))


def _equal(equation, expected: np.ndarray) -> bool:
    largest = np.abs(expected).max()
    for place in np.ndindex(expected.shape):
        made = equation.at(dict(zip(equation.axes, place, strict=True)))
        if not abs(made - expected[place]) <= EXACT * largest:
            return False
    return True


@functools.cache
def readings(name: str) -> Readings:
    return Readings(find(name))


LINES = [
    pytest.param(derivation.name, i, id=f"{derivation.name}-{i}")
    for derivation in DERIVATIONS
    for i in range(len(readings(derivation.name).lines))
]


@pytest.mark.parametrize(("name", "i"), LINES)
def test_the_latex_says_what_is_computed(name, i):
    reading = readings(name)
    line = reading.lines[i]
    assert not reading.wrong(*line, reading.modes[-1]), line[0]


def test_nearly_every_line_holds_by_itself():
    """How values follow from each other is used by two lines alone: sigmoid(s) = 1 - exp(-sigma^2), tau the softmax."""
    leaning = {
        latex
        for derivation in DERIVATIONS
        for latex, mode in readings(derivation.name).mode_of.items()
        if mode is not readings(derivation.name).modes[0]
    }
    assert leaning == {
        r"ds_{kc} \mathrel{+}= \frac{d\sigma^2_{kc}}{1 + e^{-s_{kc}}}",
        r"dl_{kmc} \mathrel{+}= \tau_{kmc}\, d\zeta_{mc}, \quad \tau_{kmc} = \frac{e^{l_{kmc}}}{\sum_j e^{l_{jmc}}}",
    }


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_prose_holds_no_formula_that_nobody_evaluates(derivation):
    """No sign of equality, power, quotient or difference of values: what is to be computed stands in an equation."""
    prose = [derivation.summary, *(node.meaning for node in derivation.nodes)]
    prose += [text for step in derivation.steps for text in (step.source,)]
    prose += [line.why for told in derivation.collapse for line in told.lines]
    for text in prose:
        bare = text.replace("0/0", "").replace("the numerical one is 1/2", "")
        assert not re.search(r"[=^*]|\w\s*/\s*\w|\w - \w|\w \+ \w|-\d|sqrt\(|sum\(", bare), text


# --- slips ------------------------------------------------------------------------------------------


def slips(latex: str, derivation: Derivation) -> list[tuple[str, str]]:
    """Every single slip of a line of LaTeX: what was done, and the line with it."""
    signs = tokens(latex)
    letters = sorted({*derivation.axes, *"jr"})
    symbols = {tuple(tokens(node.symbol)): node.axes for node in derivation.nodes}
    found: list[tuple[str, list[str]]] = []

    def put(what: str, start: int, end: int, *instead: str) -> None:
        found.append((f"{what} at {start}", [*signs[:start], *instead, *signs[end:]]))

    depth_of_index = 0
    for at, sign in enumerate(signs):
        inside = depth_of_index > 0
        if sign == "_" and signs[at + 1 : at + 2] == ["{"]:
            depth_of_index = 1
        elif sign == "}" and inside:
            depth_of_index = 0
        single = at > 0 and signs[at - 1] == "_" and sign != "{"
        if (inside or single) and re.fullmatch("[a-z]", sign) and not derivation.forward_only:
            for other in letters:
                if other != sign:
                    put(f"{other} for {sign}", at, at + 1, other)
        elif sign == "-":
            put("minus dropped", at, at + 1)
            put("plus for minus", at, at + 1, "+")
        elif sign == "+" and signs[at - 2 : at] == [r"\mathrel", "{"]:
            put("= for +=", at - 2, at + 2)
        elif sign == "+":
            put("minus for plus", at, at + 1, "-")
        elif sign == "^":
            end = at + 2 if signs[at + 1] != "{" else signs.index("}", at) + 1
            put("power dropped", at, end)
            if re.fullmatch(r"\d", signs[at + 1]):
                put("another power", at + 1, at + 2, str(int(signs[at + 1]) + 1))
        elif re.fullmatch(r"\d", sign) and not (single and derivation.forward_only):
            put("another number", at, at + 1, str(int(sign) + 1))
            if sign == "2":
                put("1 for 2", at, at + 1, "1")
        elif sign in (r"\frac", r"\tfrac"):
            if re.fullmatch(r"\d\d", signs[at + 1]):
                put("half dropped", at, at + 2)
                put("1 for 1/2", at + 1, at + 2, "11")
            else:
                above, below = _group(signs, at + 1), _group(signs, at + 1 + len(_group(signs, at + 1)))
                end = at + 1 + len(above) + len(below)
                put("fraction turned", at, end, r"\frac", *below, *above)
                put("divisor dropped", at, end, "(", *above[1:-1], ")")
                put("fraction for product", at, end, "(", *above[1:-1], ")", "(", *below[1:-1], ")")
        elif sign == "/":
            put("product for quotient", at, at + 1)
        elif sign in (r"\sqrt", r"\log"):
            put("function dropped", at, at + 1)
        elif sign == r"\sum":
            end = at + 3 if signs[at + 2] != "{" else signs.index("}", at) + 1
            put("sum dropped", at, end)
        elif sign.isupper() and sign.lower() in derivation.axes and sign != "L":
            for axis in derivation.axes:
                if axis != sign.lower():
                    put(f"{axis.upper()} for {sign}", at, at + 1, axis.upper())
    # Values: left out, or another one of the same axes; a gradient for a value and a value for a gradient.
    right = signs.index("=") + 1
    for at in range(right, len(signs)):
        fitting = max((s for s in symbols if tuple(signs[at : at + len(s)]) == s), key=len, default=None)
        if fitting is None or (signs[at - 1] in ("_", r"\bar", r"\hat") or _in_index(signs, at)):
            continue
        before = at - 1 if signs[at - 1] == "d" else at
        end = at + len(fitting)
        index_end = end
        if signs[end : end + 1] == ["_"]:
            index_end = end + 2 if signs[end + 1] != "{" else signs.index("}", end) + 1
        put("value left out", before, index_end)
        if not derivation.forward_only:
            put("d left out", before, at) if before < at else put("d for a value", at, at, "d")
        for other, axes in symbols.items():
            if other != fitting and axes == symbols[fitting]:
                put(f"{' '.join(other)} for {' '.join(fitting)}", at, end, *other)
    return [(what, " ".join(made)) for what, made in found]


def _group(signs: list[str], at: int) -> list[str]:
    if signs[at] != "{":
        return signs[at : at + 1]
    depth = 0
    for end in range(at, len(signs)):
        depth += {"{": 1, "}": -1}.get(signs[end], 0)
        if depth == 0:
            return signs[at : end + 1]
    raise ValueError("unbalanced")


def _in_index(signs: list[str], at: int) -> bool:
    opened = "".join(signs[:at]).rfind("_{")
    return opened >= 0 and "}" not in "".join(signs[:at])[opened:]


def missed(derivation: Derivation, every: int) -> tuple[list[str], int]:
    """Plant each ``every``-th slip; return those that no reading sees, and how many were planted."""
    reading = readings(derivation.name)
    planted = [(line, *slip) for line in reading.lines for slip in slips(line[0], derivation)][::every]
    found = [
        f"{what}: {line[0]} -> {wrong}"
        for line, what, wrong in planted
        if not reading.wrong(wrong, *line[1:], reading.mode_of[line[0]])
    ]
    return found, len(planted)


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_a_sample_of_slips_in_the_latex_is_seen(derivation):
    found, planted = missed(derivation, every=7)
    assert planted > 4
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_every_slip_in_the_latex_is_seen(derivation):
    found, planted = missed(derivation, every=1)
    assert planted > 30
    assert not found, f"{len(found)} of {planted}\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"dv_c \mathrel{+}= \frac{ds_c}{2 s_c}", r"dv_c \mathrel{+}= \frac{ds_c}{s_c}"),
        (r"ds_c \mathrel{+}= -i_c^2\, di_c", r"ds_c \mathrel{+}= i_c^2\, di_c"),
        (r"ds_c \mathrel{+}= -i_c^2\, di_c", r"ds_c \mathrel{+}= -i_c\, di_c"),
        (r"\bar x_{mc} = x_{mc} - \mu_c", r"\bar x_{mc} = x_{mc} + \mu_c"),
        (r"d\mu_c \mathrel{+}= -\sum_m d\bar x_{mc}", r"d\mu_c \mathrel{+}= -\sum_c d\bar x_{mc}"),
    ],
)
def test_the_classical_slips_are_seen(right, wrong):
    reading = readings("bn")
    line = next(line for line in reading.lines if line[0] == right)
    assert reading.wrong(wrong, *line[1:], reading.modes[0])
