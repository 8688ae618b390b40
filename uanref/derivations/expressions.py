r"""What a derivation's equations are made of: expressions over a closed set of primitives, on arrays with named axes.

An axis has a name instead of a position, as an index has in mathematics: :math:`x_{mc}\, \gamma_c` is
``x * gamma`` for ``x`` with axes ``(m, c)`` and ``gamma`` with the axis ``(c,)``, and a sum over m is ``sum_(x, "m")``.
Arrays broadcast by name, so no shape has to be bent.

An :class:`Expression` is data: a nested list that :func:`evaluate` interprets here, and that the explorer's page
interprets in the reader's browser. The primitives, this project's choice:

================  ====================================================================================
leaves            ``ref`` (a value by its name), ``number``, ``count`` (the product of axes' sizes)
of one value      ``neg``, ``exp``, ``log``, ``sqrt``, ``square``, ``sigmoid``, ``softplus``, ``step`` (1 where > 0)
of two values     ``add``, ``sub``, ``mul``, ``div``, ``maximum``
over axes         ``sum``, ``mean``, ``max``, ``softmax``, ``logsumexp``
of images         ``patches``, ``fold``
================  ====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from uanref.backend import Array


class Named(NamedTuple):
    """An array whose axes have names.

    Attributes:
        axes: one name per axis, all different.
        array: float64.
    """

    axes: tuple[str, ...]
    array: Array

    def along(self, axes: tuple[str, ...]) -> Array:
        """Return the array with exactly ``axes``, in this order; missing ones have length 1.

        Raises:
            ValueError: the array has an axis that is not among ``axes``.
        """
        extra = [axis for axis in self.axes if axis not in axes]
        if extra:
            raise ValueError(f"a value with axes {self.axes} has no place in axes {axes}: sum over {extra} first")
        order = [self.axes.index(axis) for axis in axes if axis in self.axes]
        turned = self.array.transpose(order)
        return turned[tuple(slice(None) if axis in self.axes else None for axis in axes)]


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
    """The patches of images: ``(n, i, h, w) -> (n, i, u, v, p, q)`` with ``h = p + u`` and ``w = q + v``.

    The sizes of u and v are the kernel's.
    """
    return Expression("patches", (x,))


def fold(p: Expression) -> Expression:
    """The transpose of :func:`patches`: every pixel adds up its entries, ``(n, i, u, v, p, q) -> (n, i, h, w)``."""
    return Expression("fold", (p,))


# --- what they mean -----------------------------------------------------------------------------


def evaluate(expression: Expression, values: Mapping[str, Named], sizes: Mapping[str, int]) -> Named:
    """Return the value of ``expression``.

    Args:
        expression: what to evaluate.
        values: the values that it refers to, by name.
        sizes: each axis's length.

    Raises:
        KeyError: it refers to a name that is not there, or has an unknown primitive.
        ValueError: axes that do not fit.
    """
    if expression.op == "ref":
        return values[expression.options[0]]
    if expression.op == "number":
        return Named((), np.asarray(expression.options[0], dtype=np.float64))
    if expression.op == "count":
        return Named((), np.asarray(math.prod(sizes[axis] for axis in expression.options), dtype=np.float64))
    args = [evaluate(arg, values, sizes) for arg in expression.args]
    if expression.op in ELEMENTWISE:
        return _elementwise(ELEMENTWISE[expression.op], args)
    if expression.op in OVER_AXES:
        return _over_axes(OVER_AXES[expression.op], args[0], expression.options, sizes)
    if expression.op in OVER_ONE_AXIS:
        return OVER_ONE_AXIS[expression.op](args[0], expression.options[0])
    return OF_IMAGES[expression.op](args[0], sizes)


def _elementwise(function: Callable[..., Array], args: list[Named]) -> Named:
    axes = tuple(dict.fromkeys(axis for arg in args for axis in arg.axes))
    return Named(axes, function(*(arg.along(axes) for arg in args)))


def _over_axes(function: Callable[..., Array], x: Named, axes: tuple[str, ...], sizes: Mapping[str, int]) -> Named:
    # A value without an axis is the same at every place of it: its sum over the axis counts the places.
    held = tuple(dict.fromkeys((*x.axes, *axes)))
    shape = tuple(sizes[axis] if axis in axes else x.array.shape[x.axes.index(axis)] for axis in held)
    wide = np.broadcast_to(x.along(held), shape)
    left = tuple(axis for axis in held if axis not in axes)
    return Named(left, function(wide, axis=tuple(held.index(axis) for axis in axes)))


def _softmax(x: Named, axis: str) -> Named:
    place = x.axes.index(axis)
    e = np.exp(x.array - x.array.max(axis=place, keepdims=True))
    return Named(x.axes, e / e.sum(axis=place, keepdims=True))


def _logsumexp(x: Named, axis: str) -> Named:
    place = x.axes.index(axis)
    top = x.array.max(axis=place, keepdims=True)
    total = np.log(np.exp(x.array - top).sum(axis=place)) + top.squeeze(place)
    return Named(tuple(a for a in x.axes if a != axis), total)


def _patches(x: Named, sizes: Mapping[str, int]) -> Named:
    others, image = _split_image(x, ("h", "w"))
    windows = np.lib.stride_tricks.sliding_window_view(image, (sizes["u"], sizes["v"]), axis=(-2, -1))
    return Named((*others, "p", "q", "u", "v"), windows)


def _fold(p: Named, sizes: Mapping[str, int]) -> Named:
    others, entries = _split_image(p, ("u", "v", "p", "q"))
    entries = np.broadcast_to(entries, (*entries.shape[:-4], *(sizes[axis] for axis in "uvpq")))
    image = np.zeros((*entries.shape[:-4], sizes["h"], sizes["w"]))
    down, across = entries.shape[-2:]
    for u in range(sizes["u"]):
        for v in range(sizes["v"]):
            image[..., u : u + down, v : v + across] += entries[..., u, v, :, :]
    return Named((*others, "h", "w"), image)


def _split_image(x: Named, last: tuple[str, ...]) -> tuple[tuple[str, ...], Array]:
    others = tuple(axis for axis in x.axes if axis not in last)
    return others, x.along((*others, *last))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    y: Array = np.where(x >= 0, 1.0, e) / (1.0 + e)
    return y


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "step": lambda x: (x > 0).astype(np.float64),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
}
OVER_AXES: dict[str, Callable[..., Array]] = {"sum": np.sum, "mean": np.mean, "max": np.max}
OVER_ONE_AXIS: dict[str, Callable[[Named, str], Named]] = {"softmax": _softmax, "logsumexp": _logsumexp}
OF_IMAGES: dict[str, Callable[[Named, Mapping[str, int]], Named]] = {"patches": _patches, "fold": _fold}
LEAVES = ("ref", "number", "count")
PRIMITIVES = (*LEAVES, *ELEMENTWISE, *OVER_AXES, *OVER_ONE_AXIS, *OF_IMAGES)
"""The names of all primitives: what a second interpreter has to implement."""
