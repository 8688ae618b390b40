"""The lowest versions that ``pyproject.toml`` declares, as constraints for pip.

``python tests/support/lowest.py test > lowest.txt && pip install ".[test]" -c lowest.txt``; needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def constraints(project: dict[str, object], extras: Iterable[str] = ()) -> list[str]:
    """Return ``name==lowest`` of every dependency and of those of ``extras``.

    Raises:
        ValueError: a requirement names no lowest version, as ``name>=1``, ``name>=1,<2`` or ``name==1`` do.
    """
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found = []
    for requirement in wanted:
        parts = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=|==)([\w.]+)(?:,<[\w.]+)?", requirement)
        if parts is None:
            raise ValueError(f"{requirement!r} declares no lowest version: write name>=version")
        found.append(f"{parts[1]}=={parts[2]}")
    return found


if __name__ == "__main__":
    with PYPROJECT.open("rb") as file:
        print("\n".join(constraints(tomllib.load(file)["project"], sys.argv[1:])))
