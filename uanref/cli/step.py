"""``uanref step``: walk through a derivation in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import Derivation, ExampleSeed, Inputs, Sizes
from uanref.cli.output import print_plain, unbroken, wide


@app.command()
def step(
    name: Derivation,
    size: Sizes = [],  # noqa: B006  Typer copies it
    inputs: Inputs = None,
    seed: ExampleSeed = 0,
    mistake: Annotated[
        str | None, typer.Option(metavar="ID", help="plant a mistake; 'list' prints what there is")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="print the whole walk; so without a terminal, too")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="with --plain: print large arrays whole")] = False,
) -> None:
    """Walk through a derivation, forward to the loss and back.

    Formula, shape, numbers, gradient and numerical proof of each; edit a number or plant a mistake and watch.
    The key ? shows all keys.
    """
    from rich.console import Console

    from uanref.derivations import find
    from uanref.derivations.mistakes import mistakes
    from uanref.stepping.given import inputs_from, sizes_from
    from uanref.stepping.printed import print_walk
    from uanref.stepping.road import BACKWARD
    from uanref.stepping.terminal import Screen
    from uanref.stepping.walk import Walk

    derivation = find(name)
    offered = mistakes(derivation) if mistake is not None else []
    if mistake == "list":
        for each in offered:
            print_plain(unbroken(), each.id)
        return
    given, upstream = inputs_from(derivation, inputs, sizes_from(size, derivation), seed)
    walk = Walk(derivation, given, upstream, seed)
    if mistake is not None:
        chosen = [each for each in offered if each.id == mistake]
        if not chosen:
            raise ValueError(f"{name} has no mistake {mistake!r}: uanref step {name} --mistake list prints them")
        walk.plant(chosen[0])
        walk.go(chosen[0].step, BACKWARD)
    console = Console()
    if plain or not (console.is_terminal and sys.stdin.isatty()):
        print_walk(walk, console if console.is_terminal else wide(), whole)
    else:
        Screen(walk, console).run()
