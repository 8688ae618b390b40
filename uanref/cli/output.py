"""What commands print and how they end with a code other than 0."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

arguments: list[str] = []  # as given, for the record that compare keeps


class Failed(Exception):
    """A command that did its work and has to end with a message and an exit code other than 0."""


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error.

    Raises:
        Failed: always; the entry point prints its message and ends with its code.
    """
    raise Failed(message, code)


def complain(sentence: str) -> None:
    """Print a sentence on standard error and go on."""
    typer.echo(f"uanref: {sentence}", err=True)


def wide() -> Console:
    """Return a console for tables of numbers, which a narrower terminal may break into lines but never cuts."""
    from rich.console import Console

    console = Console()
    return console if console.width >= 80 else Console(width=80)


def unbroken() -> Console:
    """Return a console for Markdown, whose lines must not be broken."""
    from rich.console import Console

    return Console(width=200)


def print_plain(console: Console, text: str) -> None:
    """Print text that is no markup and must not be cut: paths may hold brackets and be long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def command_line() -> str:
    """Return the command as it was given."""
    return shlex.join(["uanref", *arguments])


def duration(seconds: float) -> str:
    """Return a time as one says it: ``"40 s"``, ``"7 min"``, ``"2.5 h"``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(
    total: int, what: str, quiet: bool, done: int = 0, left: Callable[[], float | None] | None = None
) -> Iterator[Callable[[object], None]]:
    """Yield what to call with everything finished: a bar on a terminal, a line elsewhere, silence if quiet.

    Args:
        total: how many there are.
        what: they are.
        quiet: show nothing.
        done: how many are finished already.
        left: returns the seconds until the last is finished, None where nothing is known yet.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda one: None
        return

    def remaining() -> str:
        seconds = left() if left and done < total else None
        return "" if seconds is None else f"about {duration(seconds)} left"

    if not console.is_terminal:

        def line(one: object) -> None:
            nonlocal done
            done += 1
            print_plain(console, "; ".join(filter(None, (f"{done} of {total} {what}: {one}", remaining()))))

        yield line
        return

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Left(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text(remaining())

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeElapsedColumn(), Left())
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True) as bar:
        task = bar.add_task("", total=total, completed=done)

        def advance(one: object) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, description=str(one))

        yield advance
