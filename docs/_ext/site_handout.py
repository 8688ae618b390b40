"""``{handout} NAME``: a derivation on one sheet of paper; ``{collapsed} NAME``: its gradient in short.

Every equation is the derivation's own.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from site_common import parsed, raw
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from uanref.derivations import Derivation, find

BACK = r"\mathrel{+}="


def setup(app: Sphinx) -> None:
    app.add_directive("handout", Handout)
    app.add_directive("collapsed", Collapsed)


def formula(latex: str) -> nodes.math:
    """Return a formula in a line."""
    return nodes.math(latex, latex)


def rows(derivation: Derivation) -> list[nodes.Node]:
    """Return a row for each step: its number, its equation, and the lines that go back."""
    made: list[nodes.Node] = []
    for number, step in enumerate(derivation.steps, 1):
        made += [raw(f"<tr><td>{number}</td><td>"), formula(step.equation), raw('</td><td class="back">')]
        for local in step.backward.values():
            made += [raw("<span>"), formula(local.equation), raw("</span> ")]
        made.append(raw(f"</td><td>{number}′</td></tr>\n"))
    return made


def collapse_of(derivation: Derivation, name: str) -> tuple[list[str], list[str]]:
    """Return the equations of a value's collapse: the way to its short form, and what one needs to compute that.

    The short form is the last line for the value's own gradient, the definitions that earlier lines made in passing
    (after a ``quad``), and the lines after it, which write its parts out.
    """
    (collapse,) = (each for each in derivation.collapse if each.name == name)
    own = f"d{derivation.node(name).symbol}_"
    lines = [line.equation for line in collapse.lines]
    start = max(i for i, line in enumerate(lines) if line.startswith(own))
    defined = [part for line in lines[:start] for part in line.split(r", \quad ")[1:]]
    return lines[:start], [lines[start], *lines[start + 1 :], *defined]


def lines(equations: list[str]) -> list[nodes.Node]:
    """Return equations, each on a line of its own."""
    return [node for equation in equations for node in (raw("<p>"), formula(equation), raw("</p>"))]


class Handout(SphinxDirective):
    """The sheet: steps forward, steps back, and how the gradient of x collapses."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        derivation = find(self.arguments[0])
        way, short = collapse_of(derivation, "x")
        given: list[nodes.Node] = [nodes.Text("Given: ")]
        for node in derivation.inputs:
            given += [formula(node.symbol), nodes.Text(f" {node.meaning}; ")]
        given.append(nodes.Text("indices: "))
        for axis, meaning in derivation.axes.items():
            given += [formula(axis), nodes.Text(f" {meaning}, ")]
        given[-1] = nodes.Text(given[-1].astext().removesuffix(", ") + ".")
        return [
            raw(
                f'<div class="sheet" id="sheet-{derivation.name}"><h2>{escape(derivation.title)}</h2><p class="given">'
            ),
            *given,
            raw(
                '</p><div class="table-wrapper"><table class="steps">'
                "<thead><tr><th></th><th>forward ↓</th><th>backward ↑: "
            ),
            formula("dq"),
            raw(" is the gradient of the loss to q; "),
            formula(BACK),
            raw(" adds to what came before</th><th></th></tr></thead>\n<tbody>\n"),
            *rows(derivation),
            raw('</tbody></table></div>\n<div class="short table-wrapper"><h3>All ways to x together</h3>'),
            *lines(way),
            raw("</div>" + '<div class="short table-wrapper"><h3>In short: what the layer computes</h3>'),
            *lines(short),
            raw("</div></div>"),
        ]


class Collapsed(SphinxDirective):
    """The gradient of one value, ``:of: x``, as the layer computes it: displayed formulas."""

    required_arguments = 1
    option_spec = {"of": directives.unchanged}  # noqa: RUF012  docutils's own name

    def run(self) -> list[nodes.Node]:
        _, short = collapse_of(find(self.arguments[0]), self.options.get("of", "x"))
        return parsed(self, [line for equation in short for line in (f"$$ {equation} $$", "")])
