"""``uanref experiment``: put a claim to the test, on many networks with many seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uanref.cli import completion
from uanref.cli.app import app
from uanref.cli.options import Backend, Force, Jobs, Quiet, path, whole
from uanref.cli.output import complain, duration, fail, progress, wide
from uanref.experiments import registry

if TYPE_CHECKING:
    from uanref.experiments.experiment import Cell, Config, Experiment
    from uanref.experiments.record import Record
    from uanref.experiments.sweep import Outcome

LIST = "list"
TOLD = 5  # failures that are told one by one


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"{LIST}, which says what each asks, or one of {', '.join(registry.NAMES)}",
            autocompletion=completion.experiments,
        ),
    ],
    scale: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="tiny (seconds), small (minutes on two cores) or paper (the paper's setting, for a GPU)",
            autocompletion=completion.scales,
        ),
    ] = "small",
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=whole(1),
            help="how many, from 100 on (tiny: from 0); the scale's own number if left out",
        ),
    ] = None,
    backend: Backend = "numpy",
    jobs: Jobs = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path,
            help="for the cells (cells/) and the pictures; runs/NAME-<time> if left out",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Put one of the paper's claims to the test.

    Tables, verdicts, pictures. Each network that is trained is a cell, a file of its own. The same command goes on
    where an ended one stopped, and uanref report shows the cells of several folders.
    """
    from uanref.experiments import cells, folder, pictures, sweep
    from uanref.experiments.record import Record

    if name == LIST:
        _list()
        return
    if name not in registry.NAMES:
        raise ValueError(f"there is no experiment {name[:60]!r}: uanref experiment {LIST} shows all")
    found = registry.find(name)
    plan = sweep.plan(found, scale, seeds, backend)
    if backend == "cupy" and jobs is not None and jobs > 1:
        complain(f"all cells share the GPU in one process: --jobs {jobs} is not used")
    with folder.claimed(out, "--out", force, name) as place:
        before: list[Cell] = cells.kept(place, plan, f"--out {place}", complain)
        done = {cells.name(cell.config): cell for cell in before}
        missing = [config for config in plan if cells.name(config) not in done]
        at_once = sweep.processes(backend, sweep.at_most(found, jobs), len(missing))
        left = sweep.TimeLeft(missing, before, at_once)
        if not quiet:
            _say_plan(name, scale, len(plan), len(before), at_once, place, left.left())
        try:
            obstacle = pictures.obstacle()
        except KeyboardInterrupt:
            fail("interrupted before the first cell: nothing was computed", 130)
        if obstacle:
            complain(f"Matplotlib cannot draw here ({obstacle}): there will be no pictures")
        record: Record[Cell] = Record(place, lambda cell: (cell, None), before)
        with progress(len(plan), "cells", quiet, done=len(before), left=left.left) as finished:

            def keep(cell: Cell) -> None:
                record.add(cell)
                left.add(cell)
                done[cells.name(cell.config)] = cell
                finished(sweep.words(cell.config))

            outcome = sweep.run(found, missing, jobs, keep)
        ordered = [done[key] for config in plan if (key := cells.name(config)) in done]
        _show(found, scale, plan, ordered, outcome, record, obstacle)


def _say_plan(name: str, scale: str, total: int, before: int, at_once: int, place: Path, seconds: float | None) -> None:
    """Say what will be done, and about how long it takes where that is known."""
    typer.echo(
        f"{name}, {scale}: {total} cells, "
        + (f"{before} of them there already, " if before else "")
        + f"{at_once} at a time, into {place}"
        + (f": about {duration(seconds)}" if seconds and before < total else ""),
        err=True,
    )


def _list() -> None:
    """Print name, question and number of cells of every experiment."""
    from rich.table import Table
    from rich.text import Text

    from uanref.experiments.experiment import SCALES

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("question")
    for scale in SCALES:
        table.add_column(scale, justify="right", no_wrap=True)
    for name in registry.NAMES:
        each = registry.find(name)
        table.add_row(name, Text(each.question), *(f"{len(each.plan(scale, None)):,}" for scale in SCALES))
    table.caption = "The numbers are cells: networks that are trained, or measurements."
    table.caption_justify, table.caption_style = "left", ""
    wide().print(table)


def _show(
    experiment: Experiment,
    scale: str,
    plan: list[Config],
    done: list[Cell],
    outcome: Outcome,
    record: Record[Cell],
    obstacle: str,
) -> None:
    """Make the record complete, print, draw: whichever fails, the others come all the same."""
    from uanref.cli import findings

    note = outcome.note(len(done), len(plan), "cells")
    for sentence in outcome.failed[1:TOLD]:
        complain(sentence)
    if not done:
        fail(f"{note}: nothing was written", 130 if outcome.interrupted else 1)
    troubles, written = [note] if note else [], []
    for _ in range(2):  # Ctrl-C costs what comes after the tables, not these
        try:
            record.finish()
            title = f"{experiment.name}, {scale}: {experiment.question}" + (f" ({note})" if note else "")
            troubles += findings.show(experiment, title, done)
            break
        except KeyboardInterrupt:
            outcome.interrupted = True
    if record.trouble:
        troubles.append(record.trouble)
    else:
        written.append("cells")
    if obstacle:
        troubles.append("there are no pictures: Matplotlib cannot draw here")
    else:
        try:
            drawn, failed = findings.draw(experiment, done, record.folder)
            written += drawn
            troubles += failed
        except KeyboardInterrupt:
            outcome.interrupted = True
            troubles.append("interrupted while drawing: there are no pictures")
    if written:
        findings.say_written(record.folder, written)
    if outcome.interrupted:
        fail("; ".join(troubles) or "interrupted", 130)
    if troubles:
        fail("; ".join(troubles), 1)
