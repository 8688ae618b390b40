"""Tables of the terminal, and words, as Markdown."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_MARKS = re.compile(r"([\\`*_{}\[\]<>$|#~&])")
_ALIGNED = {"left": "---", "center": ":---:", "right": "---:"}


def words(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; a line break becomes ``<br>``."""
    return "<br>".join(_MARKS.sub(r"\\\1", line).strip() for line in text.strip().splitlines())


def table(made: Table) -> str:
    """Return a table of rich, its title above and its caption below; sections, colours and widths are lost."""
    columns = [[_plain(cell) for cell in column.cells] for column in made.columns]
    heads = [_plain(column.header) for column in made.columns]
    if not columns:
        return ""
    lines = [
        _row(heads),
        _row([_ALIGNED.get(column.justify, "---") for column in made.columns], escape=False),
        *(_row(list(row)) for row in zip(*columns, strict=True)),
    ]
    parts = ["\n".join(lines)]
    if made.title:
        parts.insert(0, f"**{words(_plain(made.title))}**")
    if made.caption:
        parts.append(words(_plain(made.caption)))
    return "\n\n".join(parts)


def _row(cells: list[str], escape: bool = True) -> str:
    return "| " + " | ".join(words(cell) if escape else cell for cell in cells) + " |"


def _plain(cell: RenderableType) -> str:
    """Return what a cell shows, without styles."""
    if isinstance(cell, str):
        return Text.from_markup(cell).plain
    if isinstance(cell, Text):
        return cell.plain
    console = Console(file=io.StringIO(), width=200, color_system=None)
    with console.capture() as shown:
        console.print(cell)
    return shown.get()
