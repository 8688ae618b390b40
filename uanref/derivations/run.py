r"""A derivation run on numbers: its inputs checked, forward, backward from an upstream gradient, and proven.

A value that several steps use adds up what each of them sends back,

.. math:: d_a = \sum_{b \text{ uses } a} \frac{\partial b}{\partial a}^{\!\top} d_b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from uanref.backend import Array, shape_text
from uanref.derivations.expressions import gradient_name
from uanref.derivations.primitives import Named, evaluate
from uanref.derivations.proofs import proofs
from uanref.derivations.steps import Step, is_constant
from uanref.derivations.traces import Node, Trace

if TYPE_CHECKING:
    from uanref.derivations.derivation import Derivation


def run(
    derivation: Derivation,
    inputs: Mapping[str, Array] | None,
    upstream: Array | None,
    *,
    seed: int,
    steps: Mapping[str, Step],
    numerical: bool,
) -> Trace:
    """Run a derivation; arguments and errors are those of ``Derivation.trace``.

    Raises:
        ValueError: an upstream gradient that is no array of finite numbers of the output's shape; and as told there.
    """
    given = derivation.example(seed) if inputs is None else inputs
    values, sizes = _checked(derivation, given)
    with np.errstate(all="ignore"):  # numbers outside an equation's domain show as nan and inf
        values = derivation.forward(values, sizes)
    shape = tuple(sizes[axis] for axis in derivation.output.axes)
    if upstream is None:
        # A single number is a loss: dL/dL = 1. Else ones would hide mistakes.
        upstream = np.random.default_rng([seed, 1]).standard_normal(shape) if shape else np.ones(shape)
    upstream = np.asarray(upstream)
    if upstream.dtype.kind not in "fiu" or upstream.shape != shape:
        raise ValueError(
            f"the upstream gradient of {derivation.output.name} must be an array of numbers with axes "
            f"({', '.join(derivation.output.axes)}) and shape {shape_text(shape)}, got {upstream.dtype} of shape "
            f"{shape_text(upstream.shape)}"
        )
    upstream = upstream.astype(np.float64)
    if not np.isfinite(upstream).all():
        raise ValueError(f"the upstream gradient of {derivation.output.name} has entries that are not finite")
    dy = Named(derivation.output.axes, upstream)
    with np.errstate(all="ignore"):
        gradients, contributions = _way_back(derivation, values, sizes, dy, steps)
        proven = proofs(derivation, values, sizes, dy) if numerical and not derivation.forward_only else {}
    nodes = {}
    for node in derivation.nodes:
        nodes[node.name] = Node(
            definition=node,
            value=values[node.name].along(node.axes),
            gradient=None if derivation.forward_only or is_constant(node) else gradients[node.name].along(node.axes),
            contributions={user: part.along(node.axes) for user, part in contributions[node.name].items()},
            numerical=proven[node.name][0] if node.name in proven else None,
            doubt=proven[node.name][1] if node.name in proven else None,
        )
    return Trace(derivation, sizes, nodes, upstream)


def _way_back(
    derivation: Derivation,
    values: Mapping[str, Named],
    sizes: Mapping[str, int],
    dy: Named,
    replaced: Mapping[str, Step],
) -> tuple[dict[str, Named], dict[str, dict[str, Named]]]:
    """Return each value's gradient, and what each of its users contributed, from dL/d(output) ``dy``.

    ``replaced``: steps by name whose way back is taken instead of the derivation's own.
    """
    contributions: dict[str, dict[str, Named]] = {node.name: {} for node in derivation.nodes}
    gradients: dict[str, Named] = {}
    for node in reversed(derivation.nodes):
        shape = tuple(sizes[axis] for axis in node.axes)
        total = np.zeros(shape)
        for part in contributions[node.name].values():
            total = total + part.array
        gradients[node.name] = dy if node is derivation.output else Named(node.axes, total)
        if isinstance(node, Step):
            # 1. What this step's local rules may refer to: all values, and its own gradient.
            known = {**values, gradient_name(node.name): gradients[node.name]}
            # 2. One rule per input that is no constant; a factor without an axis is the same all along it.
            for name, local in replaced.get(node.name, node).backward.items():
                target = derivation.node(name)
                if is_constant(target):
                    continue
                made = evaluate(local.expression, known, sizes).along(target.axes)
                wide = np.broadcast_to(made, tuple(sizes[axis] for axis in target.axes))
                contributions[name][node.name] = Named(target.axes, wide)
    return gradients, contributions


def _checked(derivation: Derivation, given: Mapping[str, Array]) -> tuple[dict[str, Named], dict[str, int]]:
    """Return the inputs with their axes, and the axes' sizes; raise if anything does not fit."""
    names = [node.name for node in derivation.inputs]
    missing, unknown = [n for n in names if n not in given], sorted(set(given) - set(names))
    if missing or unknown:
        raise ValueError(
            f"{derivation.name} takes the inputs {', '.join(names)}: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}"
        )
    sizes: dict[str, int] = {}
    values = {}
    for node in derivation.inputs:
        array = np.asarray(given[node.name])
        if array.dtype.kind not in "fiu" or array.ndim != len(node.axes) or array.size == 0:
            raise ValueError(
                f"{derivation.name}: input {node.name} must be a non-empty array of numbers with axes "
                f"({', '.join(node.axes)}), got {array.dtype} of shape {shape_text(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{derivation.name}: input {node.name} has entries that are not finite")
        for axis, size in zip(node.axes, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"{derivation.name}: input {node.name} of shape {shape_text(array.shape)} has {size} along axis "
                    f"{axis!r}, but earlier inputs have {sizes[axis]}: make them equal"
                )
        values[node.name] = Named(node.axes, array.astype(np.float64))
    return values, derivation.with_derived_sizes(sizes)
