"""``uanref step --plain``: a walk through a derivation, printed whole."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from uanref.stepping import show
from uanref.stepping.walk import Walk


def print_walk(walk: Walk, console: Console, whole: bool = False) -> None:
    """Print the walk from the first input to the output and back, the proofs and the collapses.

    Args:
        walk: what to walk through; a planted mistake is told.
        console: where to.
        whole: whether to print large arrays whole.
    """
    trace, derivation = walk.trace, walk.derivation
    console.print(Text(derivation.title, "bold"))
    console.print(Text(derivation.summary))
    if walk.mistake is not None:
        console.print(Text(f"planted mistake: {walk.mistake.id}", "bold red"))
    console.rule("forward")
    for node in trace.nodes.values():
        console.print(show.heading(node, trace))
        console.print(show.definition(node, trace))
        console.print(show.numbers(node.value, node.definition.axes, whole))
        console.print()
    if derivation.forward_only:
        return
    console.rule("backward")
    for node in reversed(list(trace.nodes.values())):
        if node.gradient is None:
            continue
        console.print(Text.assemble("d", show.heading(node, trace)))
        console.print(show.way_back(node, trace, walk.replacement(node.name)))
        console.print(show.contributions(node, whole))
        console.print(show.numbers(node.gradient, node.definition.axes, whole))
        console.print(show.proof(node))
        console.print()
    console.rule("proofs")
    console.print(show.proofs(trace))
    for told in derivation.collapse if walk.mistake is None else ():
        console.print()
        console.print(show.collapse(told, trace))
