"""Splits of a reader's own arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from uanref import backend, npz
from uanref.backend import Array, Generator, shape_text
from uanref.data.files import MAX_CLASSES, DataError
from uanref.data.sets import Dataset, is_small, plain
from uanref.data.splits import Splits, standardized
from uanref.data.values import Values
from uanref.layers.base import number
from uanref.reasons import reason

MAX_BYTES = 1 << 31
"""Largest content, uncompressed, of an ``.npz`` file that :func:`read_npz` accepts: 2 GiB."""


def from_arrays(
    x: Array, y: Array, test: float = 0.2, validation: float = 0.1, rng: Generator | None = None, name: str = "arrays"
) -> Splits:
    """Split and standardize labelled arrays.

    Rows are shuffled. The parts are stratified: each class has its share of each part to within a row, and at least one
    row to train on; where classes have too few rows for that, the rows are drawn whatever their class.

    Args:
        x: vectors (N, D), for the ``"mlp"`` alone, each column standardized; or images (N, H, W) or (N, C, H, W), each
            channel standardized. Real numbers, all finite; they are computed with in float32, and kept as they are
            where that takes less memory.
        y: classes, integers >= 0, shape (N,).
        test: exactly ``round(test * N)`` rows are for the test, 0 < test < 1.
        validation: exactly ``round(validation * N)`` rows for validation; what is left is trained on.
        rng: draws which rows go where, and their order; ``default_rng(0)`` if None.
        name: how messages call the data.

    Raises:
        ValueError: arrays of another kind or shape, NaN, a single class, too few rows; a share out of range.
        TypeError: a share that is no number.
    """
    for share, value in (("test", test), ("validation", validation)):
        number(share, value, 0.0, 1.0, open_low=True)
    x, values = _samples(plain("x", x))
    y = _labels(plain("y", y))
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows but y has {len(y)}: every row needs one label")
    n = len(x)
    sizes = (round(test * n), round(validation * n))
    if min(*sizes, n - sum(sizes)) < 1:
        raise ValueError(
            f"test={test:g} and validation={validation:g} of {n} rows leave {sizes[0]} for the test, {sizes[1]} for "
            f"validation and {n - sum(sizes)} to train on: give more rows or other shares, each part needs one"
        )
    classes = int(y.max()) + 1
    parts = _parts(y, sizes, backend.as_generator(rng))
    train, validated, tested = (Dataset(name, x[part], y[part], classes, values) for part in parts)
    return standardized(name, train, validated, tested)


def read_npz(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    """Return the arrays ``x`` and ``y`` of a file such as ``numpy.savez(path, x=x, y=y)`` writes.

    Raises:
        DataError: it is missing, damaged, too large, lacks one of them, or holds something else than plain numbers.
    """
    path = os.path.expanduser(path)
    try:
        found = npz.read(path, MAX_BYTES)
    except npz.NpzError as error:
        raise DataError(f"{path} {error}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DataError(f"cannot read {path}: {reason(error)}") from None
    if missing := [key for key in ("x", "y") if key not in found]:
        holds = ", ".join(sorted(found)[:10]) or "nothing"
        raise DataError(f"{path} lacks {' and '.join(missing)}, it holds {holds[:200]}: numpy.savez(file, x=x, y=y)")
    return found["x"], found["y"]


def _samples(x: Array) -> tuple[Array, Values | None]:
    """Return (N, D) or (N, C, H, W), float32 or smaller, and what the smaller stands for."""
    if x.dtype.kind not in "fiub":
        raise ValueError(f"x must hold real numbers, got {x.dtype}: convert it, as with x.astype('float32')")
    if x.ndim not in (2, 3, 4):
        raise ValueError(
            f"x must be vectors (N, D) or images (N, H, W) or (N, C, H, W), got shape {shape_text(x.shape)}: reshape it"
        )
    if x.size == 0:
        raise ValueError(f"x of shape {shape_text(x.shape)} holds nothing: a set needs rows")
    if x.dtype.kind == "b":
        x = x.view(np.uint8)
    x = x[:, np.newaxis] if x.ndim == 3 else x
    given, small = x, is_small(x)
    if not small:
        with np.errstate(over="ignore", under="ignore"):  # what becomes infinite is told below
            x = x.astype(np.float32, copy=False)
    if not (np.isfinite(x.min()) and np.isfinite(x.max())):
        first = np.unravel_index(int(np.argmin(np.isfinite(x))), x.shape)
        raise ValueError(f"x must be finite in float32, but row {first[0]} holds {given[first]:g}: clean it")
    return x, Values() if small else None


def _labels(y: Array) -> Array:
    advice = "number the classes 0, 1, 2, ..., as numpy.unique(y, return_inverse=True)[1] does"
    if y.ndim != 1:
        raise ValueError(f"y must have shape (N,), one class for each row, got {shape_text(y.shape)}: reshape it")
    if y.dtype.kind not in "iub":
        raise ValueError(f"y must be integers, got {y.dtype}: {advice}")
    if y.size == 0:
        raise ValueError("y is empty: every row of x needs one label")
    least, largest = int(y.min()), int(y.max())
    if least < 0 or largest >= MAX_CLASSES:
        raise ValueError(f"y must lie in 0 ... {MAX_CLASSES - 1}, but holds {least} ... {largest}: {advice}")
    if least == largest:
        raise ValueError(f"y holds the class {least} alone: there is nothing to tell apart, give at least two")
    return y.astype(np.int64)


def _parts(labels: Array, sizes: tuple[int, int], rng: Generator) -> tuple[Array, Array, Array]:
    """Draw the rows to train on, to validate and to test; the latter two have ``sizes[1]`` and ``sizes[0]``."""
    line = rng.permutation(len(labels))
    per_class = np.bincount(labels)
    tested = _apportioned(sizes[0], per_class, np.maximum(per_class - 1, 0))
    validated = None if tested is None else _apportioned(sizes[1], per_class, np.maximum(per_class - tested - 1, 0))
    if tested is None or validated is None:
        return line[sum(sizes) :], line[sizes[0] : sum(sizes)], line[: sizes[0]]
    line = line[np.argsort(labels[line], kind="stable")]  # class by class, random within each
    starts = np.cumsum(per_class) - per_class
    of = labels[line]
    rank = np.arange(len(line)) - starts[of]
    is_tested = rank < tested[of]
    is_trained = rank >= (tested + validated)[of]
    masks = (is_trained, ~(is_tested | is_trained), is_tested)
    train, validation, test = (rng.permutation(line[mask]) for mask in masks)
    return train, validation, test


def _apportioned(seats: int, sizes: Array, most: Array) -> Array | None:
    """Return how many of ``seats`` each class gets, in proportion to ``sizes``, at most ``most``; None if too few."""
    if most.sum() < seats:
        return None
    exact = seats * sizes / sizes.sum()
    counts: Any = np.minimum(np.floor(exact).astype(np.int64), most)
    while left := int(seats - counts.sum()):
        order = np.argsort(counts - exact, kind="stable")  # who lacks most
        counts[order[counts[order] < most[order]][:left]] += 1
    return counts  # type: ignore[no-any-return]
