"""Tutorials as pages: copied from the notebooks, listed, their links turned, their solutions folded.

Each page begins with how long it takes to read and with its files, the notebook and the Markdown, to keep.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from site_common import parsed, raw, top
from site_reading import minutes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILES = "downloads"


def setup(app: Sphinx) -> None:
    app.add_directive("tutorial-list", TutorialList)
    app.connect("builder-inited", copy_tutorials)
    app.connect("source-read", turn_links)
    app.connect("source-read", list_made_pages)
    app.connect("doctree-read", keep_tags)
    app.connect("doctree-read", fold_solutions)
    app.connect("doctree-read", offer_files)
    app.connect("build-finished", copy_files)


def copy_tutorials(app: Sphinx) -> None:
    """Bring ``docs/tutorials`` in step with the notebooks; a file that is the same keeps its time."""
    notebooks = {path.name: path for path in Path(app.srcdir).parent.glob("tutorials/[0-9][0-9]*_*.ipynb")}
    target = Path(app.srcdir) / "tutorials"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.ipynb"):
        if old.name not in notebooks:
            old.unlink()
    for name, path in notebooks.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def list_made_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Pages that are made (evidence: ``uanref report ... --page``; replay) stand in the contents where they are."""
    for page, neighbour in (("evidence", "reading"), ("replay", "explorer")):
        if docname == "index" and page in app.env.found_docs:
            source[0] = source[0].replace(f"\n{neighbour}\n", f"\n{neighbour}\n{page}\n")


def turn_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links that lead from file to file in the repository lead from page to page here."""
    if docname.startswith("tutorials/"):
        source[0] = source[0].replace("](../docs/", "](../")
        source[0] = re.sub(r"\]\((\d\d\w*_\w+)\.md\b", r"](\1.ipynb", source[0])
    elif "/" not in docname:
        source[0] = re.sub(r"\]\(\.\./tutorials/(\w+)\.md\b", r"](tutorials/\1.ipynb", source[0])


class TutorialList(SphinxDirective):
    """The tutorials in order, each with its title and the sentences after "You will learn"."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for path in sorted(Path(self.env.srcdir).glob("tutorials/*.ipynb")):
            self.env.note_dependency(str(path))
            notebook = json.loads(path.read_text("utf-8"))
            text = "".join(notebook["cells"][0]["source"])
            title = re.search(r"^# (.*)$", text, re.MULTILINE)[1]
            learn = re.search(r"\*\*You will learn\*\* (.*?)\s*(?=\*\*You need\*\*)", text, re.DOTALL)[1]
            learn = re.sub(r"\]\((\d\d\w*_\w+)\.md\b", r"](tutorials/\1.ipynb", " ".join(learn.split()))
            lines.append(f"- **[{title}](tutorials/{path.name})**, {minutes(notebook)} min: {learn}")
        return parsed(self, lines)


def offer_files(app: Sphinx, doctree: nodes.document) -> None:
    """Say below a tutorial's title how long it takes to read, and link its notebook and its Markdown."""
    docname = app.env.docname
    if not docname.startswith("tutorials/"):
        return
    name = docname.removeprefix("tutorials/")
    notebook = json.loads((Path(app.srcdir) / "tutorials" / f"{name}.ipynb").read_text("utf-8"))
    files = f"{top(docname)}{FILES}/{name}"
    line = (
        f'<p class="reading">{minutes(notebook)} minutes to read, without the exercises. To keep: '
        f'<a href="{files}.ipynb" download>notebook</a>, <a href="{files}.md" download>Markdown</a>.</p>'
    )
    title = next(iter(doctree.findall(nodes.title)))
    title.parent.insert(title.parent.index(title) + 1, raw(line))


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Lay each tutorial's notebook and Markdown beside the pages."""
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / FILES
    folder.mkdir(exist_ok=True)
    for copy in Path(app.srcdir).glob("tutorials/[0-9][0-9]*_*.ipynb"):
        source = Path(app.srcdir).parent / "tutorials" / copy.name
        for path in (source, source.with_suffix(".md")):
            shutil.copyfile(path, folder / path.name)


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
