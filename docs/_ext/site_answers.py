"""``{answer-key}``: every exercise of the tutorials with its solution, read from the notebooks.

A solution's code stands as it does in the tutorial, and what it printed below it; its pictures stay there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes
from site_common import parsed
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

EXERCISE = re.compile(r"^\*\*(\d+)\.\*\* ?")
SECTION = re.compile(r"^#{1,3} ")


@dataclass
class Exercise:
    """One exercise: its number in the tutorial, what is asked, what is answered, both as lines of Markdown."""

    number: int
    asked: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)


def setup(app: Sphinx) -> None:
    app.add_directive("answer-key", AnswerKey)


def exercises(notebook: dict[str, Any]) -> list[Exercise]:
    """Return a notebook's exercises in order.

    An exercise begins at its bold number, its solution at the bold word, and both end at the next section.
    """
    found: list[Exercise] = []
    lines: list[str] | None = None
    for line, prose in _lines(notebook):
        if prose and SECTION.match(line):
            lines = None
        elif prose and (begin := EXERCISE.match(line)):
            found.append(Exercise(int(begin[1])))
            lines = found[-1].asked
            line = line[begin.end() :]
        elif prose and lines is not None and line.strip() == "**Solution**":
            lines = found[-1].answered
            continue
        if lines is not None:
            lines.append(line)
    return found


def _lines(notebook: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield a notebook's lines as Markdown, each with whether it is prose; code and what it printed are in fences."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).splitlines()
        if cell["cell_type"] == "markdown":
            yield from ((line, True) for line in source)
        else:
            yield from ((line, False) for line in ("", "```python", *source, "```"))
            for output in cell["outputs"]:
                printed = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
                if printed.strip() and "image/png" not in output.get("data", {}):
                    yield from ((line, False) for line in ("", "```text", *printed.rstrip().splitlines(), "```"))
        yield "", True


class AnswerKey(SphinxDirective):
    """A section for each tutorial."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for path in sorted(Path(self.env.srcdir).glob("tutorials/[0-9][0-9]*_*.ipynb")):
            self.env.note_dependency(str(path))
            notebook = json.loads(path.read_text("utf-8"))
            title = re.search(r"^# (.*)$", "".join(notebook["cells"][0]["source"]), re.MULTILINE)[1]
            lines += [f"## {title}", ""]
            for exercise in exercises(notebook):
                asked = turned("\n".join(exercise.asked)).strip()
                answered = turned("\n".join(exercise.answered)).strip()
                lines += [
                    f"**{title.split()[0]}.{exercise.number}.** {asked}".strip(),
                    "",
                    "**Answer.**",
                    "",
                    answered,
                    "",
                ]
        return parsed(self, "\n".join(lines).splitlines())


def turned(markdown: str) -> str:
    """Lead a tutorial's links to where they lead from here."""
    markdown = markdown.replace("](../docs/", "](")
    return re.sub(r"\]\((\d\d\w*_\w+)\.md\b", r"](tutorials/\1.ipynb", markdown)
