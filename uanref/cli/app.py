"""The command ``uanref`` without its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="uanref",
    help="Normalization in neural networks, from scratch, with hand-derived backward passes.",
    rich_markup_mode=None,  # plain help: readable at any width, in a pipe and to a screen reader
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from uanref import __version__

        typer.echo(f"uanref {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
