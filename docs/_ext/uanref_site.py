"""The parts of the site that are made at build time; each module says what its directives do.

- ``site_tutorials``: the committed notebooks as pages, ``{tutorial-list}``; nothing is executed.
- ``site_reading``: how long they take.
- ``site_answers``: ``{answer-key}``, the exercises' solutions on a page of their own.
- ``site_frames``: ``{explorer}``, ``{replay}``, ``{derivation-list}``; their pages are written to ``explore/``.
- ``site_numbers``, ``site_pictures``: the numbers and the picture of the ten-minute route.
- ``site_handout``: ``{handout}``, a derivation on one sheet of paper, and ``{collapsed}``.
- ``site_quiz``: the quiz, an offline page.
- ``site_names``: ``{public-names}`` and ``{command-help}``.
"""

from __future__ import annotations

from typing import Any

import site_answers
import site_frames
import site_handout
import site_names
import site_numbers
import site_pictures
import site_quiz
import site_tutorials
from sphinx.application import Sphinx

PARTS = (
    site_tutorials,
    site_answers,
    site_frames,
    site_numbers,
    site_pictures,
    site_handout,
    site_quiz,
    site_names,
)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", leave_output_alone)
    for part in PARTS:
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def leave_output_alone(app: Sphinx, config: Any) -> None:
    """Do not read what an earlier build wrote, where the output lies among the sources."""
    if app.outdir.is_relative_to(app.srcdir):
        config.exclude_patterns.append(app.outdir.relative_to(app.srcdir).as_posix())
