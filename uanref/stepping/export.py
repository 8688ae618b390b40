"""A traced derivation as plain data: what the explorer's page interprets, and what a program may read as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.derivations import Derivation, Input, Local, Node, Step, Trace
from uanref.stepping.mathml import mathml
from uanref.stepping.road import road, stand_in, with_loss
from uanref.stepping.unicode import equation, local_equation, symbol, text


def exported(trace: Trace) -> dict[str, Any]:
    """Return a trace and its derivation as dictionaries, lists, strings and numbers.

    Returns:
        ``name``, ``title``, ``summary``, ``layer``; ``axes`` (name to meaning) and ``sizes`` (name to length);
        ``nodes``, inputs first, each with ``kind`` (``"input"``, ``"constant"`` or ``"step"``), ``name``, ``symbol``
        and ``math`` (its symbol in Unicode and MathML), ``axes``, ``meaning``, ``value`` (nested lists along the
        axes) and, unless constant, ``gradient``, ``numerical``, ``doubt`` (at most 1e300) and ``error`` (the last
        three None where the numerical gradient is no number, as JSON has none); a step also
        has ``equation`` (MathML) and ``text`` (Unicode), ``source``, ``file``, ``line``, ``inputs``, ``forward`` (an
        expression as nested lists, :meth:`~uanref.derivations.expressions.Expression.as_list`) and ``backward``: per
        input name ``equation``, ``text`` and ``expression``. ``output`` names the last step, ``upstream`` is its
        gradient, ``road`` lists the stops of :func:`~uanref.stepping.road.road`, each ``node`` and ``phase``,
        ``loss`` is the stand-in of :func:`~uanref.stepping.road.stand_in` (``math``, ``equation``, ``text``,
        ``meaning``, ``forward``, ``backward``) or None, and ``collapse`` lists per value ``name`` its ``lines``:
        ``equation``, ``text``, ``why`` and ``expression``.
    """
    derivation = trace.derivation
    return {
        "name": derivation.name,
        "title": derivation.title,
        "summary": derivation.summary,
        "layer": derivation.layer,
        "axes": dict(derivation.axes),
        "sizes": dict(trace.sizes),
        "nodes": [_node(node, derivation) for node in trace.nodes.values()],
        "output": derivation.output.name,
        "upstream": trace.upstream.tolist(),
        "road": [{"node": stop.node, "phase": stop.phase} for stop in road(derivation)],
        "loss": _loss(derivation),
        "collapse": [
            {
                "name": collapse.name,
                "lines": [
                    {
                        "equation": mathml(line.equation),
                        "text": text(line.expression, derivation),
                        "why": line.why,
                        "expression": line.expression.as_list(),
                    }
                    for line in collapse.lines
                ],
            }
            for collapse in derivation.collapse
        ],
    }


def _loss(derivation: Derivation) -> dict[str, Any] | None:
    loss = stand_in(derivation)
    if loss is None:
        return None
    told = with_loss(derivation, loss)
    (local,) = loss.backward.values()
    return {
        "name": loss.name,
        "symbol": symbol(loss),
        "math": mathml(loss.symbol, display="inline"),
        "equation": mathml(loss.equation),
        "text": equation(loss, told),
        "meaning": loss.meaning,
        "source": loss.source,
        "forward": loss.forward.as_list(),
        "backward": {derivation.output.name: _local(loss, derivation.output.name, local, told)},
    }


def _node(node: Node, derivation: Derivation) -> dict[str, Any]:
    definition = node.definition
    if node.unproven:
        node = replace(node, numerical=None, doubt=None)
    made: dict[str, Any] = {
        "kind": _kind(definition),
        "name": node.name,
        "symbol": symbol(definition),
        "math": mathml(definition.symbol, display="inline"),
        "axes": list(definition.axes),
        "meaning": definition.meaning,
        "value": node.value.tolist(),
        "gradient": _listed(node.gradient),
        "numerical": _listed(node.numerical),
        "doubt": None if node.doubt is None else np.minimum(node.doubt, 1e300).tolist(),  # JSON has no infinity
        "error": node.error,
    }
    if isinstance(definition, Step):
        made |= {
            "equation": mathml(definition.equation),
            "text": equation(definition, derivation),
            "source": definition.source,
            "file": definition.file,
            "line": definition.line,
            "inputs": list(definition.inputs),
            "forward": definition.forward.as_list(),
            "backward": {
                name: _local(definition, name, local, derivation) for name, local in definition.backward.items()
            },
        }
    return made


def _local(step: Step, name: str, local: Local, derivation: Derivation) -> dict[str, Any]:
    return {
        "equation": mathml(local.equation),
        "text": local_equation(step, name, derivation),
        "expression": local.expression.as_list(),
    }


def _kind(definition: Input | Step) -> str:
    if isinstance(definition, Step):
        return "step"
    return "constant" if definition.constant else "input"


def _listed(array: Array | None) -> Any:
    return None if array is None else array.tolist()
