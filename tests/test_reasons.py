"""Errors as sentences, and that no module puts its own together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import uanref
from uanref.reasons import message, named, reason

PACKAGE = Path(uanref.__file__).parent


@pytest.mark.parametrize(
    ("error", "texts"),
    [
        (ValueError("no\n  number"), ("no number", "no number", "ValueError: no number")),
        (ValueError(), ("ValueError", "ValueError", "ValueError")),
        (ValueError("ValueError"), ("ValueError", "ValueError", "ValueError: ValueError")),
        (KeyError("it's missing"), ("it's missing", "it's missing", "KeyError: it's missing")),
        (KeyError(), ("KeyError", "KeyError", "KeyError")),
        (
            OSError(28, "No space", "a.npz"),
            ("[Errno 28] No space: 'a.npz'", "No space", "OSError: [Errno 28] No space"),
        ),
        (OSError("a sentence of ours"), ("a sentence of ours", "a sentence of ours", "OSError: a sentence of ours")),
        (KeyboardInterrupt(), ("KeyboardInterrupt",) * 3),
    ],
)
def test_one_line_without_decoration(error, texts):
    assert (message(error), reason(error)) == texts[:2]
    assert named(error).startswith(texts[2])


def test_what_is_too_long_is_cut():
    error = ValueError("x" * 500)
    assert message(error, 100) == reason(error, 100) == "x" * 100
    assert named(error, 100) == "ValueError: " + "x" * 100
    assert reason(OSError(1, "y" * 500), 100) == "y" * 100


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"str\((error|outcome|text)\)\.split\(\)", {"reasons.py"}),
        (r"error\.strerror (or|else)|\{error\.strerror", {"reasons.py"}),
        (r"type\(error\)\.__name__", {"reasons.py"}),
    ],
)
def test_sentences_are_put_together_in_one_place(pattern, allowed):
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(pattern, path.read_text("utf-8"))
    }
    assert found <= allowed
