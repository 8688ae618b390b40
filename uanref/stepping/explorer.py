"""``uanref explore``: a derivation as one self-contained HTML page that is opened by a double click.

The page holds its data (:mod:`uanref.stepping.page_data`) and the scripts of ``uanref/stepping/page``. It needs no
network, and its content security policy allows none. Without JavaScript it is the graph and a table of all nodes.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from uanref import files
from uanref.backend import Array
from uanref.derivations import Derivation, Trace
from uanref.stepping.font import font_face
from uanref.stepping.layout import below, layout
from uanref.stepping.markup import TOLERANCE, error_text, graph, nodes_table
from uanref.stepping.page_data import loss_node, page_data
from uanref.stepping.policy import policy

MOST_NUMBERS = 4000
"""How many entries all values of a page may have together: beyond it nothing can be read any more."""

THERE_AND_BACK = (
    "The road leads forward through the steps, to the loss, and back through the same steps. Inputs stand beside it."
)
ONE_WAY = "The road leads forward through the steps: nothing is differentiated here. Inputs stand beside it."

NO_NUMERICAL = "Gradients without a numerical one, as a later step overflows"

STYLES = ("base.css", "page.css", "explain.css", "mixture.css", "class.css")

SCRIPTS = (
    "primitives.js",
    "derivation.js",
    "dom.js",
    "store.js",
    "arrays.js",
    "written.js",
    "told.js",
    "explain.js",
    "fit.js",
    "flow.js",
    "graph.js",
    "node-text.js",
    "node-ways.js",
    "node.js",
    "rules.js",
    "quiz.js",
    "mistakes.js",
    "game.js",
    "fragment.js",
    "state.js",
    "collapse.js",
    "plot.js",
    "channel.js",
    "mixture.js",
    "nodes.js",
    "tabs.js",
    "play.js",
    "classroom.js",
    "explorer.js",
)


def page(
    derivation: Derivation,
    inputs: Mapping[str, Array] | None = None,
    upstream: Array | None = None,
    seed: int = 0,
) -> str:
    """Return the page of a derivation.

    Args:
        derivation: which.
        inputs: by name; the derivation's example if None.
        upstream: dL/d(output); standard normal if None.
        seed: of the example and of the upstream gradient.

    Raises:
        ValueError: inputs that do not fit, that are too many for a page, or that give values that are not finite.
    """
    trace = derivation.trace(inputs, upstream, seed=seed, numerical=False)
    entries = sum(node.value.size for node in trace.nodes.values())
    if entries > MOST_NUMBERS:
        raise ValueError(
            f"the page would hold values of {entries} entries, more than a reader can follow: "
            f"give smaller inputs (at most {MOST_NUMBERS} entries in all values)"
        )
    given = {node.name: trace[node.name].value for node in derivation.inputs}
    if trace.not_finite is not None:
        raise ValueError(f"{derivation.name}: {trace.not_finite} is not finite for these inputs")
    trace = derivation.trace(given, trace.upstream)
    data = page_data(trace, seed)
    told = data["derivation"]
    loss = loss_node(trace, told["loss"])
    drawn = layout(derivation)
    if loss is not None:
        drawn = below(drawn, derivation.output.name, loss["name"])
        told = told | {"nodes": [*told["nodes"], loss]}
    return string.Template(part("page.html")).substitute(
        title=escape(derivation.title),
        summary=escape(derivation.summary),
        layer=_layer(derivation),
        verdict=escape(_verdict(trace)),
        way=" one-way" if derivation.forward_only else "",
        road=ONE_WAY if derivation.forward_only else THERE_AND_BACK,
        policy=escape(policy([style()], scripts())),
        style=style(),
        graph=graph(told, drawn),
        nodes=nodes_table(told),
        data=embedded(data),
        scripts="\n".join(f"<script>{code}</script>" for code in scripts()),
    )


def style() -> str:
    """Return the text of a page's ``<style>`` element: what every page of the explorer looks like."""
    return "\n" + font_face() + "\n".join(part(name) for name in STYLES)


def scripts() -> list[str]:
    """Return the texts of a page's ``<script>`` elements, the same for every page of the explorer."""
    return ["\n" + part(name) for name in SCRIPTS]


def part(name: str) -> str:
    """Return the text of a file of ``stepping/page``, such as ``"base.css"``, what all offline pages share."""
    return (resources.files("uanref.stepping") / "page" / name).read_text("utf-8")


def write(path: str | os.PathLike[str], text: str, force: bool = False) -> None:
    """Write a page, whole or not at all.

    Args:
        path: of the page.
        text: what :func:`page` returned.
        force: whether an existing file may be replaced.

    Raises:
        FileExistsError: there is a file and ``force`` is False; or a link or a device, whatever ``force`` says.
        OSError: the folder does not exist or cannot be written, or the path is a folder.
    """
    check_target(path, force)
    files.write_bytes(path, text.encode())


def check_target(path: str | os.PathLike[str], force: bool = False) -> None:
    """Raise what :func:`write` would raise, before a page is made.

    Raises:
        FileExistsError: a file of this name is there and ``force`` is not set.
        OSError: it could not be written.
    """
    path = Path(path)
    files.check_target(path, "the page")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or overwrite it with --force")


def embedded(data: Any) -> str:
    """Return JSON that is safe inside a ``<script>`` element: nothing in it can end the element or open a comment."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _layer(derivation: Derivation) -> str:
    return f"The layer that computes the same: <code>{escape(derivation.layer)}</code>." if derivation.layer else ""


def _verdict(trace: Trace) -> str:
    proofs = [node.error for node in trace.nodes.values() if node.error is not None and not node.unproven]
    left = sum(node.unproven for node in trace.nodes.values())
    unproven = f"{NO_NUMERICAL}: {left}. " if left else ""
    if not proofs and not left:
        return "Nothing is differentiated here: there are no gradients to prove."
    if not proofs:
        return unproven.strip()
    return unproven + (
        f"Largest relative error of {len(proofs)} gradients against the numerical ones: {error_text(max(proofs))} "
        f"(allowed: {error_text(TOLERANCE, digits=0)})."
    )
