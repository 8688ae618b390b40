"""``uanref evaluate``: score a saved network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import Backend, dataset_option, path
from uanref.cli.output import complain


@app.command()
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", parser=path, help="a file that train --save wrote")
    ],
    dataset: Annotated[str | None, dataset_option("; the checkpoint's if left out")] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="FILE:NAME", help="the code of its norm, if that is your own: mine.py:make")
    ] = None,
    backend: Backend = "numpy",
) -> None:
    """Score a saved network on the test set."""
    from rich.console import Console

    from uanref.experiments import single

    with warnings.catch_warnings(record=True) as told:  # of code that changed
        warnings.simplefilter("always")
        table = single.evaluate(checkpoint, dataset, backend, norm)
    for warning in told:
        complain(str(warning.message))
    Console().print(table)
