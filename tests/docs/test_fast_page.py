"""The page on faster versions shows what its code prints, and names files and functions that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import uanref

PAGE = (Path(__file__).parents[2] / "docs" / "fast.md").read_text("utf-8")


def test_the_printed_variances_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n([^`]*channel_moments[^`]*)```", PAGE)
    (shown,) = [text for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) if "━" not in text]  # no table
    exec(compile(code, "docs/fast.md", "exec"), {"__name__": "fast_page"})
    printed = capsys.readouterr().out
    numbers = [[float(line.rpartition(" ")[2]) for line in text.splitlines()] for text in (shown, printed)]
    for exact, cancelled, merged in numbers:  # the last digits may differ between machines, what is told may not
        assert merged == pytest.approx(exact, rel=2e-6)
        assert abs(cancelled - exact) > 0.5
    assert numbers[0][0] == pytest.approx(numbers[1][0], rel=1e-12)


def test_what_it_names_exists() -> None:
    pairs = re.findall(r"`(\w+)`\s+in\s+\{mod\}`([\w.]+)`", PAGE)
    assert len(pairs) >= 8
    for name, module in pairs:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    for module in re.findall(r"\{mod\}`([\w.]+)`", PAGE):
        importlib.import_module(module)
    sources = re.findall(r"`(\w+\.cuh?)`", PAGE)
    assert sources
    for source in sources:
        assert (Path(uanref.__file__).parent / "kernels" / "cuda" / source).is_file(), source
