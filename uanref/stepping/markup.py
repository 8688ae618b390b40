"""The parts of the explorer's page that need no script: the graph as SVG, and every node in one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from html import escape
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.stepping.layout import HEIGHT, Layout
from uanref.stepping.layout_columns import WIDTH
from uanref.stepping.road import LOSS

KINDS = {"input": "input", "constant": "constant", "step": "step", "loss": "the loss"}
LONG = 12
"""Longer names are written smaller, to fit into their boxes."""
SHADES = 10
"""Of a number's colour in a table: from none to the one of the largest number."""
TOLERANCE = 1e-6
"""The largest relative error that a proof allows."""


def graph(exported: Mapping[str, Any], drawn: Layout) -> str:
    """Return the derivation's graph: an SVG whose nodes are links to their rows of :func:`nodes_table`."""
    nodes = {node["name"]: node for node in exported["nodes"]}
    parts = [
        f'<svg class="graph" viewBox="0 0 {drawn.width:.0f} {drawn.height:.0f}" width="{drawn.width:.0f}" '
        f'height="{drawn.height:.0f}" role="group" aria-label="Graph of {escape(exported["title"])}: '
        'every value below those that it is computed from">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0.5L8 4L0 7.5z"/></marker></defs>',
    ]
    parts += [
        f'<path class="edge" data-source="{escape(edge.source)}" data-target="{escape(edge.target)}" d="{edge.path}"/>'
        for edge in drawn.edges
    ]
    for name, box in drawn.boxes.items():
        node = nodes[name]
        label = f"{name}: {KINDS[node['kind']]}. {node['meaning']}"
        long = " long" if len(name) > LONG else ""
        kind = LOSS if name == LOSS else node["kind"]
        parts.append(
            f'<a class="node {kind}" href="#row-{escape(name)}" data-name="{escape(name)}" '
            f'aria-label="{escape(label)}" transform="translate({box.x - WIDTH / 2:.1f} {box.y:.1f})">'
            f'<rect width="{WIDTH:.0f}" height="{HEIGHT:.0f}" rx="{6 if node["kind"] == "step" else HEIGHT / 2:.0f}"/>'
            f'<text class="symbol" x="{WIDTH / 2:.0f}" y="16">{_symbol(node["symbol"])}</text>'
            f'<text class="name{long}" x="{WIDTH / 2:.0f}" y="31">{escape(name)}</text>'
            f'<text class="mark" x="{WIDTH - 3:.0f}" y="4"></text>'
            f'<text class="count" x="2" y="4"></text></a>'
        )
    return "\n".join([*parts, "</svg>"])


def _symbol(symbol: str) -> str:
    base, _, index = symbol.partition("_")
    index = index.replace("_", " ")
    return f'{escape(base)}<tspan class="index" dy="3">{escape(index)}</tspan>' if index else escape(symbol)


def nodes_table(exported: Mapping[str, Any]) -> str:
    """Return all nodes as rows: error, equation, meaning, source, shape, and value and gradient as tables."""
    rows = "\n".join(_row(node, exported) for node in exported["nodes"])
    return (
        '<table class="nodes"><thead><tr><th scope="col">Node</th><th scope="col">Relative error</th>'
        '<th scope="col">Equation and meaning</th><th scope="col">Shape</th><th scope="col">Numbers</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table>"
    )


def _row(node: Mapping[str, Any], exported: Mapping[str, Any]) -> str:
    axes = exported["axes"]
    shape = np.shape(node["value"])
    written = " × ".join(node["axes"]) or "scalar"
    sizes = " × ".join(str(size) for size in shape)
    equation = f'<div class="scroll">{node["equation"]}</div>' if "equation" in node else ""
    file = f"; <code>{escape(node['file'])}:{node['line']}</code>" if "file" in node else ""
    source = f'<p class="small">{escape(node.get("source") or KINDS[node["kind"]])}{file}</p>'
    back = "".join(f'<div class="scroll">{local["equation"]}</div>' for local in node.get("backward", {}).values())
    if back:
        back = f"<details><summary>The way back</summary>{back}</details>"
    error = (
        "no gradient" if node["gradient"] is None else error_text(math.nan if node["error"] is None else node["error"])
    )
    if node["kind"] == "loss":
        error = "where it starts"
    numbers = f'<div class="value">{array_table(node["value"], node["axes"], axes, "Value")}</div>'
    if node["gradient"] is not None:
        numbers += f'<div class="gradient">{array_table(node["gradient"], node["axes"], axes, "Gradient")}</div>'
    return (
        f'<tr id="row-{escape(node["name"])}" data-name="{escape(node["name"])}">'
        f'<th scope="row">{node["math"]}<br><code>{escape(node["name"])}</code></th>'
        f'<td class="error">{error}</td>'
        f"<td>{equation}<p>{escape(node['meaning'])}</p>{back}{source}</td>"
        f'<td class="shape">{escape(written)}{"<br>" + sizes if sizes else ""}</td>'
        f"<td><details><summary>Show</summary>{numbers}</details></td></tr>"
    )


