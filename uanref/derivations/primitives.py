"""What the primitives of expressions compute, on arrays whose axes have names.

The page's scripts have the same list in ``stepping/page/primitives.js``; the tests hold each against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from uanref.backend import Array
from uanref.derivations.expressions import Expression


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
    others, image = _split_image(x, ("h", "k"))
    windows = np.lib.stride_tricks.sliding_window_view(image, (sizes["u"], sizes["v"]), axis=(-2, -1))
    return Named((*others, "p", "q", "u", "v"), windows)


def _fold(p: Named, sizes: Mapping[str, int]) -> Named:
    others, entries = _split_image(p, ("u", "v", "p", "q"))
    entries = np.broadcast_to(entries, (*entries.shape[:-4], *(sizes[axis] for axis in "uvpq")))
    image = np.zeros((*entries.shape[:-4], sizes["h"], sizes["k"]))
    down, across = entries.shape[-2:]
    for u in range(sizes["u"]):
        for v in range(sizes["v"]):
            image[..., u : u + down, v : v + across] += entries[..., u, v, :, :]
    return Named((*others, "h", "k"), image)


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
