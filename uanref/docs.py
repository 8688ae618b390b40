"""``uanref docs``: the documentation, built from a checkout of the repository and opened in a browser."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import webbrowser
from pathlib import Path

NEEDED = {"sphinx": "sphinx", "myst_nb": "myst-nb", "furo": "furo"}
"""Modules that the build imports, and the packages that bring them: the extra ``docs``."""


def find_checkout(start: str | os.PathLike[str] = ".") -> Path:
    """Return the checkout around ``start``, or the one that this package is imported from.

    Raises:
        FileNotFoundError: there is none; an installed package comes without the documentation's sources.
    """
    around = Path(start).resolve()
    for folder in (around, *around.parents, Path(__file__).resolve().parents[1]):
        if (folder / "docs" / "conf.py").is_file() and (folder / "uanref" / "docs.py").is_file():
            return folder
    raise FileNotFoundError(
        "the documentation is built from a checkout of the repository, and there is none here: "
        "run this command inside one"
    )


def require_extra() -> None:
    """Check that what the build needs is installed.

    Raises:
        RuntimeError: something is missing; the message says what, and the command that installs it.
    """
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise RuntimeError(
            f'the documentation needs {", ".join(missing)}: run pip install ".[docs]" in the checkout, then try again'
        )


def build(checkout: Path, out: Path, *, strict: bool = False) -> Path:
    """Build the documentation and return its first page.

    Args:
        checkout: whose documentation; its own package is described, not another installed one.
        out: folder for the pages, created if it is not there.
        strict: fail on warnings.

    Raises:
        FileExistsError: ``out`` holds something else than pages built before.
        ChildProcessError: the build failed, and has said why.
    """
    out = out.resolve()
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / ".buildinfo").is_file()):
        raise FileExistsError(f"{out} holds something else: give --out a new or empty folder")
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-b",
        "html",
        *["-W"] * strict,
        str(checkout / "docs"),
        str(out),
    ]
    if subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode:
        raise ChildProcessError("the documentation could not be built")
    return out / "index.html"


def show(page: Path) -> bool:
    """Open a page in the reader's browser and return whether there is one."""
    return webbrowser.open(page.as_uri())
