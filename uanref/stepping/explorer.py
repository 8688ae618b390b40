"""``uanref explore``: a derivation as one self-contained HTML page that is opened by a double click.

The page holds the exported trace (:mod:`uanref.stepping.export`), the list of mistakes, and the scripts of
``uanref/stepping/page``. It needs no network, and its content security policy allows none. Without JavaScript it is
the graph and a table of all nodes.
"""

from __future__ import annotations

import json
import os
import string
import tempfile
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from uanref.backend import Array
from uanref.derivations.expressions import Expression, exp, ref
from uanref.derivations.mistakes import mistakes
from uanref.derivations.staged import Derivation, Trace
from uanref.stepping.export import exported
from uanref.stepping.layout import layout
from uanref.stepping.markup import TOLERANCE, error_text, graph, nodes_table

MOST_NUMBERS = 4000
"""How many entries all values of a page may have together: beyond it nothing can be read any more."""

SCRIPTS = (
    "primitives.js",
    "derivation.js",
    "dom.js",
    "store.js",
    "arrays.js",
    "graph.js",
    "node.js",
    "quiz.js",
    "mistakes.js",
    "collapse.js",
    "mixture.js",
    "explorer.js",
)

# The ways of a value to the loss, where they have names: a way is a list of hops "user" or "user/user's user".
# Local rules are linear in the gradient, so that a gradient can be split by where it came from two hops ago.
MOMENTS = {"directly": ["centred/x_hat"], "through the mean": ["mu"], "through the variance": ["centred/squared"]}
WAYS: dict[str, dict[str, dict[str, list[str]]]] = {
    "softmax-cross-entropy": {"z": {"directly": ["log_p"], "through the sum over the classes": ["log_total"]}},
    "bn": {"x": MOMENTS},
    "layer-norm": {"x": MOMENTS},
    "uan": {
        "x": {
            "directly": ["centred/x_hat"],
            "through the moments": ["moment", "centred/moment_variance"],
            "through the posterior": ["offset"],
        }
    },
    "uan-learned": {"x": {"directly": ["centred"], "through the posterior": ["offset"]}},
}


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
    data = page_data(trace)
    told = data["derivation"]
    folder = resources.files("uanref.stepping") / "page"
    return string.Template((folder / "page.html").read_text("utf-8")).substitute(
        title=escape(derivation.title),
        summary=escape(derivation.summary),
        layer=_layer(derivation),
        verdict=escape(_verdict(trace)),
        css=(folder / "page.css").read_text("utf-8"),
        graph=graph(told, layout(derivation)),
        nodes=nodes_table(told),
        data=embedded(data),
        scripts="\n".join(f"<script>\n{(folder / name).read_text('utf-8')}</script>" for name in SCRIPTS),
    )


def write(path: str | os.PathLike[str], text: str, force: bool = False) -> None:
    """Write a page: into a temporary file beside it, which then takes its name, so that no half page is left.

    Args:
        path: of the page.
        text: what :func:`page` returned.
        force: whether an existing file may be replaced.

    Raises:
        FileExistsError: there is a file and ``force`` is False.
        OSError: the folder does not exist or cannot be written, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or overwrite it with --force")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it first")
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise OSError(f"the folder {path.parent} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # mkstemp's files are the owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def page_data(trace: Trace) -> dict[str, Any]:
    """Return what the page's scripts work on.

    Returns:
        ``derivation`` (:func:`~uanref.stepping.export.exported`), ``tolerance`` of the proofs, ``mistakes`` (each
        ``id``, ``step``, ``input``, ``description``, ``expression``), ``ways`` (of a value to the loss, by name) and
        ``mixture`` (the one-dimensional view; None for a derivation without components).
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
            }
            for mistake in found
        ],
        "ways": WAYS.get(derivation.name, {}),
        "mixture": mixture(derivation),
    }


def mixture(derivation: Derivation) -> dict[str, Any] | None:
    """Return what the one-dimensional view of a mixture draws, as expressions; None without a mixture.

    Returns:
        ``prior``, ``variance``, ``density`` (of each component), ``total`` and ``posterior``: expressions of the
        derivation's values; ``transform``: the output's name, or None if the output is no function of x to draw;
        ``batch``: 90 activations of two groups, a batch to start with.
    """
    names = {node.name for node in derivation.nodes}
    if not {"log_prior", "spread", "score", "log_total"} <= names:
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
        "transform": derivation.output.name if derivation.output.axes == ("m", "c") else None,
        "batch": np.round(batch, 3).tolist(),
    }


def embedded(data: Any) -> str:
    """Return JSON that is safe inside a ``<script>`` element: nothing in it can end the element or open a comment."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _layer(derivation: Derivation) -> str:
    return f"The layer that computes the same: <code>{escape(derivation.layer)}</code>." if derivation.layer else ""


def _verdict(trace: Trace) -> str:
    proofs = [node.error for node in trace.nodes.values() if node.error is not None]
    if not proofs:
        return "Nothing is differentiated here: there are no gradients to prove."
    return (
        f"Largest relative error of {len(proofs)} gradients against the numerical ones: {error_text(max(proofs))} "
        f"(allowed: {error_text(TOLERANCE, digits=0)})."
    )
