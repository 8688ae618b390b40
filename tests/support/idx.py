"""IDX files as MNIST has them: what the reader of data is fed with."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def header(code: int, *shape: int) -> bytes:
    """Return the beginning of a file: the code of its elements' type, and its shape."""
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx(array: np.ndarray) -> bytes:
    """Return a file's content."""
    return header(CODES[array.dtype.name], *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_images(folder: Path, train: int, test: int, size: tuple[int, int], classes: int) -> None:
    """Write the four files into an existing folder: random images, whose labels take turns."""
    rng = np.random.default_rng(0)
    for part, samples in (("train", train), ("t10k", test)):
        images, labels = rng.integers(0, 256, (samples, *size)), np.arange(samples) % classes
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{name}-ubyte").write_bytes(idx(array.astype("uint8")))
