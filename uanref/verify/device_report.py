"""What ``uanref check --backend cupy`` prints: a table for a bug report, with what it was measured on."""

from __future__ import annotations

from rich.box import HEAVY_HEAD, MARKDOWN
from rich.table import Table

from uanref.verify import info
from uanref.verify.check_device import FLOAT32, FLOAT64, SLACK, DeviceRow
from uanref.verify.words import error_text, status, summary


def header() -> str:
    """Return what a bug report starts with: a line for each version and fact of the GPU."""
    return "\n".join(f"- {name}: {fact}" for name, fact in info.report("cupy").items())


def table(rows: list[DeviceRow], plain: bool = False) -> Table:
    """Return the rows as a table of at most 80 columns; ``plain``: as Markdown, for a bug report."""
    made = Table(
        box=MARKDOWN if plain else HEAVY_HEAD, show_edge=plain, pad_edge=plain, padding=(0, 1) if plain else (0, 0)
    )
    made.add_column("case", no_wrap=True)
    labels = list(dict.fromkeys(label for row in rows for label in row.errors))
    for label in labels:
        heading = label if plain else label.replace(" ", "\n").replace("definition", "defini-\ntion")
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("status", no_wrap=True)
    for row in rows:
        made.add_row(row.name, *(error_text(row.errors[label]) for label in labels), status(row.ok))
    return made


def legend(rows: list[DeviceRow]) -> str:
    """Return how many passed, and what the numbers mean."""
    return (
        f"{summary(rows)}. Largest difference from the definition on NumPy in float64, in units of each tensor's "
        f"largest entry; float64 may differ by {FLOAT64:g}, float32 by {FLOAT32:g} or {SLACK:g} times what NumPy "
        "loses in float32. "
        "Fast: with the versions of uanref.kernels; - where none serves."
    )
