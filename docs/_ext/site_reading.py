"""How long a page takes to read, counted from its own text: prose, displayed formulas, code.

The pace is this project's choice: :data:`WORDS` words, :data:`FORMULAS` displayed formulas or :data:`LINES` lines of
code a minute. Exercises are left out, for nobody can say how long they take.
"""

from __future__ import annotations

import math
import re
from typing import Any

WORDS, FORMULAS, LINES = 200, 6, 20
NOTEBOOK_STEP = 5
"""Minutes to which a tutorial's time is rounded: it is no more exact than that."""

FORMULA = re.compile(r"\$\$.*?\$\$", re.DOTALL)
EXERCISES = re.compile(r"^## Exercises$.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def minutes_of(prose: str, code: str = "") -> float:
    """Return the minutes that Markdown, whose fenced code is left out, and lines of code take."""
    prose = FENCE.sub("", prose)
    formulas = len(FORMULA.findall(prose))
    words = len(FORMULA.sub("", prose).split())
    lines = sum(1 for line in code.splitlines() if line.strip())
    return words / WORDS + formulas / FORMULAS + lines / LINES


def minutes(notebook: dict[str, Any]) -> int:
    """Return the minutes that a notebook takes without its exercises, rounded to :data:`NOTEBOOK_STEP`."""
    # Each cell of code is put into a fence, so that the section of the exercises can be cut out with its code.
    cells = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in notebook["cells"]]
    text = EXERCISES.sub("", "\n\n".join(f"```\n{source}\n```" if code else source for code, source in cells))
    code = "\n".join(fence.strip("`\n") for fence in FENCE.findall(text))
    return max(NOTEBOOK_STEP, NOTEBOOK_STEP * math.ceil(minutes_of(text, code) / NOTEBOOK_STEP - 0.5))
