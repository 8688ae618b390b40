"""``{handout} NAME``: a derivation on one sheet of paper; ``{collapsed} NAME``: its gradient in short.

Every equation is the derivation's own.
"""

from __future__ import annotations

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


def inline(latex: str) -> str:
    """Return a formula inside a table: MathJax finds it between the signs that Sphinx puts around one."""
    from html import escape

    return f'<span class="math notranslate nohighlight">\\({escape(latex)}\\)</span>'


def rows(derivation: Derivation) -> str:
    """Return a row for each step: its number, its equation, and the lines that go back."""
    made = []
    for number, step in enumerate(derivation.steps, 1):
        back = " ".join(f"<span>{inline(local.equation)}</span>" for local in step.backward.values())
        made.append(
            f'<tr><td>{number}</td><td>{inline(step.equation)}</td><td class="back">{back}</td><td>{number}′</td></tr>'
        )
    return "\n".join(made)


def last_lines(derivation: Derivation, name: str) -> list[tuple[str, str]]:
    """Return what a reader needs of a value's collapse to compute it: equation and reason of the last lines.

    Lines that only give a short name to a part (they do not begin with the value's own gradient) belong to the last
    line that does.
    """
    (collapse,) = (each for each in derivation.collapse if each.name == name)
    own = f"d{derivation.node(name).symbol}_"
    start = max(i for i, line in enumerate(collapse.lines) if line.equation.startswith(own))
    return [(line.equation, line.why) for line in collapse.lines[start:]]


class Handout(SphinxDirective):
    """The sheet: steps forward, steps back, the collapsed gradient. The content stands below the title."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        derivation = find(self.arguments[0])
        short = "".join(f"<p>{inline(equation)}</p>" for equation, _ in last_lines(derivation, "x"))
        axes = ", ".join(f"{inline(axis)} {meaning}" for axis, meaning in derivation.axes.items())
        settings = "; ".join(f"{inline(node.symbol)} {node.meaning}" for node in derivation.inputs)
        head = parsed(self, list(self.content)) if self.content else []
        return [
            raw(f'<div class="sheet" id="sheet-{derivation.name}"><h2>{derivation.title}</h2>'),
            *head,
            raw(
                f'<p class="given">Given: {settings}. Indices: {axes}.</p>\n'
                '<table class="steps"><thead><tr><th></th><th>forward, down</th><th>backward, up: '
                f"{inline('d')} is the gradient of the loss {inline(BACK)} adds to what other steps sent"
                f"</th><th></th></tr></thead>\n<tbody>\n{rows(derivation)}\n</tbody></table>\n"
                f'<div class="short"><h3>In short</h3>{short}</div></div>'
            ),
        ]


class Collapsed(SphinxDirective):
    """The gradient of one value, ``:of: x``, as the layer computes it: displayed formulas."""

    required_arguments = 1
    option_spec = {"of": directives.unchanged}  # noqa: RUF012  docutils's own name

    def run(self) -> list[nodes.Node]:
        found = last_lines(find(self.arguments[0]), self.options.get("of", "x"))
        return parsed(self, [line for equation, _ in found for line in (f"$$ {equation} $$", "")])
