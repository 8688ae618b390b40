"""``uanref docs``: build the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import fail, print_plain


@app.command()
def docs(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path,
            help="for the pages  [default: docs/_build/html of the checkout]",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="build only")] = False,
) -> None:
    """Build the documentation from a checkout and open it.

    Tutorials, derivation explorer, API reference; the pages open without a network. Needs pip install ".[docs]".
    """
    from rich.console import Console

    from uanref import docs as documentation

    checkout = documentation.find_checkout()
    documentation.require_extra()
    try:
        with progress() as (report, complain):
            page = documentation.build(
                checkout, out or checkout / "docs" / "_build" / "html", report=report, complain=complain
            )
    except ChildProcessError as error:
        fail(str(error), 1)
    print_plain(Console(), f"Written to {page.parent}: open {page.name} in a browser")
    if not no_open:
        documentation.show(page)


STEP = 25
"""Where no terminal shows a bar, a line is printed at every so many percent."""


@contextmanager
def progress() -> Iterator[tuple[Callable[[str, int, str], object], Callable[[str], object]]]:
    """Yield what to tell of every page and of every complaint: two bars on a terminal, a few lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)

    def complain(line: str) -> None:
        print_plain(console, line)

    if not console.is_terminal:
        told: dict[str, int] = {}

        def line(phase: str, percent: int, page: str) -> None:
            if percent - told.get(phase, 0) >= STEP or percent == 100 > told.get(phase, 0):
                told[phase] = percent - percent % STEP
                print_plain(console, f"{phase}: {percent} %")

        yield line, complain
        return

    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[phase]:8}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True) as bar:
        tasks = {phase: bar.add_task("", total=100, phase=phase, start=False) for phase in ("reading", "writing")}

        def advance(phase: str, percent: int, page: str) -> None:
            bar.start_task(tasks[phase])
            bar.update(tasks[phase], completed=percent, description=page)
            if percent == 100:
                bar.stop_task(tasks[phase])

        yield advance, complain
