"""Offline pages in frames: the explorer of each derivation, and the replay of a training.

- ``{explorer} NAME`` and ``{replay}`` show one; ``:fragment:`` opens it in a state of its own, ``:full:`` is
  that of the page alone, ``:picture:`` stands in
  for it where no script runs and on paper; the content is the caption.
- In a tutorial a paragraph that begins ``**Explorer** [NAME](../docs/explorer.md):`` becomes the frame of that
  derivation with the paragraph as its caption; ``**Replay** [...](../docs/replay.md):`` likewise.
- The replay is there where recorded runs are (``docs/replay/*.npz``): without them its directive shows nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from site_common import parsed, raw, top
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from uanref.derivations import DERIVATIONS, find
from uanref.stepping import explorer

FOLDER = "explore"
REPLAY = f"{FOLDER}/replay.html"


def setup(app: Sphinx) -> None:
    app.add_directive("derivation-list", DerivationList)
    app.add_directive("explorer", Explorer)
    app.add_directive("replay", Replay)
    app.connect("doctree-read", frame_paragraphs)
    app.connect("build-finished", write_pages)


def runs(srcdir: str | Path) -> list[Path]:
    """Return the recorded runs that the replay shows; none where the package cannot replay."""
    if importlib.util.find_spec("uanref.replay") is None:
        return []
    return sorted(Path(srcdir).glob("replay/*.npz"))


def write_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for derivation in DERIVATIONS:
        explorer.write(folder / f"{derivation.name}.html", explorer.page(derivation), force=True)
    if recorded := runs(app.srcdir):
        read = importlib.import_module("uanref.training.recording").read
        page = importlib.import_module("uanref.replay").page([read(path) for path in recorded])
        explorer.write(Path(app.outdir) / REPLAY, page, force=True)


def figure(
    page: str, title: str, kind: str = "", picture: str = "", alt: str = "", full: str = ""
) -> tuple[nodes.raw, nodes.raw]:
    """Return what stands before and after a frame's caption.

    A lazy frame is loaded when a reader comes near it; a link opens the page alone, all of it.
    """
    fallback = f'<img class="fallback" loading="lazy" src="{escape(picture)}" alt="{escape(alt)}">' if picture else ""
    before = (
        f'<figure class="explorer{" with-picture" if picture else ""}{kind and f" {kind}"}">'
        f'<iframe src="{escape(page)}" title="{escape(title)}" loading="lazy"></iframe>{fallback}\n<figcaption>'
    )
    after = f'<p class="alone"><a href="{escape(full or page)}">Open full page</a></p></figcaption></figure>'
    return raw(before), raw(after)


class Framed(SphinxDirective):
    """A frame with a caption."""

    has_content = True
    option_spec = {  # noqa: RUF012  docutils's own name
        "fragment": directives.unchanged,
        "full": directives.unchanged,
        "picture": directives.unchanged,
        "alt": directives.unchanged,
        "kind": directives.unchanged,
    }

    def framed(self, page: str, title: str, caption: list[nodes.Node]) -> list[nodes.Node]:
        up = top(self.env.docname)
        fragment = f"#{self.options['fragment']}" if "fragment" in self.options else ""
        picture = f"{up}{self.options['picture']}" if "picture" in self.options else ""
        whole = f"{up}{page}" + (f"#{self.options['full']}" if "full" in self.options else "")
        kind, alt = (self.options.get(name, "") for name in ("kind", "alt"))
        before, after = figure(f"{up}{page}{fragment}", title, kind, picture, alt, whole)
        return [before, *caption, after]


class Explorer(Framed):
    """The page of one derivation in a frame."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        derivation = find(self.arguments[0])
        caption = parsed(self, list(self.content)) if self.content else [nodes.paragraph("", derivation.title + ".")]
        return self.framed(f"{FOLDER}/{derivation.name}.html", f"{derivation.title}, step by step", caption)


class Replay(Framed):
    """The replay in a frame; nothing, with its caption, where no run is recorded."""

    def run(self) -> list[nodes.Node]:
        if not runs(self.env.srcdir):
            return []
        return self.framed(REPLAY, "A training, replayed", parsed(self, list(self.content)))


class DerivationList(SphinxDirective):
    """All derivations, each with a link to its page."""

    def run(self) -> list[nodes.Node]:
        up = top(self.env.docname)
        rows = "".join(
            f'<dt><a href="{up}{FOLDER}/{each.name}.html">{escape(each.title)}</a> <code>{each.name}</code></dt>'
            f"<dd>{escape(each.summary)}</dd>\n"
            for each in DERIVATIONS
        )
        return [raw(f'<dl class="derivations">\n{rows}</dl>')]


def frame_paragraphs(app: Sphinx, doctree: nodes.document) -> None:
    """Put a frame above each paragraph that offers an explorer or a replay, which becomes its caption."""
    docname = app.env.docname
    for paragraph in list(doctree.findall(nodes.paragraph)):
        parts: list[Any] = [part for part in paragraph.children if part.astext().strip()]
        if len(parts) < 2 or not isinstance(parts[0], nodes.strong) or isinstance(parts[1], nodes.Text):
            continue
        offered, name = parts[0].astext(), parts[1].astext()
        if offered == "Explorer":
            derivation = find(name)
            page, title = f"{FOLDER}/{derivation.name}.html", f"{derivation.title}, step by step"
        elif offered == "Replay" and runs(app.srcdir):
            page, title = REPLAY, "A training, replayed"
        else:
            continue
        before, after = figure(top(docname) + page, title)
        paragraph.replace_self([before, paragraph.deepcopy(), after])
