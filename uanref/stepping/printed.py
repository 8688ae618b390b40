"""``uanref step --plain``: a walk through a derivation, printed whole."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from uanref.derivations import Node, Trace
from uanref.stepping import show
from uanref.stepping.road import BACKWARD, PHASES, TURN, Stop
from uanref.stepping.walk import Walk


def print_walk(walk: Walk, console: Console, whole: bool = False) -> None:
    """Print the inputs, the road from the first step to the loss and back, the proofs and the collapses.

    Args:
        walk: what to walk through; a planted mistake is told. It ends at the last stop.
        console: where to.
        whole: whether to print large arrays whole.
    """
    told, derivation = walk.told, walk.derivation
    console.print(Text(derivation.title, "bold"))
    console.print(Text(derivation.summary))
    if not derivation.forward_only:
        console.print(Text(show.LEGEND))
    if walk.mistake is not None:
        console.print(Text(f"planted mistake: {walk.mistake.id}", "bold red"))
    console.rule("inputs")
    for node in told.derivation.inputs:
        _print_value(console, told, told[node.name], whole)
    walk.move(-len(walk.stops))
    phase = ""
    for stop in walk.stops:
        if stop.phase != phase:
            console.rule(PHASES[stop.phase])
        phase = stop.phase
        _print_stop(walk, console, stop, whole)
        walk.move(1)
    if derivation.forward_only:
        return
    console.rule("proofs")
    console.print(show.proofs(walk.trace))
    for collapse in derivation.collapse if walk.mistake is None else ():
        console.print()
        console.print(show.collapse(collapse, walk.trace))


def _print_stop(walk: Walk, console: Console, stop: Stop, whole: bool) -> None:
    told, node = walk.told, walk.node
    if stop.phase != BACKWARD:
        _print_value(console, told, node, whole, f"{walk.where}  ")
    if not walk.back or node.gradient is None:
        return
    console.print(Text.assemble("" if stop.phase == TURN else f"{walk.where}  ", "d", show.heading(node, told)))
    console.print(show.way_back(node, told, walk.replacement(node.name)))
    console.print(show.contributions(node, whole))
    _print_gradient(console, node, whole)
    for name in walk.used():
        beside, arrived = told[name], walk.arrived(name)
        if stop.node not in arrived:
            continue
        console.print(Text.assemble("d", show.heading(beside, told), f"  {show.parts(beside, arrived)}"))
        if len(arrived) == len(beside.contributions):
            console.print(show.way_back(beside, told))
            console.print(show.contributions(beside, whole))
            _print_gradient(console, beside, whole)
    console.print()


def _print_value(console: Console, told: Trace, node: Node, whole: bool, where: str = "") -> None:
    console.print(Text.assemble(where, show.heading(node, told)))
    console.print(show.definition(node, told))
    console.print(show.numbers(node.value, node.definition.axes, whole))
    console.print()


def _print_gradient(console: Console, node: Node, whole: bool) -> None:
    console.print(show.proof(node))
    if node.gradient is not None:
        console.print(show.numbers(node.gradient, node.definition.axes, whole))
