"""``uanref explore``: write the page that walks through a derivation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import Derivation, ExampleSeed, Inputs, Sizes, path
from uanref.cli.output import print_plain


@app.command()
def explore(
    name: Derivation,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=path, help="the page  [default: NAME.html]", show_default=False),
    ] = None,
    size: Sizes = [],  # noqa: B006  Typer copies it
    inputs: Inputs = None,
    seed: ExampleSeed = 0,
    force: Annotated[bool, typer.Option("--force", help="overwrite a page that is there")] = False,
) -> None:
    """Write a page that walks through a derivation in a browser.

    One file, opened by double click, without a network: graph, equations, numbers that can be edited, proofs,
    planted mistakes, a quiz.
    """
    from rich.console import Console

    from uanref.derivations import find
    from uanref.stepping import explorer
    from uanref.stepping.given import inputs_from, sizes_from

    derivation = find(name)
    target = out or Path(f"{name}.html")
    explorer.check_target(target, force)
    given, upstream = inputs_from(derivation, inputs, sizes_from(size, derivation), seed)
    explorer.write(target, explorer.page(derivation, given, upstream, seed), force)
    print_plain(Console(), f"Written to {target}: open it in a browser")
