"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_example_trains_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 17, "it is announced as fifteen lines, blank ones aside"
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    *epochs, checked = capsys.readouterr().out.splitlines()
    losses = [float(line.rpartition(" ")[2]) for line in epochs]
    assert len(losses) == 10
    assert losses[-1] < 0.3 * losses[0]
    assert checked == "True"
