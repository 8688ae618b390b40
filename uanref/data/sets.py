"""A labelled set of images, and the two sets that come with the package."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from uanref.backend import Array, shape_text
from uanref.data.values import Values


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Dataset:
    """Labelled samples on the host, checked once here so that nothing later has to look at values.

    Samples are images (N, C, H, W) or vectors (N, D). The arrays are kept as read-only views, without a copy; a memory
    map becomes a plain array over the same file.

    Args:
        name: how messages and tables call the set.
        images: float32, all finite, N >= 1; with ``values`` integers or float16.
        labels: shape (N,), int64, each in [0, num_classes).
        num_classes: how many classes there are, >= 2; a set need not hold every one of them.
        values: what the entries of ``images`` stand for; None if they are float32 and stand for themselves.

    Attributes:
        name, labels, num_classes, values: as given.
        stored: ``images`` as given.

    Raises:
        ValueError: anything above does not hold; the sentence names the first offending index.
    """

    name: str
    stored: Array
    labels: Array
    num_classes: int
    values: Values | None

    def __init__(self, name: str, images: Array, labels: Array, num_classes: int, values: Values | None = None) -> None:
        images, labels = plain(f"{name}: images", images), plain(f"{name}: labels", labels)
        _check_arrays(name, images, labels, values)
        fields: dict[str, Any] = {"name": name, "num_classes": _class_count(name, num_classes), "values": values}
        _check_values(name, images, labels, fields["num_classes"])
        for field, array in (("stored", images), ("labels", labels)):
            fields[field] = array.view()
            fields[field].flags.writeable = False
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        """Sizes, no arrays: ``Dataset('digits': 1797 samples of (1, 8, 8), 10 classes)``."""
        sizes = shape_text(self.image_shape)
        return f"Dataset({self.name!r}: {len(self)} samples of {sizes}, {self.num_classes} classes)"

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def images(self) -> Array:
        """All samples, float32; with ``values`` computed anew each time: :meth:`batch` gives a part of them."""
        return self.batch(slice(None))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape ``(C, H, W)`` of one image, or ``(D,)`` of one vector."""
        return tuple(int(size) for size in self.stored.shape[1:])

    def batch(self, chosen: slice | Array) -> Array:
        """Return the samples at ``chosen``, a slice or integers of shape (n,), as float32 (n, C, H, W) or (n, D)."""
        part = self.stored[chosen]
        return part if self.values is None else self.values(part)

    def subset(self, indices: Array, name: str) -> Dataset:
        """Return the samples at ``indices`` (integers, shape (n,), n >= 1) as a set of its own, copied."""
        if isinstance(indices, np.ndarray):
            indices = plain(f"{name}: indices", indices)
        return Dataset(name, self.stored[indices], self.labels[indices], self.num_classes, self.values)


def plain(what: str, array: Array) -> Array:
    """Return ``array`` as a plain NumPy array, a memory map without a copy.

    Raises:
        ValueError: no NumPy array, a masked one (its mask would be lost) or another subclass, which may compute
            otherwise; the sentence starts with ``what``.
    """
    if type(array) is np.ndarray or isinstance(array, np.memmap):
        return np.asarray(array)
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{what} are masked, and a mask would be lost: fill them with x.filled(...) or leave them out")
    hint = "with numpy.asarray(x)" if isinstance(array, np.ndarray) else "first"
    raise ValueError(f"{what} must be a NumPy array, got {type(array).__name__}: convert them {hint}")


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
    from importlib import resources  # where it is used: it brings a dozen modules along

    with (
        resources.files("uanref.data").joinpath(file).open("rb") as stream,
        np.load(stream, allow_pickle=False) as archive,
    ):
        return {name: archive[name] for name in archive.files}


def _unit_range(pixels: Array, largest: int) -> Array:
    """Map integers (N, H, W) in [0, largest] to float32 (N, 1, H, W) in [0, 1]."""
    scaled: Array = np.divide(pixels, largest, dtype=np.float32)[:, np.newaxis]
    return scaled


def _check_arrays(name: str, images: Array, labels: Array, values: Values | None) -> None:
    if images.ndim not in (2, 4):
        got = shape_text(images.shape)
        raise ValueError(f"{name}: images must have shape (N, C, H, W), got {got}: reshape them; vectors are (N, D)")
    if labels.ndim != 1:
        raise ValueError(f"{name}: labels must have shape (N,), got {shape_text(labels.shape)}: reshape them")
    for field, array, wanted in (("images", images, "float32"), ("labels", labels, "int64")):
        small = field == "images" and values is not None and is_small(array)
        if array.dtype != np.dtype(wanted) and not small:
            raise ValueError(f"{name}: {field} must be {wanted}, got {array.dtype}: use {field}.astype('{wanted}')")
    if images.shape[0] != labels.shape[0]:
        raise ValueError(f"{name}: {images.shape[0]} images but {labels.shape[0]} labels: every image needs one label")
    if images.size == 0:
        raise ValueError(f"{name}: images of shape {shape_text(images.shape)} hold nothing: a set needs a sample")


def is_small(array: Array) -> bool:
    """Return whether a set keeps an array's own dtype because it takes less memory than float32."""
    return array.dtype.kind in "iuf" and array.dtype.itemsize < 4


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
