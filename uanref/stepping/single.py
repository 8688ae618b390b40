"""One Gaussian, as batch normalization sees a channel: what stands dashed beside a mixture."""

from __future__ import annotations

from typing import Any

import numpy as np

from uanref.derivations import Derivation, find
from uanref.derivations.expressions import exp, log, ref, square
from uanref.derivations.steps import Step


def forward_only(derivation: Derivation) -> dict[str, Any]:
    """Return what a page needs to run a derivation forward: its nodes' kinds, names, axes and forward expressions."""
    return {
        "nodes": [
            {"kind": "step", "name": node.name, "axes": list(node.axes), "forward": node.forward.as_list()}
            if isinstance(node, Step)
            else {"kind": "input", "name": node.name, "axes": list(node.axes)}
            for node in derivation.nodes
        ],
    }


def single() -> dict[str, Any]:
    """Return what draws batch normalization's view of a channel, from the derivation ``bn``.

    Returns:
        ``nodes`` (see :func:`forward_only`); ``density``, an expression of their values: a Gaussian of the batch's mean
        and variance; ``transform``, the output's name.
    """
    derivation = find("bn")
    constant = 0.5 * float(np.log(2 * np.pi))
    density = exp(-0.5 * square(ref("x_hat")) - log(ref("std")) - constant)
    return {
        **forward_only(derivation),
        "density": density.as_list(),
        "transform": derivation.output.name,
    }
