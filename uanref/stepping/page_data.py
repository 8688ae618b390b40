"""What the explorer's scripts work on: a trace, its mistakes, the ways of a value to the loss, a mixture to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from uanref.derivations import Derivation, Trace
from uanref.derivations.expressions import Expression, exp, ref
from uanref.derivations.mistakes import mistakes
from uanref.stepping.export import exported
from uanref.stepping.loss import with_its_loss
from uanref.stepping.markup import TOLERANCE
from uanref.stepping.single import single
from uanref.stepping.unicode import local_equation

# The ways of a value to the loss, where they have names: a way is a list of hops "user" or "user/user's user".
# Local rules are linear in the gradient, so that a gradient can be split by where it came from two hops ago.
MOMENTS = {"directly": ["centred/x_hat"], "through the mean": ["mu"], "through the variance": ["centred/squared"]}
OF_A_BATCH = {
    "directly": ["centred/x_hat"],
    "through the moments": ["moment", "centred/moment_variance"],
    "through the posterior": ["offset"],
}
WAYS: dict[str, dict[str, dict[str, list[str]]]] = {
    "softmax-cross-entropy": {"z": {"directly": ["log_p"], "through the sum over the classes": ["log_total"]}},
    "bn": {"x": MOMENTS},
    "layer-norm": {"x": MOMENTS},
    "uan": {"x": OF_A_BATCH},
    "uan-learned": {"x": {"directly": ["centred"], "through the posterior": ["offset"]}},
    "uan-shared": {"x": OF_A_BATCH},
}


def page_data(trace: Trace, seed: int = 0) -> dict[str, Any]:
    """Return what the page's scripts work on.

    Args:
        trace: what the page shows.
        seed: of the example and of the upstream gradient.

    Returns:
        ``derivation`` (:func:`~uanref.stepping.export.exported`), ``tolerance`` of the proofs, ``mistakes`` (each
        ``id``, ``step``, ``input``, ``description``, ``expression``, ``text``: the wrong line, as the right one's
        ``text``), ``ways`` (of a value to the loss, by name), ``mixture`` (the one-dimensional view; None for a
        derivation without components) and ``seed``, by which a link knows its page.
    """
    derivation = trace.derivation
    found = [] if derivation.forward_only else mistakes(derivation)
    return {
        "derivation": exported(trace),
        "tolerance": TOLERANCE,
        "mistakes": [
            {
                "id": mistake.id,
                "step": mistake.step,
                "input": mistake.input,
                "description": mistake.description,
                "expression": mistake.replacement.backward[mistake.input].expression.as_list(),
                "text": local_equation(mistake.replacement, mistake.input, derivation),
            }
            for mistake in found
        ],
        "ways": WAYS.get(derivation.name, {}),
        "mixture": mixture(derivation),
        "seed": seed,
    }


def loss_node(trace: Trace, loss: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the loss that stands in for the rest of a network as one more node of the page; None where none does.

    Args:
        trace: what the page shows.
        loss: what :func:`~uanref.stepping.export.exported` tells of it.
    """
    if loss is None:
        return None
    node = with_its_loss(trace)[loss["name"]]
    value, gradient = node.value.tolist(), None if node.gradient is None else node.gradient.tolist()
    return {"kind": "loss", "axes": [], "value": value, "gradient": gradient, "numerical": None, "error": None, **loss}


def mixture(derivation: Derivation) -> dict[str, Any] | None:
    """Return what the one-dimensional view of a mixture draws, as expressions; None without a mixture.

    A prior that all channels share has no such view: one channel is drawn, and its handles would move the others, too.

    Returns:
        ``prior``, ``variance``, ``density`` (of each component), ``total`` and ``posterior``: expressions of the
        derivation's values; ``transform``: the output's name, or None if the output is no function of x to draw;
        ``single``: one Gaussian beside it (:func:`~uanref.stepping.single.single`); ``batch``: 90 activations of two
        groups, a batch to start with.
    """
    names = {node.name for node in derivation.nodes}
    of_one_channel = {"log_prior", "spread", "score", "log_total"} <= names
    if not of_one_channel or derivation.node("log_prior").axes != ("k", "c"):
        return None
    # Bishop 2006, eq. 2.42: the scores leave out the constant that all components share.
    constant = 0.5 * float(np.log(2 * np.pi))
    drawn: dict[str, Expression] = {
        "prior": exp(ref("log_prior")),
        "variance": ref("variance"),
        "density": exp(ref("score") - constant),
        "total": exp(ref("log_total") - constant),
        "posterior": exp(ref("score") - ref("log_total")),
    }
    rng = np.random.default_rng(3)
    batch = np.concatenate([rng.normal(-1.6, 0.6, 50), rng.normal(1.5, 0.9, 40)])
    return {
        **{name: expression.as_list() for name, expression in drawn.items()},
        "single": single(),
        "transform": derivation.output.name if derivation.output.axes == ("m", "c") else None,
        "batch": np.round(batch, 3).tolist(),
    }
