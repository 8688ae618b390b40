"""What ``uanref bench --backend cupy`` prints and writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref.bench import device_cases, device_timing
from uanref.bench.device import Row


def report(rows: list[Row]) -> Group:
    """Lay the rows out for a terminal of 80 columns: the numbers, and below them what they mean."""
    cases = {row.case: row for row in rows}
    legend = Table.grid(padding=(0, 2, 0, 0))
    legend.add_column(no_wrap=True)
    legend.add_column(overflow="fold")
    for name, row in cases.items():
        legend.add_row(name, Text(f"{row.what}, float32; a copy of x reaches {row.copy_gb_per_s:.0f} GB/s"))
    notes = (
        f"On {rows[0].device}. Times by events on the device, {device_timing.CALLS} passes in a row.",
        'GB/s: what our kernels move in a pass, "arrays" times the size of x, by the time, of definitions too; '
        "of copy: as a share of the copy. In brackets what a kernel would move that kept the batch on the chip.",
        "Peak: held at most besides x and dy, in 10^6 bytes; in a backward pass with what forward left.",
    )
    return Group(table(rows), "", legend, *(Text(note) for note in notes))


def table(rows: list[Row]) -> Table:
    """Return the numbers."""
    made = Table(title="a pass in train mode, median of repeats", show_edge=False, pad_edge=False, padding=(0, 0))
    for heading in ("case", "pass", "version"):
        made.add_column(heading, no_wrap=True)
    for heading in ("ms", "times\nfaster", "arrays", "GB/s", "of\ncopy", "peak\nMB"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.case,
            row.direction,
            row.version,
            f"{row.ms:.3f}",
            "" if row.speedup is None else f"{row.speedup:.1f}",
            "-" if row.moved_bytes is None else _arrays(row),
            "-" if row.gb_per_s is None else f"{row.gb_per_s:.0f}",
            "-" if row.of_copy is None else f"{100 * row.of_copy:.0f} %",
            f"{row.peak_mb:.1f}",
        )
    return made


def rows_as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain dictionaries, for ``json.dump``."""
    return [asdict(row) for row in rows]


def _arrays(row: Row) -> str:
    case = device_cases.CASES[row.case]
    i = ("forward", "backward").index(row.direction)
    return f"{case.moved[i]} ({case.least[i]})" if case.moved and case.least else "-"
