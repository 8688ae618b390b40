"""What a reader gives on the command line: sizes of axes, and arrays from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uanref import npz
from uanref.backend import Array, shape_text
from uanref.derivations import Derivation

LARGEST = 1000
"""How many entries a value may have: every one of them is moved to prove its gradient, and shown."""

MOST_DIGITS = 20
"""How many digits the length of an axis may be written with: Python refuses to read thousands."""

LARGEST_FILE = 1 << 24
"""How many bytes the arrays of a file may have: far more than can be shown, so that a sentence can name the array."""


def sizes_from(text: Sequence[str], derivation: Derivation) -> dict[str, int]:
    """Return axes' lengths from texts such as ``"m=6"`` or ``"m=6,k=2"``.

    Raises:
        ValueError: not of this form, an axis that the derivation lacks or derives, or a length out of range.
    """
    given_axes = dict.fromkeys(axis for node in derivation.inputs for axis in node.axes)
    known = ", ".join(f"{axis} ({derivation.axes[axis]})" for axis in given_axes)
    found: dict[str, int] = {}
    for entry in (part.strip() for piece in text for part in piece.split(",")):
        axis, equals, length = entry.partition("=")
        digits = length.strip()
        if not equals or not digits.isdecimal() or not 0 < len(digits) <= MOST_DIGITS or int(digits) < 1:
            raise ValueError(f"a size is written axis=length, such as m=6, got {entry[:60]!r}")
        if axis.strip() not in given_axes:
            raise ValueError(f"{derivation.name} has no axis {axis.strip()!r} to size: it has {known}")
        found[axis.strip()] = int(digits)
    return found


def inputs_from(
    derivation: Derivation, file: Path | None, sizes: dict[str, int], seed: int
) -> tuple[dict[str, Array], Array | None]:
    """Return a derivation's inputs and its upstream gradient (None: to be drawn).

    Args:
        derivation: whose inputs.
        file: an ``.npz`` with one array per input and, if wanted, ``upstream``; None draws an example. Inputs that
            are settings (eps) may be left out. No pickle is read.
        sizes: lengths of axes for an example; they do not go with a file.
        seed: of an example.

    Raises:
        ValueError: a file that is none such, that lacks an array or has an unknown one; sizes beside a file; more
            than :data:`LARGEST` entries in a value.
        OSError: the file cannot be read.
    """
    if file is None:
        _check_extent(derivation, {**derivation.sizes, **sizes})  # before anything is drawn
        return derivation.example(seed, **sizes), None
    if sizes:
        raise ValueError(f"the arrays of {file} have their sizes already: leave out --size")
    inputs, upstream = _loaded(derivation, file, seed)
    shapes = {node.axes: np.shape(inputs[node.name]) for node in derivation.inputs}
    _check_extent(derivation, {axis: n for axes, shape in shapes.items() for axis, n in zip(axes, shape, strict=False)})
    return inputs, upstream


def _loaded(derivation: Derivation, file: Path, seed: int) -> tuple[dict[str, Array], Array | None]:
    try:
        found = npz.read(file, LARGEST_FILE)
    except npz.NpzError as error:
        raise ValueError(f"{file} is no .npz file of plain arrays (it {error}): write it with numpy.savez") from None
    upstream = found.pop("upstream", None)
    example = derivation.example(seed)
    settings = {node.name: example[node.name] for node in derivation.inputs if node.constant and not node.axes}
    wanted = [node.name for node in derivation.inputs]
    missing = [name for name in wanted if name not in found and name not in settings]
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown:
        listing = ", ".join(f"{node.name} ({', '.join(node.axes)})" for node in derivation.inputs)
        raise ValueError(
            f"{file} does not fit {derivation.name}: missing {', '.join(missing) or 'nothing'}, "
            f"unknown {', '.join(unknown[:10]) or 'nothing'}; the inputs are {listing}, and upstream if you like"
        )
    return {**settings, **found}, upstream


def _check_extent(derivation: Derivation, sizes: dict[str, int]) -> None:
    lengths = derivation.with_derived_sizes(sizes)
    for node in derivation.nodes:
        shape = tuple(lengths.get(axis, 1) for axis in node.axes)
        if math.prod(shape) > LARGEST:
            raise ValueError(
                f"the value {node.name} would have shape {shape_text(shape)}, more than {LARGEST} entries to show and "
                "to prove one by one: take smaller sizes"
            )
