"""``uanref vectors``: every norm's numbers, to test a port against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import print_plain


@app.command()
def vectors(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=path, help="for the cases, their list and a README; created")
    ],
    force: Annotated[bool, typer.Option("--force", help="write into a folder that is not empty")] = False,
) -> None:
    """Write every norm's numbers, to test a port against.

    NumPy archives and JSON, in float64 and float32; the README in the folder tells what is what.
    """
    from rich.console import Console

    from uanref.verify import vectors as written

    count = written.write(out, force)
    print_plain(Console(), f"Written to {out}: {count} cases, README.md, cases.json, uan_torch.py")
