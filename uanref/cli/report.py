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
            metavar="FOLDER...", parser=path, help="of uanref experiment or uanref compare; several count as one"
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=path, help="for the pictures; none are drawn if left out"),
    ] = None,
) -> None:
    """Show what the cells in some folders say, of one experiment or several.

    The folders may come from several machines, and from other versions of uanref. Nothing is computed, and nothing in
    them is changed.
    """
    from uanref.cli import findings
    from uanref.experiments import collect, registry

    collected = collect.read(folders)
    for note in collected.notes:
        complain(note)
    if not collected.groups:
        fail("none of the cells can be read", 1)
    count = collected.damaged
    troubles = ["one cell was left out" if count == 1 else f"{count} cells were left out"] if count else []
    for (name, scale), cells in collected.groups.items():
        experiment = registry.reported(name)
        title = ", ".join(filter(None, (name, scale))) + f" ({len(cells)} cells): {experiment.question}"
        troubles += findings.show(experiment, title, cells)
    # A page of the same cells is written here, before what is fragile.
    if out is not None:
        for (name, scale), cells in collected.groups.items():
            drawn, failed = findings.draw(registry.reported(name), cells, out / scale if scale else out)
            troubles += failed
            if drawn:
                findings.say_written(out / scale if scale else out, drawn)
    if troubles:
        fail("; ".join(troubles), 1)
