"""The page on PyTorch: its code prints what it shows, in a folder where the vectors were written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support import requirements

from uanref.verify import vectors

PAGE = (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text("utf-8")


def test_the_code_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = requirements.require_torch()
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python") == 3
    cases = vectors.cases()
    monkeypatch.setattr("uanref.verify.vectors.folder.cases", lambda: cases[:1])
    vectors.write(tmp_path / "vectors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "pytorch_page"}
    try:
        for code, shown in blocks:
            exec(compile(code, "docs/pytorch.md", "exec"), names)
            assert capsys.readouterr().out == shown
        assert Path(sys.modules["uan_torch"].__file__ or "").parent.name == "vectors"
    finally:
        sys.modules.pop("uan_torch", None)
