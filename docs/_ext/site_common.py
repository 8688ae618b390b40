"""What the site's directives share: raw HTML, Markdown as nodes, and a page's way to the top."""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def parsed(directive: SphinxDirective, lines: list[str]) -> list[nodes.Node]:
    """Return Markdown as nodes of the page that the directive stands on."""
    container = nodes.section()
    container.document = directive.state.document
    directive.state.nested_parse(StringList(lines, source=directive.env.docname), 0, container, match_titles=True)
    return container.children


def raw(html: str) -> nodes.raw:
    """Return HTML as it stands."""
    return nodes.raw("", html, format="html")


def top(docname: str) -> str:
    """Return what leads from a page to the site's first folder: ``"../"`` for a page one folder below it."""
    return "../" * docname.count("/")
