"""A labelled set of images, and the two sets that come with the package."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from importlib import resources
from typing import SupportsIndex

import numpy as np

from uanref.backend import Array, shape_text


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images on the host, checked once here so that nothing later has to look at values.

    The arrays are kept as read-only views, without a copy.

    Attributes:
        name: how messages and tables call the set.
        images: shape (N, C, H, W), float32, all finite, N >= 1.
        labels: shape (N,), int64, each in [0, num_classes).
        num_classes: how many classes there are, >= 2; a set need not hold every one of them.

    Raises:
        ValueError: anything above does not hold; the sentence names the first offending index.
    """

    name: str
    images: Array
    labels: Array
    num_classes: int

    def __post_init__(self) -> None:
        _check_arrays(self.name, self.images, self.labels)
        object.__setattr__(self, "num_classes", _class_count(self.name, self.num_classes))
        _check_values(self.name, self.images, self.labels, self.num_classes)
        for field in ("images", "labels"):
            view = getattr(self, field).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of one image."""
        _, channels, height, width = self.images.shape
        return int(channels), int(height), int(width)

    def subset(self, indices: Array, name: str) -> Dataset:
        """Return the samples at ``indices`` (integers, shape (n,), n >= 1) as a set of its own, copied."""
        return Dataset(name, self.images[indices], self.labels[indices], self.num_classes)


def digits() -> Dataset:
    """Return the 1797 handwritten digits of UCI, ``(1797, 1, 8, 8)`` in [0, 1], ten classes.

    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", CC BY 4.0; a pixel
    counts the inked points of a 4 x 4 block, 0 to 16, divided by 16 here.
    """
    stored = _embedded("uci_digits.npz")
    return Dataset("digits", _unit_range(stored["x"], 16), stored["y"].astype(np.int64), 10)


def fashion_small() -> tuple[Dataset, Dataset]:
    """Return 5,000 training and 1,000 test images of Fashion-MNIST, ``(N, 1, 28, 28)`` in [0, 1], ten classes.

    A balanced sample (500 and 100 a class) of Zalando's training and test sets, MIT licence;
    grey values 0 to 255, divided by 255 here.
    """
    stored = _embedded("fashion_small.npz")
    train, test = (
        Dataset(
            f"fashion-small {part}", _unit_range(stored[f"x_{part}"], 255), stored[f"y_{part}"].astype(np.int64), 10
        )
        for part in ("train", "test")
    )
    return train, test


def _embedded(file: str) -> dict[str, Array]:
    """Read an npz file of this package, never unpickling anything."""
    with (
        resources.files("uanref.data").joinpath(file).open("rb") as stream,
        np.load(stream, allow_pickle=False) as archive,
    ):
        return {name: archive[name] for name in archive.files}


def _unit_range(pixels: Array, largest: int) -> Array:
    """Map integers (N, H, W) in [0, largest] to float32 (N, 1, H, W) in [0, 1]."""
    scaled: Array = np.divide(pixels, largest, dtype=np.float32)[:, np.newaxis]
    return scaled


def _check_arrays(name: str, images: Array, labels: Array) -> None:
    for field, array, dtype, rank, layout in (
        ("images", images, np.float32, 4, "(N, C, H, W)"),
        ("labels", labels, np.int64, 1, "(N,)"),
    ):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name}: {field} must be a NumPy array, got {type(array).__name__}: convert them first")
        if array.ndim != rank:
            raise ValueError(f"{name}: {field} must have shape {layout}, got {shape_text(array.shape)}: reshape them")
        if array.dtype != dtype:
            wanted = np.dtype(dtype).name
            raise ValueError(f"{name}: {field} must be {wanted}, got {array.dtype}: use {field}.astype('{wanted}')")
    if images.shape[0] != labels.shape[0]:
        raise ValueError(f"{name}: {images.shape[0]} images but {labels.shape[0]} labels: every image needs one label")
    if images.size == 0:
        raise ValueError(f"{name}: images of shape {shape_text(images.shape)} hold nothing: a set needs a sample")


def _class_count(name: str, value: object) -> int:
    """Return ``value``, any kind of integer >= 2, as an int."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and operator.index(value) >= 2:
        return operator.index(value)
    raise ValueError(f"{name}: num_classes must be an integer >= 2, got {value!r}")


def _check_values(name: str, images: Array, labels: Array, num_classes: int) -> None:
    # NaN survives both reductions, so that the usual case needs no mask as large as the images.
    if not (np.isfinite(images.min()) and np.isfinite(images.max())):
        first = np.unravel_index(int(np.argmin(np.isfinite(images))), images.shape)
        where = shape_text([int(i) for i in first])
        raise ValueError(f"{name}: images must be finite, but hold {images[first]} first at index {where}: clean them")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        i = int(outside.argmax())
        raise ValueError(
            f"{name}: labels must lie in 0 ... {num_classes - 1}, but the label at index {i} is {labels[i]}: "
            "correct it or raise num_classes"
        )
