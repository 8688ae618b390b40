"""``uanref replay``: write the page on which a training is watched again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import print_plain


@app.command()
def replay(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", parser=path, help="a folder of uanref compare or uanref train with recordings"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=path, help="the page  [default: replay.html]", show_default=False),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(
            metavar="NORM:SEED,...",
            help="one run, or two side by side, such as bn:0,uan:0; the first of bn and of uan if left out",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a page that is there")] = False,
) -> None:
    """Write a page on which a training is watched again in a browser.

    One file, opened by double click, without a network: a time slider; the activations of a channel with the mixture,
    its posterior and its transform beside batch normalization's; loss, accuracy and gradient norms; and from every
    moment a way into the derivation. Nothing is computed again: what was recorded is shown.
    """
    from rich.console import Console

    from uanref import replay as watched
    from uanref.experiments import recordings
    from uanref.stepping import explorer

    target = out or Path("replay.html")
    explorer.check_target(target, force)
    wanted = None if runs is None else watched.wanted_runs(runs)
    chosen = watched.choose(recordings.load(run), wanted)
    explorer.write(target, watched.page(chosen), force)
    names = " and ".join(f"{one.norm}:{one.seed}" for one in chosen)
    print_plain(Console(), f"Written to {target}: open it in a browser to watch {names}")
