"""From a name on the command line to three standardized sets: training, validation, test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array, Generator, shape_text
from uanref.data.files import DataError, read_idx_folder
from uanref.data.sets import Dataset, digits, fashion_small
from uanref.layers.base import count

_BLOCK = 1024  # images at a time, so that float64 intermediate results stay small


@dataclass(frozen=True, eq=False)
class Splits:
    """Three disjoint sets of one kind, standardized with the training set's statistics.

    Attributes:
        name: the specification that :func:`load` was given.
        num_classes: of all three.
        image_shape: ``(C, H, W)``, of all three.
        train: what gradients are computed from.
        validation: what choices are made on.
        test: what is reported, looked at once.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class Standardizer:
    """The map ``(x - mean) / std``, one pair of numbers per channel.

    Attributes:
        mean: shape (C,), float64.
        std: shape (C,), float64, biased; 1 for a channel that is constant to float32's precision.
    """

    mean: Array
    std: Array

    @classmethod
    def fit(cls, images: Array) -> Standardizer:
        """Measure ``images`` (N, C, H, W); two passes in float64, so that nothing cancels."""
        if images.ndim != 4 or images.size == 0:
            raise ValueError(f"Standardizer.fit expects images (N, C, H, W), got {shape_text(images.shape)}")
        per_channel = images.size // images.shape[1]
        blocks = [images[i : i + _BLOCK] for i in range(0, len(images), _BLOCK)]
        mean = sum(block.sum(axis=(0, 2, 3), dtype=np.float64) for block in blocks) / per_channel
        squares = sum(((block - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3)) for block in blocks)
        std = np.sqrt(squares / per_channel)
        peak = np.abs(images).max(axis=(0, 2, 3)).astype(np.float64)
        constant = std <= np.maximum(1e-7 * peak, np.finfo(np.float32).tiny)
        return cls(mean, np.where(constant, 1.0, std))

    def apply(self, images: Array) -> Array:
        """Return the standardized ``images`` (N, C, H, W), float32, as a new array."""
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"Standardizer was fitted on {len(self.mean)} channels, got images {shape_text(images.shape)}"
            )
        out = np.empty(images.shape, dtype=np.float32)
        for i in range(0, len(images), _BLOCK):
            out[i : i + _BLOCK] = (images[i : i + _BLOCK] - self.mean[:, None, None]) / self.std[:, None, None]
        return out


def load(spec: str, *, seed: int = 0) -> Splits:
    """Load a data set by name, split it and standardize it.

    ======================  ==========================  =====================  =========
    ``spec``                train                       validation             test
    ======================  ==========================  =====================  =========
    ``"digits"``            719                         180                    898
    ``"fashion-small"``     4,500                       500                    1,000
    ``"idx:FOLDER"``        nine tenths of ``train``    a tenth of ``train``   ``t10k``
    ======================  ==========================  =====================  =========

    Splits are stratified and follow from ``seed`` alone; where a set comes with a test set, that one
    is kept as it is. All three parts are standardized with the training part's mean and deviation.

    Args:
        spec: ``"digits"``, ``"fashion-small"`` or ``"idx:FOLDER"`` (see :func:`read_idx_folder`).
        seed: >= 0.

    Raises:
        ValueError: another name, or a seed below 0.
        TypeError: the seed is no integer.
        DataError: the folder's files are not what they should be.
    """
    rng = np.random.default_rng(count("seed", seed, 0))
    kind, _, folder = spec.partition(":")
    if spec == "digits":
        whole = digits()
        parts = stratified_split(whole.labels, (0.4, 0.1, 0.5), rng)
        train, validation, test = (whole.subset(part, "digits") for part in parts)
    elif spec == "fashion-small" or (kind == "idx" and folder):
        known, test = fashion_small() if spec == "fashion-small" else read_idx_folder(folder)
        parts = stratified_split(known.labels, (0.1, 0.9), rng)
        if len(parts[0]) == 0:
            raise DataError(f"{spec}: {len(known)} training images are too few to set a tenth aside: give at least 5")
        validation, train = (known.subset(part, spec) for part in parts)
    else:
        raise ValueError(f"unknown data set {spec!r}: expected 'digits', 'fashion-small' or 'idx:FOLDER'")

    standardizer = Standardizer.fit(train.images)
    train, validation, test = (
        Dataset(f"{spec} {part}", standardizer.apply(d.images), d.labels, d.num_classes)
        for part, d in (("train", train), ("validation", validation), ("test", test))
    )
    return Splits(spec, train.num_classes, train.image_shape, train, validation, test)


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
    labels = np.asarray(labels)
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
