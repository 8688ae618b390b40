"""The quiz: ten questions before and after a lesson, one offline page, ``quiz.html`` of the site.

Its answers stay in the page; it carries a policy that lets nothing be loaded or sent.
"""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import asdict
from pathlib import Path
from typing import Any

import quiz_questions
from docutils import nodes
from site_common import raw, top
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from uanref.stepping import explorer
from uanref.stepping.policy import policy

PAGE = "quiz.html"
PARTS = Path(__file__).parent / "quiz"


def setup(app: Sphinx) -> None:
    app.add_role("quiz", QuizLink())
    app.connect("build-finished", write_quiz)


def write_quiz(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        explorer.write(Path(app.outdir) / PAGE, page(), force=True)


def data() -> dict[str, Any]:
    """Return what the page's script works on: the questions of both runs and a digest of them."""
    runs = {
        run: [asdict(question) for question in quiz_questions.questions(seed)]
        for run, seed in quiz_questions.RUNS.items()
    }
    version = hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()[:8]
    return {"version": version, "tolerance": quiz_questions.TOLERANCE, "runs": runs}


def page() -> str:
    """Return the page."""
    css, script = ((PARTS / name).read_text("utf-8") for name in ("quiz.css", "quiz.js"))
    css = explorer.part("base.css") + css
    return string.Template((PARTS / "quiz.html").read_text("utf-8")).substitute(
        policy=policy([css], [script]), css=css, script=script, data=explorer.embedded(data())
    )


class QuizLink(SphinxRole):
    """A link to the quiz: ``{quiz}`the ten questions```."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        from html import escape

        return [raw(f'<a class="reference" href="{top(self.env.docname)}{PAGE}">{escape(self.text)}</a>')], []
