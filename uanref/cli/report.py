"""``uanref report``: tables, verdicts and pictures again, from the cells that sweeps left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import complain, fail


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            parser=path,
            help="of uanref experiment or uanref compare, or a file of cells that --page wrote; several count as one",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=path, help="for the pictures; none are drawn if left out"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md",
            parser=path,
            help="a page of all experiments as Markdown, and beside it a folder with its pictures and cells",
        ),
    ] = None,
) -> None:
    """Show what the cells of experiments and comparisons say.

    The folders may come from several machines, and from other versions of uanref. Nothing is computed, and nothing in
    them is changed.
    """
    from uanref.cli import findings
    from uanref.experiments import collect, registry

    if page is not None:
        findings.check_page(page)
    collected = collect.read(folders)
    for note in collected.notes:
        complain(note)
    if not collected.groups:
        fail("none of the cells can be read", 1)
    count = collected.damaged
    troubles = ["one cell was left out" if count == 1 else f"{count} cells were left out"] if count else []
    for group, cells in collected.groups.items():
        experiment = registry.reported(group.experiment)
        title = ", ".join(filter(None, (group.experiment, group.kind)))
        title += f" ({len(cells)} cells): {experiment.question}"
        troubles += findings.show(experiment, title, cells)
    if page is not None:
        troubles += findings.write_page(collected.groups, page)
    if out is not None:
        for group, cells in collected.groups.items():
            place = out / group.kind if group.kind else out
            drawn, failed = findings.draw(registry.reported(group.experiment), cells, place)
            troubles += failed
            if drawn:
                findings.say_written(place, drawn)
    if troubles:
        fail("; ".join(troubles), 1)
