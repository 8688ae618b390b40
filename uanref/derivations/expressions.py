r"""What a derivation's equations are written with: expressions over a closed set of primitives.

An axis has a name instead of a position, as an index has in mathematics: :math:`x_{mc}\, \gamma_c` is
``x * gamma`` for ``x`` with axes ``(m, c)`` and ``gamma`` with the axis ``(c,)``, and a sum over m is ``sum_(x, "m")``.
Arrays broadcast by name, so no shape has to be bent.

An :class:`Expression` is data: a nested list that :func:`uanref.derivations.primitives.evaluate` interprets, and that
the explorer's page interprets in the reader's browser. The primitives, this project's choice:

================  ====================================================================================
leaves            ``ref`` (a value by its name), ``number``, ``count`` (the product of axes' sizes)
of one value      ``neg``, ``exp``, ``log``, ``sqrt``, ``square``, ``sigmoid``, ``softplus``, ``step`` (1 where > 0)
of two values     ``add``, ``sub``, ``mul``, ``div``, ``maximum``
over axes         ``sum``, ``mean``, ``max``, ``softmax``, ``logsumexp``
of images         ``patches``, ``fold``
================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expression:
    """One node of an expression: a primitive and what it is applied to.

    Built with the operators ``+ - * /`` and unary ``-`` and with this module's functions; Python numbers may stand
    where a value may.

    Attributes:
        op: the primitive.
        args: its values.
        options: what else it needs: a name, a number, axes.
    """

    op: str
    args: tuple[Expression, ...] = ()
    options: tuple[Any, ...] = ()

    def __add__(self, other: Expression | float) -> Expression:
        return Expression("add", (self, as_expression(other)))

    def __radd__(self, other: float) -> Expression:
        return Expression("add", (as_expression(other), self))

    def __sub__(self, other: Expression | float) -> Expression:
        return Expression("sub", (self, as_expression(other)))

    def __rsub__(self, other: float) -> Expression:
        return Expression("sub", (as_expression(other), self))

    def __mul__(self, other: Expression | float) -> Expression:
        return Expression("mul", (self, as_expression(other)))

    def __rmul__(self, other: float) -> Expression:
        return Expression("mul", (as_expression(other), self))

    def __truediv__(self, other: Expression | float) -> Expression:
        return Expression("div", (self, as_expression(other)))

    def __rtruediv__(self, other: float) -> Expression:
        return Expression("div", (as_expression(other), self))

    def __neg__(self) -> Expression:
        return Expression("neg", (self,))

    def names(self) -> set[str]:
        """Return the names of the values that it refers to."""
        return {node.options[0] for node in self.walk() if node.op == "ref"}

    def walk(self) -> Iterator[Expression]:
        """Yield this node and all below it."""
        yield self
        for arg in self.args:
            yield from arg.walk()

    def as_list(self) -> list[Any]:
        """Return it as nested lists that JSON can hold: ``[op, [options], arg, ...]``."""
        return [self.op, list(self.options), *(arg.as_list() for arg in self.args)]


def as_expression(value: Expression | float) -> Expression:
    """Return ``value``, a number turned into a ``number`` leaf."""
    return value if isinstance(value, Expression) else Expression("number", (), (float(value),))


# --- how expressions are written ----------------------------------------------------------------


def ref(name: str) -> Expression:
    """The value called ``name``."""
    return Expression("ref", (), (name,))


def d(name: str) -> Expression:
    """The gradient of the loss with respect to the value called ``name``: dL/d(name)."""
    return ref(gradient_name(name))


def gradient_name(name: str) -> str:
    """Under which name a value's gradient stands: ``"d_" + name``."""
    return f"d_{name}"


def count(*axes: str) -> Expression:
    """The number of elements along ``axes``."""
    return Expression("count", (), axes)


def exp(x: Expression) -> Expression:
    """The exponential."""
    return Expression("exp", (x,))


def log(x: Expression) -> Expression:
    """The natural logarithm."""
    return Expression("log", (x,))


def sqrt(x: Expression) -> Expression:
    """The square root."""
    return Expression("sqrt", (x,))


def square(x: Expression) -> Expression:
    """The square."""
    return Expression("square", (x,))


def sigmoid(x: Expression) -> Expression:
    """``1 / (1 + exp(-x))``."""
    return Expression("sigmoid", (x,))


def softplus(x: Expression) -> Expression:
    """``log(1 + exp(x))``."""
    return Expression("softplus", (x,))


def step(x: Expression) -> Expression:
    """1 where x > 0, else 0."""
    return Expression("step", (x,))


def maximum(x: Expression, y: Expression | float) -> Expression:
    """The larger of two values."""
    return Expression("maximum", (x, as_expression(y)))


def sum_(x: Expression, *axes: str) -> Expression:
    """The sum over ``axes``. A value without an axis is the same all along it and counts once per place."""
    return Expression("sum", (x,), axes)


def mean(x: Expression, *axes: str) -> Expression:
    """The mean over ``axes``."""
    return Expression("mean", (x,), axes)


def max_(x: Expression, *axes: str) -> Expression:
    """The maximum over ``axes``."""
    return Expression("max", (x,), axes)


def softmax(x: Expression, axis: str) -> Expression:
    """``exp(x) / sum exp(x)`` over one axis."""
    return Expression("softmax", (x,), (axis,))


def logsumexp(x: Expression, axis: str) -> Expression:
    """``log sum exp(x)`` over one axis, which disappears."""
    return Expression("logsumexp", (x,), (axis,))


def patches(x: Expression) -> Expression:
    """The patches of images: ``(n, i, h, k) -> (n, i, u, v, p, q)`` with ``h = p + u`` and ``k = q + v``.

    The sizes of u and v are the kernel's.
    """
    return Expression("patches", (x,))


def fold(p: Expression) -> Expression:
    """The transpose of :func:`patches`: every pixel adds up its entries, ``(n, i, u, v, p, q) -> (n, i, h, k)``."""
    return Expression("fold", (p,))
