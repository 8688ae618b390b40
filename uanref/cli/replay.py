"""``uanref replay``: write the page on which a training is watched again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import complain, print_plain


@app.command()
def replay(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", parser=path, help="a folder of uanref compare, or a checkpoint of uanref train"),
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
    """Write a page that shows a recorded training again.

    One file, opened by double click, without a network: a time slider; the activations of a channel with the mixture,
    its posterior and its transform beside batch normalization's; loss, accuracy and gradient norms; and from every
    moment a way into the derivation. Nothing is computed again: what was recorded is shown.
    """
    from rich.console import Console

    from uanref import replay as watched
    from uanref.experiments import recordings
    from uanref.stepping import explorer
    from uanref.training import recording

    target = out or Path("replay.html")
    explorer.check_target(target, force)
    chosen = watched.choose(recordings.find(run, complain), runs)
    explorer.write(target, watched.page([recording.read(one.path) for one in chosen]), force)
    print_plain(
        Console(), f"Written to {target}: open it in a browser to watch {' and '.join(one.label for one in chosen)}"
    )
