"""``uanref bench --memory``: the peak memory of a pass, ours beside PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uanref import files, machine
from uanref.bench import memory
from uanref.bench import page as pages
from uanref.cli.output import command_line, fail, progress, wide

MARKS = ("<!-- made by uanref bench --memory: begin -->", "<!-- made by uanref bench --memory: end -->")


def run(names: Sequence[str] | None, threads: int | None, page: Path | None, quiet: bool) -> None:
    """Measure, print a table, and put it into a page between its marks.

    Raises:
        ValueError, PeerMissing, RuntimeError: as :func:`uanref.bench.memory.run`, or the page lacks the marks.
        OSError: the page cannot be read or written.
    """
    from rich.table import Table

    if page is not None:
        files.check_target(page, "--page")
        pages.text(page, MARKS)
    peaks: list[memory.Peak] = []
    try:
        found = memory.run(names, threads)
        with progress(len(memory.chosen(names)), "measured", quiet) as finished:
            for peak in found:
                peaks.append(peak)
                finished(peak.case)
    except KeyboardInterrupt:
        fail(f"interrupted: {len(peaks)} cases were measured", 130)
    table = Table(title="Peak memory of a pass (MB)", show_edge=False, pad_edge=False)
    table.add_column("case", no_wrap=True)
    for head in ("ours", "PyTorch", "ratio", "threads"):
        table.add_column(head, justify="right")
    for peak in peaks:
        table.add_row(peak.case, f"{peak.ours_mb:.1f}", f"{peak.torch_mb:.1f}", f"{peak.ratio:.2f}", str(peak.threads))
    wide().print(table)
    if page is not None:
        pages.put(page, block(peaks, command_line()), MARKS)


def block(peaks: Sequence[memory.Peak], command: str) -> str:
    """Return what stands between the marks of a page."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions().items() if version)
    lines = [
        f"Printed by\n\n```console\n$ {command}\n```\n\n({versions}).\n",
        "| case | ours MB | PyTorch MB | ratio | threads |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| `{peak.case}` | {peak.ours_mb:.1f} | {peak.torch_mb:.1f} | {peak.ratio:.2f} | {peak.threads} |"
            for peak in peaks
        ),
    ]
    return "\n".join(lines) + "\n"
