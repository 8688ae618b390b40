"""A trace with its loss behind it: what stands at the turning point of the road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from uanref.derivations import Node, Trace
from uanref.stepping.road import LOSS, WEIGHTS, stand_in, with_loss


def with_its_loss(trace: Trace) -> Trace:
    r"""Return a trace whose last node is the loss.

    Where the derivation does not end in a loss, the stand-in :math:`L = \sum g\, y` and its weights g join the nodes,
    dL/dL is 1, and the output's gradient has one contribution, the loss's. Else, and where nothing goes back, it is the
    trace itself.
    """
    loss = stand_in(trace.derivation)
    if loss is None:
        return trace
    derivation = with_loss(trace.derivation, loss)
    output = trace[trace.derivation.output.name]
    nodes = {
        **trace.nodes,
        output.name: replace(output, contributions={LOSS: trace.upstream}),
        WEIGHTS: Node(derivation.node(WEIGHTS), trace.upstream, None, {}, None),
        LOSS: Node(loss, np.asarray(np.sum(trace.upstream * output.value)), np.ones(()), {}, None),
    }
    in_order = {node.name: nodes[node.name] for node in derivation.nodes}
    return Trace(derivation, trace.sizes, in_order, np.ones(()))
