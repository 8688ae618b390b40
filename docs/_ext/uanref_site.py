"""The parts of the site that are made at build time: tutorials, explorer, the commands' help.

- The committed notebooks of ``tutorials/`` are copied to ``docs/tutorials/``; nothing is executed.
- ``{tutorial-list}`` lists them with what each teaches.
- Exercises' solutions are folded, text and code together.
- ``{derivation-list}`` and ``{explorer} NAME`` show the derivations; their pages are written to ``explore/``.
- ``{public-names}`` lists what ``uanref`` itself exports.
- The page of evidence is in the contents where it has been made.
- ``{command-help}`` prints what every ``uanref COMMAND --help`` prints.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import uanref
from uanref.derivations import DERIVATIONS, find
from uanref.stepping import explorer


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("tutorial-list", TutorialList)
    app.add_directive("derivation-list", DerivationList)
    app.add_directive("explorer", Explorer)
    app.add_directive("public-names", PublicNames)
    app.add_directive("command-help", CommandHelp)
    app.connect("config-inited", leave_output_alone)
    app.connect("builder-inited", copy_tutorials)
    app.connect("source-read", turn_links)
    app.connect("source-read", list_evidence)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", keep_tags)
    app.connect("doctree-read", fold_solutions)
    app.connect("missing-reference", follow_export)
    app.connect("build-finished", write_explorer_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def leave_output_alone(app: Sphinx, config: Any) -> None:
    """Do not read what an earlier build wrote, where the output lies among the sources."""
    if app.outdir.is_relative_to(app.srcdir):
        config.exclude_patterns.append(app.outdir.relative_to(app.srcdir).as_posix())


# --- tutorials ------------------------------------------------------------------------------------


def copy_tutorials(app: Sphinx) -> None:
    """Bring ``docs/tutorials`` in step with the notebooks; a file that is the same keeps its time."""
    notebooks = {path.name: path for path in Path(app.srcdir).parent.glob("tutorials/[0-9][0-9]_*.ipynb")}
    target = Path(app.srcdir) / "tutorials"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.ipynb"):
        if old.name not in notebooks:
            old.unlink()
    for name, path in notebooks.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def list_evidence(app: Sphinx, docname: str, source: list[str]) -> None:
    """The page of evidence stands in the contents where it has been made: ``uanref report ... --page``."""
    if docname == "index" and "evidence" in app.env.found_docs:
        source[0] = source[0].replace("\nreading\n", "\nreading\nevidence\n")


def turn_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links that lead from file to file in the repository lead from page to page here."""
    if docname.startswith("tutorials/"):
        source[0] = source[0].replace("](../docs/", "](../")
        source[0] = re.sub(r"\]\((\d\d_\w+)\.md\b", r"](\1.ipynb", source[0])
    elif "/" not in docname:
        source[0] = re.sub(r"\]\(\.\./tutorials/(\w+)\.md\b", r"](tutorials/\1.ipynb", source[0])


class TutorialList(SphinxDirective):
    """The tutorials in order, each with its title and the sentences after "You will learn"."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for path in sorted(Path(self.env.srcdir).glob("tutorials/*.ipynb")):
            self.env.note_dependency(str(path))
            text = "".join(json.loads(path.read_text("utf-8"))["cells"][0]["source"])
            title = re.search(r"^# (.*)$", text, re.MULTILINE)[1]
            learn = re.search(r"\*\*You will learn\*\* (.*?)\s*(?=\*\*You need\*\*)", text, re.DOTALL)[1]
            learn = " ".join(learn.split())
            lines.append(f"- **[{title}](tutorials/{path.name})**: {learn}")
        return parsed(self, lines)


def keep_tags(app: Sphinx, doctree: nodes.document) -> None:
    r"""Keep Sphinx from putting a formula with ``\\`` into a ``split``, where MathJax refuses a ``\tag``."""
    for formula in doctree.findall(nodes.math_block):
        text = formula.astext()
        if r"\tag" in text and r"\\" in text:
            formula["no-wrap"] = True
            formula.children = [nodes.Text(rf"\[{text}\]")]


def fold_solutions(app: Sphinx, doctree: nodes.document) -> None:
    """Fold each solution with its prose: from the line "Solution" to the next exercise or the section's end."""
    if not app.env.docname.startswith("tutorials/"):
        return
    part_head(doctree)
    for section in list(doctree.findall(nodes.section)):
        children, inside = [], False
        for child in section.children:
            bold = head(child)
            starts = bold == "Solution"
            if inside and (starts or isinstance(child, nodes.section) or re.fullmatch(r"\d+\.", bold)):
                children.append(raw("</details>"))
                inside = False
            if starts:
                children.append(raw('<details class="solution"><summary>Solution</summary>'))
                inside = True
                continue
            if inside and isinstance(child, nodes.container) and "hide_mode" in child:
                del child["hide_mode"]  # one fold is enough
            children.append(child)
        if inside:
            children.append(raw("</details>"))
        section.children = []
        section.extend(children)


