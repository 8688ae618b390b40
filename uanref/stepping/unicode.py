"""Equations for a terminal: an expression written on one line, in Unicode, with parentheses where they are needed.

The text is made from the expression that is evaluated, so it cannot say anything else than what was computed.
"""

from __future__ import annotations

from pylatexenc.latex2text import LatexNodes2Text

from uanref.derivations import Derivation, Input, Step
from uanref.derivations.expressions import Expression, gradient_name

# How strongly an operation binds: what binds less strongly than its surroundings gets parentheses.
SUM, NEGATIVE, PRODUCT, POWER, ATOM = range(5)
FUNCTIONS = {
    "exp": "exp",
    "log": "log",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "step": "step",
    "maximum": "max",
    "patches": "patches",
    "fold": "fold",
}
OVER = {"sum": "Σ", "mean": "mean", "max": "max", "softmax": "softmax", "logsumexp": "logΣexp"}


def equation(step: Step, derivation: Derivation) -> str:
    """Return the step's forward equation, ``x̂_mc = x̄_mc i_c``."""
    return f"{symbol(step)} = {text(step.forward, derivation)}"


def local_equation(step: Step, name: str, derivation: Derivation) -> str:
    """Return the step's way back to its input ``name``, ``dx̄_mc += dx̂_mc i_c``."""
    return f"d{symbol(derivation.node(name))} += {text(step.backward[name].expression, derivation)}"


def symbol(node: Input | Step) -> str:
    """Return a value's symbol with its axes as indices: ``σ̄²_kc``."""
    indices = "".join(node.axes)
    return plain(node.symbol) + (f"_{indices}" if indices else "")


def plain(latex: str) -> str:
    r"""Return a symbol's LaTeX in Unicode: ``\hat x`` as x̂."""
    made: str = LatexNodes2Text().latex_to_text(latex)
    return made.replace("^2", "²").replace("ϵ", "ε").strip()


def text(expression: Expression, derivation: Derivation) -> str:
    """Return ``expression`` on one line; values stand as their symbols in ``derivation``."""
    return _written(expression, derivation)[0]


def _written(node: Expression, derivation: Derivation) -> tuple[str, int]:
    """Return the text and how strongly it binds."""
    if node.op == "ref":
        return _name(node.options[0], derivation), ATOM
    if node.op == "number":
        value = node.options[0]
        return f"{value:g}", ATOM if value >= 0 else NEGATIVE
    if node.op == "count":
        return "·".join(axis.upper() for axis in node.options), ATOM if len(node.options) == 1 else PRODUCT
    args = [_written(arg, derivation) for arg in node.args]
    if node.op in ("add", "sub"):
        sign = " + " if node.op == "add" else " - "
        plain_sum = node.op == "add" and not args[1][0].startswith("-")
        return args[0][0] + sign + _at_least(args[1], SUM if plain_sum else PRODUCT), SUM
    if node.op in ("mul", "div"):
        left = _at_least(args[0], NEGATIVE)
        strength = NEGATIVE if left.startswith("-") else PRODUCT
        if node.op == "div":
            return f"{left} / {_at_least(args[1], POWER)}", strength
        # A blank is the product, except where it could be read as a longer denominator, or between numbers.
        visible = node.args[0].op == "div" or node.args[1].op == "number"
        return left + (" · " if visible else " ") + _at_least(args[1], PRODUCT), strength
    if node.op == "neg":
        return "-" + _at_least(args[0], PRODUCT), NEGATIVE
    if node.op == "square":
        return _at_least(args[0], ATOM) + "²", POWER
    if node.op == "sqrt":
        return "√" + _at_least(args[0], ATOM), POWER
    if node.op in OVER:
        axes = "".join(node.options)
        return f"{OVER[node.op]}_{axes}({args[0][0]})", ATOM
    return f"{FUNCTIONS[node.op]}({', '.join(arg[0] for arg in args)})", ATOM


def _at_least(written: tuple[str, int], strength: int) -> str:
    return written[0] if written[1] >= strength else f"({written[0]})"


def _name(name: str, derivation: Derivation) -> str:
    for node in derivation.nodes:
        if name == node.name:
            return symbol(node)
        if name == gradient_name(node.name):
            return "d" + symbol(node)
    raise KeyError(f"{derivation.name} has no value {name!r}")
