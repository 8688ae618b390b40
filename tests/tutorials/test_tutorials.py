"""Every tutorial runs, its committed notebook is the one that its source describes, and its form is kept."""

from __future__ import annotations

import base64
import importlib.util
import re
from pathlib import Path

import pytest
from support import requirements, turns

FOLDER = Path(__file__).parents[2] / "tutorials"
OFFLINE = Path(__file__).parents[1] / "support" / "offline"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]*_*.md"))
NAMES = [source.stem for source in SOURCES]
NUMBERS = [f"{number:02}{part}" for number in range(16) for part in ("ab" if number in (8, 11) else [""])]
LARGEST = 1_500_000  # bytes of a notebook with its pictures


def build():
    """Return tutorials/build.py as a module, or skip without the docs extra."""
    for module in ("jupytext", "nbclient", "ipykernel"):
        requirements.require(module, extra="docs")
    spec = importlib.util.spec_from_file_location("tutorials_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def number_of(source):
    """Return 05 of 05_batch_normalization.md, 08a of the first of two parts."""
    return source.name.partition("_")[0]


def test_no_tutorial_is_missing():
    assert [name.partition("_")[0] for name in NAMES] == NUMBERS
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_source_and_notebook_are_in_step(source):
    nbformat = requirements.require("nbformat", extra="docs")
    described = build().notebook_of(source)
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(committed)
    found = [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in committed.cells]
    expected = [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in described.cells]
    assert found == expected, f"run: python tutorials/build.py {number_of(source)}"
    counts = [cell.execution_count for cell in committed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "the committed notebook was not run from top to bottom"
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST
    for cell in committed.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                about = output.metadata["image/png"]
                assert len(about["alt"]) > 40, "a figure says what is seen on it"
                width = int.from_bytes(base64.b64decode(output.data["image/png"])[16:20], "big")
                assert about["width"] == width // 2, "a figure has two pixels for each that it takes on the page"


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_files_that_are_named_are_there(source):
    text = source.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:uanref|tests|docs|tutorials)/[\w/]+(?:\.\w+|/))`", text))
    missing = {name for name in named if not (FOLDER.parent / name).exists()}
    of_the_readers_norm = {name for name in missing if re.search(r"/rms(_norm)?\.py$", name)}
    assert missing == (of_the_readers_norm if number_of(source) == "15" else set())


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_the_scaled_gradient_is_h(source):
    """As in the derivations' short forms: gamma dy, in front of what a norm subtracts."""
    text = source.read_text(encoding="utf-8")
    assert not re.search(r"\bg *= *\\?(gamma|GAMMA)", text)
    assert not re.search(r"\bg *= *dy\b", text)


def test_the_glossary_names_tutorials_that_are_there():
    text = (FOLDER.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    named = {
        number for found in re.findall(r"\(((?:\d\d[ab]?)(?:, \d\d[ab]?)*)\)", text) for number in found.split(", ")
    }
    assert len(named) > 10
    assert named <= set(NUMBERS)


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_the_form_is_kept(source):
    text = source.read_text(encoding="utf-8")
    assert re.match(rf"# {number_of(source)} · \S", text), "the title carries the number"
    for part in ("**You will learn**", "**You need**", "## Exercises", "## Sources"):
        assert part in text, f"{part} is missing"
    exercises = text[text.index("## Exercises") : text.index("## Sources")]
    asked = re.findall(r"^\*\*(\d+)\.\*\*", exercises, flags=re.MULTILINE)
    assert asked == [str(i) for i in range(1, len(asked) + 1)]
    assert 2 <= len(asked) <= 4
    solutions = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", exercises, flags=re.DOTALL)
    assert len(solutions) == len(asked)
    for solution in solutions:
        assert "```python" in solution
        assert "assert" in solution, "a solution is tested"
    code = re.findall(r"```python.*?\n(.*?)```", text, flags=re.DOTALL)  # a fence may carry tags
    assert sum("assert" in cell for cell in code) > len(solutions), "the text's own claims are checked, too"
    assert "uanref" in "".join(code)
    longest = max(len(line) for cell in code for line in cell.splitlines())
    assert longest <= 80, "code must not scroll sideways at 80 columns"


@pytest.mark.slow
@pytest.mark.parametrize("source", turns.part(SOURCES, 2), ids=lambda source: source.stem)
def test_it_runs_offline(source, tmp_path):
    tools = build()
    notebook = tools.notebook_of(source)
    tools.execute(notebook, tmp_path, {"PYTHONPATH": str(OFFLINE)})
    assert any(cell.get("outputs") for cell in notebook.cells)