def array_table(lists: Any, axes: list[str], meanings: Mapping[str, str], title: str) -> str:
    """Return an array as HTML tables: the last two axes are rows and columns, one table for each place of the others.

    Args:
        lists: nested lists along ``axes``.
        axes: their names.
        meanings: of the axes.
        title: the caption's first word.
    """
    array = np.asarray(lists, dtype=np.float64)
    largest = float(np.abs(array).max(initial=0.0))
    return "".join(_tables(array, axes, meanings, title, largest))


def _tables(array: Array, axes: list[str], meanings: Mapping[str, str], title: str, largest: float) -> Iterator[str]:
    outer = array.shape[: max(array.ndim - 2, 0)]
    for place in np.ndindex(*outer):
        # One axis by its meaning, "component 2"; several by their letters, for they would not fit.
        names = [meanings[axes[0]]] if len(place) == 1 else axes
        where = ", ".join(f"{name} {at + 1}" for name, at in zip(names, place, strict=False))
        inner = array[place]
        rows = inner.reshape(1, 1) if inner.ndim == 0 else inner.reshape(-1, inner.shape[-1])
        row_axis, column_axis = axes[-2] if len(axes) > 1 else "", axes[-1] if axes else ""
        yield f'<table class="array"><caption>{escape(", ".join([title, where] if where else [title]))}</caption>'
        if column_axis:
            corner = f"{row_axis}, {column_axis}" if row_axis else column_axis
            heads = "".join(f'<th scope="col">{at + 1}</th>' for at in range(rows.shape[1]))
            yield f"<thead><tr><th>{escape(corner)}</th>{heads}</tr></thead>"
        yield "<tbody>"
        for at, row in enumerate(rows):
            head = f'<th scope="row">{at + 1}</th>' if row_axis else "<th></th>" if column_axis else ""
            yield f"<tr>{head}{''.join(_cell(float(number), largest) for number in row)}</tr>"
        yield "</tbody></table>"


def _cell(number: float, largest: float) -> str:
    share = abs(number) / largest if largest > 0 and math.isfinite(largest) else 0.0
    sign = "negative" if number < 0 else "positive"
    return f'<td class="{sign} h{math.ceil(SHADES * share)}">{number_text(number)}</td>'


def number_text(number: float) -> str:
    """Return a number as the page writes it: four significant digits, a true minus, tiny and huge ones as ``1.234e−5``.

    The page's scripts write the same (``number`` in ``page/dom.js``), so halves are rounded away from zero as there.
    """
    if not math.isfinite(number):
        return "no number"
    if number == 0:
        return "0"
    size = Context(prec=4, rounding=ROUND_HALF_UP).plus(Decimal(abs(number)))
    power = size.adjusted()
    text = f"{size:.{3 - power}f}" if -3 <= power < 4 else _scientific(abs(number), 3)
    return f"−{text}" if number < 0 else text


def error_text(error: float, digits: int = 1) -> str:
    """Return a relative error as the page writes it: ``4.2e−9``."""
    return _scientific(error, digits) if math.isfinite(error) else "no number"


def _scientific(number: float, digits: int) -> str:
    rounded = Context(prec=digits + 1, rounding=ROUND_HALF_UP).plus(Decimal(number))
    power = rounded.adjusted() if rounded else 0
    return f"{rounded.scaleb(-power):.{digits}f}e{power}".replace("-", "−")
