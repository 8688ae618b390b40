"""``uanref docs``: the documentation, built from a checkout of the repository and opened in a browser."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path

NEEDED = {"sphinx": "sphinx", "myst_nb": "myst-nb", "furo": "furo"}
"""Modules that the build imports, and the packages that bring them: the extra ``docs``."""

PHASES = {"reading sources": "reading", "writing output": "writing"}
"""What Sphinx says at every page, and what a reader is told of it."""

_PAGE = re.compile(rf"({'|'.join(PHASES)})\.\.\. \[ *(\d+)%\] *(\S*)")

Report = Callable[[str, int, str], object]
"""Called with a phase ("reading" or "writing"), how much of it is done in percent, and the page."""


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


def build(
    checkout: Path,
    out: Path,
    *,
    strict: bool = False,
    report: Report = lambda phase, percent, page: None,
    complain: Callable[[str], object] = lambda line: sys.stderr.write(line + "\n"),
) -> Path:
    """Build the documentation and return its first page.

    An error that comes from outside, Ctrl-C say, ends the build, too; the next one begins anew.

    Args:
        checkout: whose documentation; its own package is described, not another installed one.
        out: folder for the pages, created if it is not there.
        strict: fail on warnings.
        report: told of every page that is read and written.
        complain: told every line of a warning or an error.

    Raises:
        FileExistsError: ``out`` holds something else than pages built before.
        ChildProcessError: the build failed, and has said why.
    """
    out = out.resolve()
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_build(out)):
        raise FileExistsError(f"{out} holds something else: give --out a new or empty folder")
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    options = ["--no-color", "-E", "-b", "html", *["-W"] * strict]
    command = [sys.executable, "-u", "-m", "sphinx", *options, str(checkout / "docs"), str(out)]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    if _run(command, environment, report, complain):
        raise ChildProcessError("the documentation could not be built")
    return out / "index.html"


def page_of(line: str) -> tuple[str, int, str] | None:
    """Return what a line of Sphinx's tells of a page: the phase, how much is done in percent, its name; or None."""
    found = _PAGE.match(line)
    return (PHASES[found[1]], int(found[2]), found[3]) if found else None


def _run(command: list[str], environment: dict[str, str], report: Report, complain: Callable[[str], object]) -> int:
    """Run Sphinx, pass on what it says, and return its exit status; whatever ends the waiting ends Sphinx.

    Sphinx gets a session of its own: a Ctrl-C in the terminal reaches this process alone, which then ends Sphinx
    without a traceback from there.
    """
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        errors = threading.Thread(target=_pass_on, args=(process.stderr, complain), daemon=True)
        errors.start()
        try:
            for line in process.stdout:
                if page := page_of(line):
                    report(*page)
            errors.join()
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def _pass_on(lines: Iterable[str], complain: Callable[[str], object]) -> None:
    for line in lines:
        complain(line.rstrip("\n"))


def _is_build(folder: Path) -> bool:
    """Tell whether a folder holds a build, whole or broken off: Sphinx's own record lies in it."""
    return (folder / ".buildinfo").is_file() or (folder / ".doctrees").is_dir()


def show(page: Path) -> bool:
    """Open a page in the reader's browser and return whether there is one."""
    return webbrowser.open(page.as_uri())
