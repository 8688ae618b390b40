"""Light augmentation: ``(images, rng) -> images`` on host arrays, one random draw per image.

Every class here takes images ``(N, C, H, W)`` and a ``numpy.random.Generator`` and returns new
images of the same shape and dtype; the input is not changed. All draws of a batch happen at
once, and their number depends on N alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from uanref.backend import Array, Generator, shape_text
from uanref.data.sets import plain
from uanref.layers.base import count, number

Augmentation: TypeAlias = Callable[[Array, Generator], Array]
"""Any function of images and a generator that returns images of the same shape and dtype."""


@dataclass(frozen=True)
class Shift:
    """Move each image by whole pixels, drawn uniformly from -max_shift ... max_shift along both axes.

    Uncovered pixels take the smallest value of their image and channel: the background of digits and
    garments, whatever the standardization. For photographs, :class:`Crop` is the better choice.

    Args:
        max_shift: >= 0, smaller than the images (checked when called).

    Raises:
        ValueError: negative, or not smaller than the images' height and width.
        TypeError: not an integer.
    """

    max_shift: int

    def __post_init__(self) -> None:
        count("max_shift", self.max_shift, 0)

    def __call__(self, images: Array, rng: Generator) -> Array:
        """Return shifted ``images`` (N, C, H, W)."""
        images = _checked(images)
        rows, columns = _moved(images, self.max_shift, "max_shift", rng)
        height, width = images.shape[2:]
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)  # (N, 1, H, W)
        background = images.min(axis=(2, 3), keepdims=True)  # (N, C, 1, 1)
        shifted: Array = np.where(
            outside, background, _gather(images, rows.clip(0, height - 1), columns.clip(0, width - 1))
        )
        return shifted


@dataclass(frozen=True)
class Crop:
    """Pad each image by ``padding`` mirrored pixels on every side, then crop it back at a random place.

    The mirror leaves out the border itself (NumPy's "reflect"), so that no edge appears where the image
    ended and its statistics stay those of the image.

    Args:
        padding: >= 0, smaller than the images (checked when called).

    Raises:
        ValueError: negative, or not smaller than the images' height and width.
        TypeError: not an integer.
    """

    padding: int

    def __post_init__(self) -> None:
        count("padding", self.padding, 0)

    def __call__(self, images: Array, rng: Generator) -> Array:
        """Return crops ``(N, C, H, W)`` of the padded ``images`` (N, C, H, W)."""
        images = _checked(images)
        rows, columns = _moved(images, self.padding, "padding", rng)
        return _gather(images, _mirror(rows, images.shape[2]), _mirror(columns, images.shape[3]))


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right with probability ``p``.

    Args:
        p: in [0, 1].

    Raises:
        ValueError: outside [0, 1].
        TypeError: not a number.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number("p", self.p, 0.0, 1.0)

    def __call__(self, images: Array, rng: Generator) -> Array:
        """Return ``images`` (N, C, H, W), some of them mirrored."""
        images = _checked(images)
        chosen = rng.random(len(images)) < self.p
        flipped: Array = np.where(chosen[:, None, None, None], images[..., ::-1], images)
        return flipped


class Chain:
    """Apply augmentations one after the other, all from one generator; an empty chain changes nothing.

    Raises:
        TypeError: an argument is not callable.
    """

    def __init__(self, *augmentations: Augmentation) -> None:
        for augmentation in augmentations:
            if not callable(augmentation):
                raise TypeError(f"Chain takes augmentations, got {type(augmentation).__name__}: pass Chain(a, b, ...)")
        self.augmentations = augmentations

    def __call__(self, images: Array, rng: Generator) -> Array:
        """Return ``images`` after every augmentation, in order; a copy if there is none."""
        if not self.augmentations:
            return images.copy()
        for augmentation in self.augmentations:
            images = augmentation(images, rng)
        return images

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.augmentations))})"


def _checked(images: Array) -> Array:
    images = plain("images", images)
    if images.ndim != 4:
        raise ValueError(f"augmentation expects images (N, C, H, W), got {shape_text(images.shape)}: reshape them")
    return images


def _moved(images: Array, reach: int, option: str, rng: Generator) -> tuple[Array, Array]:
    """Draw a move per image; return source rows (N, 1, H, 1) and columns (N, 1, 1, W), some outside the image."""
    samples, _, height, width = images.shape
    if reach >= min(height, width):
        raise ValueError(f"{option} must be smaller than the images, got {reach} for images of {height} x {width}")
    moves = rng.integers(-reach, reach, size=(2, samples, 1), endpoint=True)
    rows = np.arange(height) - moves[0]  # (N, H)
    columns = np.arange(width) - moves[1]  # (N, W)
    return rows[:, None, :, None], columns[:, None, None, :]


def _mirror(index: Array, size: int) -> Array:
    """Fold indices from -(size - 1) ... 2 (size - 1) back into 0 ... size - 1."""
    folded: Array = (size - 1) - np.abs((size - 1) - np.abs(index))
    return folded


def _gather(images: Array, rows: Array, columns: Array) -> Array:
    """Return ``out[n, c, h, w] = images[n, c, rows[n, h], columns[n, w]]``."""
    samples, channels = images.shape[:2]
    gathered: Array = images[np.arange(samples)[:, None, None, None], np.arange(channels)[:, None, None], rows, columns]
    return gathered
