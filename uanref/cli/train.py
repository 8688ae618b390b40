"""``uanref train``: train one network."""

from __future__ import annotations

import os
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
    Quiet,
    batch_size_option,
    components_option,
    dataset_option,
    epochs_option,
    left_out,
    model_option,
    optimizer_option,
    path,
    positive,
    seed_option,
)
from uanref.cli.output import complain, fail, print_plain
from uanref.experiments.recipe import EPOCHS
from uanref.reasons import message, reason

if TYPE_CHECKING:
    from rich.console import Console

    from uanref.experiments.single import Trained


@app.command()
def train(
    dataset: Annotated[
        str | None, dataset_option(f"{left_out('dataset')}; with --resume: where its data are now")
    ] = None,
    model: Annotated[str | None, model_option(left_out("model"))] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"one of {NORM_NAMES}, or your own: {OWN_NORM}{left_out('norm')}",
            autocompletion=completion.norms,
        ),
    ] = None,
    components: Annotated[int | None, components_option(left_out("components"))] = None,
    epochs: Annotated[int, epochs_option("in all, those of a resumed checkpoint included")] = EPOCHS,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", parser=positive, help=f"{USUAL_RATES} if left out")
    ] = None,
    batch_size: Annotated[int | None, batch_size_option(left_out("batch_size"))] = None,
    optimizer: Annotated[str | None, optimizer_option(left_out("optimizer"))] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"of the learning rate: constant, or cosine down to 0{left_out('schedule')}",
            autocompletion=completion.schedules,
        ),
    ] = None,
    seed: Annotated[int | None, seed_option(f"of split, weights and batches{left_out('seed')}")] = None,
    backend: Backend = "numpy",
    save: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", parser=path, help="write the run to this file at the end of every epoch"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", parser=path, help="go on where this file's training was")
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(metavar="PNG", parser=path, help="draw loss and accuracy; NET-curves.png if NET.npz is saved"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train one network; save it, or go on with a saved one.

    With --save, every epoch ends with a checkpoint. Ctrl-C, SIGTERM, even SIGKILL lose no more than the epoch that was
    under way, and --resume goes on from there to the same bits. A checkpoint that is there already with more epochs
    stays until this training has as many or is done; meanwhile its own are beside it (NET.1.npz).
    """
    from rich.console import Console

    from uanref import files
    from uanref.experiments import single

    given = {
        "dataset": dataset,
        "model": model,
        "norm": norm,
        "components": components,
        "lr": lr,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "schedule": schedule,
        "seed": seed,
    }
    given = {option: value for option, value in given.items() if value is not None}
    if curves is not None:
        files.check_target(curves, "--curves")
        if os.path.realpath(curves) in [os.path.realpath(taken) for taken in (save, resume) if taken]:
            raise ValueError(f"--curves {curves} is the checkpoint: name another file for the picture")
    trained = single.train(
        given,
        epochs=epochs,
        backend_name=backend,
        save=save,
        resume=resume,
        progress="none" if quiet else "auto",
        tell=complain,
    )
    console = Console()
    console.print(trained.table())
    kept = trained.kept
    if kept is not None and kept.place is not None:
        print_plain(console, f"Written to {kept.place}")
    picture = curves or (save and save.with_name(f"{save.stem}-curves.png"))
    drawn = not picture or not trained.trainer.epoch or _drawn(trained, picture, console)
    if trained.interrupted:
        fail("interrupted: " + (kept.told() if kept is not None else "nothing was saved"), 130)
    if kept is not None and kept.error is not None:
        fail(f"{kept.path} could not be written ({reason(kept.error)}): {kept.told()}", 1)
    if curves and not drawn:
        fail("", 1)


def _drawn(trained: Trained, picture: Path, console: Console) -> bool:
    """Write the curves and say where; whatever is wrong with the picture or the drawing library costs nothing else."""
    try:
        trained.draw(picture)
    except Exception as error:
        complain(f"{picture} could not be drawn ({message(error)})")
        return False
    print_plain(console, f"Curves in {picture}")
    return True
