"""What the cells of an experiment say, printed and drawn: for ``uanref experiment`` and ``uanref report``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from uanref import files
from uanref.cli.output import print_plain, wide
from uanref.reasons import named, reason

if TYPE_CHECKING:
    from rich.console import Console

    from uanref.experiments.collect import Group
    from uanref.experiments.experiment import Cell, Experiment

Made = TypeVar("Made")


def show(experiment: Experiment, title: str, cells: Sequence[Cell]) -> list[str]:
    """Print the tables, then the verdicts, and return a sentence on whatever could not be printed."""
    troubles: list[str] = []
    console = wide()

    def tables() -> None:
        for table in experiment.tables(cells):
            console.print(table)
            console.print()

    def verdicts() -> None:
        for verdict in experiment.verdicts(cells):
            _paragraph(console, f"{verdict.verdict.upper()}: {verdict.claim}", 0)
            if verdict.rule:  # what cannot be tested has none
                _paragraph(console, f"rule: {verdict.rule}", 2)
            _paragraph(console, f"found: {verdict.because}", 2)

    _attempt(lambda: _paragraph(console, title, 0), "the title", troubles)
    _attempt(tables, "the tables", troubles)
    _attempt(verdicts, "the verdicts", troubles)
    return troubles


def draw(experiment: Experiment, cells: Sequence[Cell], folder: Path) -> tuple[list[str], list[str]]:
    """Draw the pictures into ``folder``; return the names of those that stand there, and a sentence on the others."""
    from uanref.experiments import pictures

    return pictures.draw(lambda place: experiment.pictures(cells, place), folder, experiment.name)


def say_written(folder: Path, written: Sequence[str]) -> None:
    """Print what stands in ``folder``."""
    _attempt(lambda: print_plain(wide(), f"Written to {folder}: {', '.join(written)}"), "this line", [])


def check_page(page: Path) -> None:
    """Refuse a place for a page before anything is read.

    Raises:
        OSError: it cannot be written, see :func:`uanref.files.check_target`.
        ValueError: a name without ``.md``.
    """
    from uanref.experiments import cells

    if page.suffix != ".md":
        raise ValueError(f"--page {page} does not end in .md: name a Markdown file")
    files.check_target(page, "--page")
    folder = page.with_suffix("")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"--page {page} needs a folder {folder}, which is no folder: name another file")
    if os.path.lexists(folder / cells.FOLDER):
        raise FileExistsError(f"--page {page} needs a folder {folder}, which holds results: name another file")


def write_page(groups: Mapping[Group, Sequence[Cell]], page: Path) -> list[str]:
    """Write the page of all experiments, and return a sentence on whatever is missing in it or could not be written."""
    from uanref.experiments import evidence, registry

    of = {group: cells for group, cells in groups.items() if group.experiment != registry.COMPARE}
    names = [group.experiment for group in of]
    if twice := [name for name in names if names.count(name) > 1]:
        return [f"no page was written: the cells of {twice[0]} are of several scales or backends, give those of one"]
    if not names:
        return ["no page was written: a page is of experiments, and these are cells of uanref compare alone"]
    command = (
        f"uanref report {shlex.quote(page.with_suffix('').as_posix())}/*.json --page {shlex.quote(page.as_posix())}"
    )
    kept = {group.experiment: cells for group, cells in of.items()}
    try:
        troubles = evidence.write_page(kept, page, command)
    except (OSError, ValueError) as error:
        return [f"no page was written ({reason(error)})"]
    _attempt(lambda: print_plain(wide(), f"Written to {page}, and what it shows to {page.with_suffix('')}"), "", [])
    return troubles


def _attempt(do: Callable[[], None], what: str, troubles: list[str]) -> None:
    try:
        do()
    except OSError as error:  # standard output goes to a full disk
        troubles.append(f"{what} cannot be printed ({reason(error)})")
    except Exception as error:  # cells that somebody edited, or not those that an experiment expects
        if os.environ.get("UANREF_DEBUG", "") not in ("", "0"):
            raise
        troubles.append(f"{what} cannot be made of these cells ({named(error)})")


def _paragraph(console: Console, text: str, indent: int) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))
