"""``uanref docs``: build the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import path
from uanref.cli.output import fail, print_plain


@app.command()
def docs(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path,
            help="for the pages  [default: docs/_build/html of the checkout]",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="build only")] = False,
) -> None:
    """Build the documentation from a checkout and open it.

    Tutorials, derivation explorer, API reference; the pages open without a network. Needs pip install ".[docs]".
    """
    from rich.console import Console

    from uanref import docs as documentation

    checkout = documentation.find_checkout()
    documentation.require_extra()
    try:
        page = documentation.build(checkout, out or checkout / "docs" / "_build" / "html")
    except ChildProcessError as error:
        fail(str(error), 1)
    print_plain(Console(), f"Written to {page.parent}: open {page.name} in a browser")
    if not no_open:
        documentation.show(page)
