"""Which slips of the pen an expression allows, and how each is told in plain words.

A flipped sign, a dropped term, factor or divisor, a multiplication for a division, a sum that is missing or became a
mean, a forgotten function, a wrong one of two values of the same shape: this project's choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from uanref.derivations.expressions import Expression, as_expression, mean, ref, sum_

FUNCTIONS = ("exp", "log", "sqrt", "square", "sigmoid", "softplus", "step", "softmax")
"""Primitives whose value has its argument's shape, so that forgetting them goes unnoticed."""

Slip = tuple[str, Expression]


def slips(whole: Expression, same_axes: Mapping[str, Sequence[str]]) -> Iterator[Slip]:
    """Yield every single slip of an expression: what was done, in plain words, and the wrong expression.

    Args:
        whole: a local backward rule.
        same_axes: for each name that it refers to, which other values could stand in its place.
    """
    yield "sign flipped", _negated(whole)
    yield from _inside(whole, same_axes, product=False)


def _inside(node: Expression, same_axes: Mapping[str, Sequence[str]], product: bool) -> Iterator[Slip]:
    """Yield the slips at a node and below it; ``product``: whether it is a part of a product that was seen whole."""
    yield from _of_sum(node)
    if not product:
        yield from _of_product(node)
    yield from _of_division(node)
    yield from _over_axes(node)
    if node.op in FUNCTIONS:
        yield f"{node.op} forgotten", node.args[0]
    if node.op == "neg":
        yield f"sign of {_plain(node.args[0])} flipped", node.args[0]
    if node.op == "ref":
        yield from ((f"{other} instead of {node.options[0]}", ref(other)) for other in same_axes[node.options[0]])
    for place, arg in enumerate(node.args):
        same_product = node.op in ("mul", "neg") or (node.op == "div" and place == 0)
        for description, wrong in _inside(arg, same_axes, same_product):
            yield description, replace(node, args=(*node.args[:place], wrong, *node.args[place + 1 :]))


def _of_sum(node: Expression) -> Iterator[Slip]:
    """A term of ``a + b`` or ``a - b`` dropped, or the second one's sign flipped."""
    if node.op in ("add", "sub"):
        left, right = node.args
        yield f"the term {_plain(left)} dropped", right if node.op == "add" else -right
        yield f"the term {_plain(right)} dropped", left
        yield f"sign of the term {_plain(right)} flipped", left - right if node.op == "add" else left + right


def _of_product(node: Expression) -> Iterator[Slip]:
    """A factor dropped: of ``2 a b / c``, one of 2, a and b."""
    for factor, rest in _without_a_factor(node):
        if rest is not None and rest.names():  # else nothing is left but numbers
            yield f"the factor {_plain(factor)} dropped", rest


def _without_a_factor(node: Expression) -> Iterator[tuple[Expression, Expression | None]]:
    """Yield each factor of a product and the product without it, None if it was the only one."""
    if node.op == "mul":
        left, right = node.args
        for factor, rest in _without_a_factor(left):
            yield factor, right if rest is None else rest * right
        for factor, rest in _without_a_factor(right):
            yield factor, left if rest is None else left * rest
    elif node.op == "div":
        for factor, rest in _without_a_factor(node.args[0]):
            yield factor, (as_expression(1) if rest is None else rest) / node.args[1]
    elif node.op == "neg":
        for factor, rest in _without_a_factor(node.args[0]):
            yield factor, None if rest is None else -rest
    else:
        yield node, None


def _of_division(node: Expression) -> Iterator[Slip]:
    if node.op == "div":
        left, right = node.args
        yield f"the divisor {_plain(right)} dropped", left
        yield f"multiplied by {_plain(right)} instead of divided", left * right


def _over_axes(node: Expression) -> Iterator[Slip]:
    """A sum without one of its axes, or with a mean over it; a mean likewise; a number of elements without an axis."""
    for axis in node.options if node.op in ("sum", "mean", "count") else ():
        others = tuple(other for other in node.options if other != axis)
        if node.op == "count":
            if others:
                yield f"the count {_plain(node)} without {axis.upper()}", replace(node, options=others)
            continue
        (arg,) = node.args
        wrong, name = (mean(arg, axis), "mean") if node.op == "sum" else (sum_(arg, axis), "sum")
        yield f"{node.op} over {axis} missing", replace(node, options=others) if others else arg
        yield (
            f"{name} over {axis} instead of the {node.op}",
            replace(node, args=(wrong,), options=others) if others else wrong,
        )


def _negated(node: Expression) -> Expression:
    """Return ``-node``, without a double sign."""
    bare = _without_sign(node)
    return -node if bare is None else bare


def _without_sign(node: Expression) -> Expression | None:
    """Return the node without a minus before it, before a factor of it or inside its sum; None if there is none."""
    if node.op == "neg":
        return node.args[0]
    if node.op in ("mul", "div", "sum", "mean"):
        for place, arg in enumerate(node.args):
            bare = _without_sign(arg)
            if bare is not None:
                return replace(node, args=(*node.args[:place], bare, *node.args[place + 1 :]))
    return None


# --- how they are described -------------------------------------------------------------------------


def _plain(node: Expression) -> str:
    """Return an expression as a reader would type it, by the values' names: ``2 * centred * dsquared``."""
    signs = {"add": " + ", "sub": " - ", "mul": " * ", "div": " / "}
    if node.op == "ref":
        name: str = node.options[0]
        return "d" + name.removeprefix("d_") if name.startswith("d_") else name
    if node.op == "number":
        return f"{node.options[0]:g}"
    if node.op == "count":
        return " ".join(axis.upper() for axis in node.options)
    if node.op == "neg":
        return f"-{_plain(node.args[0])}"
    if node.op in signs:
        return signs[node.op].join(
            f"({_plain(arg)})" if arg.op in ("add", "sub") or (node.op == "div" and arg.op == "div") else _plain(arg)
            for arg in node.args
        )
    over = f" over {', '.join(node.options)}" if node.options else ""
    return f"{node.op}({', '.join(_plain(arg) for arg in node.args)}{over})"