def head(node: nodes.Node) -> str:
    """Return the bold words that a paragraph begins with."""
    parts = [part for part in node.children if part.astext()] if isinstance(node, nodes.paragraph) else []
    return parts[0].astext() if parts and isinstance(parts[0], nodes.strong) else ""


def part_head(doctree: nodes.document) -> None:
    """Begin a new paragraph at "You need", which stands on a line of its own in the source."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        for i, child in enumerate(paragraph.children):
            if i > 0 and isinstance(child, nodes.strong) and child.astext() == "You need":
                rest = paragraph.children[i:]
                del paragraph[i:]
                paragraph.parent.insert(paragraph.parent.index(paragraph) + 1, nodes.paragraph("", "", *rest))
                return


# --- the explorer ---------------------------------------------------------------------------------


def write_explorer_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "explore"
    folder.mkdir(exist_ok=True)
    for derivation in DERIVATIONS:
        explorer.write(folder / f"{derivation.name}.html", explorer.page(derivation), force=True)


class DerivationList(SphinxDirective):
    """All derivations, each with a link to its page."""

    def run(self) -> list[nodes.Node]:
        top = "../" * self.env.docname.count("/")
        rows = "".join(
            f'<dt><a href="{top}explore/{each.name}.html">{escape(each.title)}</a> <code>{each.name}</code></dt>'
            f"<dd>{escape(each.summary)}</dd>\n"
            for each in DERIVATIONS
        )
        return [raw(f'<dl class="derivations">\n{rows}</dl>')]


class Explorer(SphinxDirective):
    """The page of one derivation in a frame."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        derivation = find(self.arguments[0])
        page = "../" * self.env.docname.count("/") + f"explore/{derivation.name}.html"
        return [
            raw(
                f'<figure class="explorer"><iframe src="{page}" title="{escape(derivation.title)}, step by step" '
                f'loading="lazy"></iframe>\n'
                f'<figcaption>{escape(derivation.title)}. <a href="{page}">Open it alone</a>.</figcaption></figure>'
            )
        ]


# --- names and commands ---------------------------------------------------------------------------


def skip_fields(app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """A named tuple's fields are told in its docstring; what Python says of them ("field number 0") is not."""
    return True if type(found).__name__ == "_tuplegetter" else None


def follow_export(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> nodes.Node | None:
    """Lead a reference to an exported name, such as ``uanref.gradcheck.check``, to where it is described."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for name in (target, f"{node.get('py:module')}.{target}"):
        module, _, attribute = name.rpartition(".")
        found = getattr(sys.modules.get(module), attribute, None)
        home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
        if module.startswith("uanref") and home != target and home in env.domains.python_domain.objects:
            return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, content)
    return None


class PublicNames(SphinxDirective):
    """The names in ``uanref.__all__``, grouped by the package that holds them."""

    def run(self) -> list[nodes.Node]:
        groups: dict[str, list[str]] = {}
        for name in uanref.__all__:
            found = getattr(uanref, name)
            if isinstance(found, types.ModuleType):
                groups.setdefault("modules", []).append(f"{{py:mod}}`{name} <uanref.{name}>`")
            else:
                group = found.__module__.split(".")[1]
                full = f"{found.__module__}.{found.__qualname__}"
                groups.setdefault(group, []).append(f"{{py:obj}}`{name} <{full}>`")
        return parsed(self, [f"- {group}: {', '.join(groups[group])}" for group in sorted(groups)])


class CommandHelp(SphinxDirective):
    """Every command's help text, as a terminal of 80 columns shows it."""

    def run(self) -> list[nodes.Node]:
        from typer.testing import CliRunner

        from uanref import cli

        lines = []
        for command in cli.app.registered_commands:
            name = command.name or command.callback.__name__
            shown = CliRunner().invoke(cli.app, [name, "--help"], prog_name="uanref", env={"COLUMNS": "80"})
            lines += [f"## uanref {name}", "", "```text", *shown.output.strip().splitlines(), "```", ""]
        return parsed(self, lines)


def parsed(directive: SphinxDirective, lines: list[str]) -> list[nodes.Node]:
    """Return Markdown as nodes of the page that the directive stands on."""
    container = nodes.section()
    container.document = directive.state.document
    directive.state.nested_parse(StringList(lines, source=directive.env.docname), 0, container, match_titles=True)
    return container.children


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")
