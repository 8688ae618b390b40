"""``uanref compare``: train a network with different norms and compare them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uanref.cli import completion
from uanref.cli.app import app
from uanref.cli.options import (
    NORM_NAMES,
    OWN_NORM,
    USUAL_RATES,
    Backend,
    BatchSize,
    Components,
    Dataset,
    Epochs,
    Force,
    Jobs,
    Model,
    Optimizer,
    Quiet,
    norm_entries,
    path,
    rates,
    whole,
)
from uanref.cli.output import command_line, complain, duration, fail, print_plain, progress, wide
from uanref.experiments.recipe import DEFAULTS, EPOCHS
from uanref.reasons import reason

if TYPE_CHECKING:
    from uanref.experiments.compare import Comparison, Run, Settings
    from uanref.experiments.estimate import Estimate
    from uanref.experiments.record import Record

NOTHING = "interrupted before the first run finished: nothing was written"


@app.command()
def compare(
    dataset: Dataset = DEFAULTS["dataset"],
    model: Model = DEFAULTS["model"],
    norms: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help=f"of {NORM_NAMES}, or your own: {OWN_NORM}", autocompletion=completion.norm_lists
        ),
    ] = "none,bn,uan,uan-learned",
    components: Components = DEFAULTS["components"],
    seeds: Annotated[int, typer.Option(metavar="N", parser=whole(1), help="how many: seeds 0 to N-1")] = 3,
    epochs: Epochs = EPOCHS,
    lr: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help=f"learning rates, each a row of its own; {USUAL_RATES} if left out",
        ),
    ] = None,
    batch_size: BatchSize = DEFAULTS["batch_size"],
    optimizer: Optimizer = DEFAULTS["optimizer"],
    backend: Backend = "numpy",
    jobs: Jobs = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path,
            help="for results.json, the runs (cells/) and the pictures; runs/compare-<time> if left out",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train a network with different norms and compare them.

    All of them start from the same weights and see the same batches, seed by seed.
    """
    from uanref.experiments import compare as experiment
    from uanref.experiments import compare_cells, folder, pictures
    from uanref.experiments.estimate import Estimate
    from uanref.experiments.record import Record

    settings = experiment.Settings(
        dataset=dataset,
        model=model,
        norms=norm_entries("--norms", norms),
        components=components,
        seeds=seeds,
        epochs=epochs,
        lrs=() if lr is None else rates(lr),
        batch_size=batch_size,
        optimizer=optimizer,
        backend=backend,
    )
    if backend == "cupy" and jobs is not None and jobs > 1:
        typer.echo(f"uanref: all runs share the GPU in one process: --jobs {jobs} is not used", err=True)
    splits = experiment.try_out(settings)
    total = len(settings.runs())
    with folder.claimed(out, "--out", force) as place:
        before = compare_cells.kept(place, settings, f"--out {place}", complain)
        estimate = Estimate(settings, splits, jobs, before)
        if not quiet:
            typer.echo(_plan(settings, place, len(before), estimate), err=True)
        try:
            obstacle = pictures.obstacle()
        except KeyboardInterrupt:
            fail(NOTHING, 130)
        if obstacle:
            typer.echo(f"uanref: Matplotlib cannot draw here ({obstacle}): there will be no pictures", err=True)
        record = Record(place, functools.partial(compare_cells.cell, settings), before)
        with progress(total, "runs", quiet, done=len(before), left=estimate.left) as finished:

            def keep(run: Run) -> None:
                fault = run.unrecorded and f"{run.norm}, lr {run.lr:g}, seed {run.seed}: {run.unrecorded}"
                record.add(dataclasses.replace(run, recording=None), run.recording, fault)
                estimate.add(run)
                finished(run)

            comparison = experiment.run(settings, splits, jobs, keep, before)
        if not comparison.runs:
            if comparison.interrupted:
                fail(NOTHING, 130)
            fail(comparison.note, 1)
        _show(comparison, record, obstacle)


def _plan(settings: Settings, place: Path, before: int, estimate: Estimate) -> str:
    """Return what will be done, and about how long it takes."""
    parts = {"norms": len(settings.norms), "learning rates": len(settings.lrs), "seeds": settings.seeds}
    grid = " x ".join(f"{number} {what}" for what, number in parts.items() if number > 1)
    total = len(settings.runs())
    return (
        f"{total} {'runs' if total > 1 else 'run'}{f' ({grid})' if grid else ''} of {settings.epochs} epochs, "
        + (f"{before} of them there already, " if before else "")
        + f"{estimate.processes} at a time, into {place}: about {duration(estimate.left())}"
    )


def _show(comparison: Comparison, record: Record[Run], obstacle: str) -> None:
    """Write the results, print the table, draw the pictures: whichever fails, the others come all the same."""
    from uanref.experiments import compare_pictures, compare_report

    console, troubles, written = wide(), [], []
    for _ in range(2):  # Ctrl-C costs what comes after results and table, not these
        try:
            record.finish(compare_report.results(comparison, command_line()))
            console.print(compare_report.table(comparison))
            break
        except KeyboardInterrupt:
            comparison.interrupted = True
        except OSError as error:  # standard output goes to a full disk
            troubles.append(f"the table cannot be printed ({reason(error)})")
            break
    if record.unrecorded:
        complain(record.unrecorded)
    if record.trouble:
        troubles.append(record.trouble)
    else:
        written.append("results.json")
    if comparison.note:
        troubles.insert(0, comparison.note)
    if obstacle:
        troubles.append("there are no pictures: Matplotlib cannot draw here")
    else:
        try:
            drawn, failed = compare_pictures.draw(comparison, record.folder)
            written += drawn
            troubles += failed
        except KeyboardInterrupt:
            comparison.interrupted = True
            troubles.append("interrupted while drawing: there are no pictures")
    if written:
        with contextlib.suppress(OSError):
            print_plain(console, f"Written to {record.folder}: {', '.join(written)}")
    if comparison.interrupted:
        fail("; ".join(troubles), 130)
    if all(run.diverged for run in comparison.runs):
        troubles.append(f"every run diverged: {comparison.runs[0].history.stopped}")
    if troubles:
        fail("; ".join(troubles), 1)
