"""The mathematics of the layers, told node by node: steps, local backward rules, proofs.

:data:`DERIVATIONS` are all there are; ``find("uan").trace()`` runs one on example numbers. No layer is imported
here: this is the mathematics told a second time, and the tests tie the two together.
"""

from __future__ import annotations

from uanref.derivations.adam import ADAM
from uanref.derivations.batch_norm import BATCH_NORM
from uanref.derivations.batch_norm_eval import BATCH_NORM_EVAL
from uanref.derivations.conv import CONV
from uanref.derivations.derivation import Derivation
from uanref.derivations.gaussian_posterior import GAUSSIAN_POSTERIOR
from uanref.derivations.layer_norm import LAYER_NORM
from uanref.derivations.linear import LINEAR
from uanref.derivations.relu import RELU
from uanref.derivations.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from uanref.derivations.steps import Collapse, Input, Line, Local, Step
from uanref.derivations.traces import Node, Trace
from uanref.derivations.uan import UAN, UAN_LEARNED
from uanref.derivations.uan_shared import UAN_SHARED

DERIVATIONS: tuple[Derivation, ...] = (
    LINEAR,
    RELU,
    CONV,
    SOFTMAX_CROSS_ENTROPY,
    BATCH_NORM,
    BATCH_NORM_EVAL,
    LAYER_NORM,
    GAUSSIAN_POSTERIOR,
    UAN,
    UAN_LEARNED,
    UAN_SHARED,
    ADAM,
)
"""From the simplest to UAN, and one step of an optimizer."""

__all__ = [
    "DERIVATIONS",
    "Collapse",
    "Derivation",
    "Input",
    "Line",
    "Local",
    "Node",
    "Step",
    "Trace",
    "find",
]


def find(name: str) -> Derivation:
    """Return the derivation called ``name``.

    Raises:
        ValueError: there is none; the message lists them.
    """
    for derivation in DERIVATIONS:
        if derivation.name == name:
            return derivation
    raise ValueError(f"unknown derivation {name!r}: expected one of {', '.join(d.name for d in DERIVATIONS)}")
