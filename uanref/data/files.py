"""Data sets from a user's files: the IDX format of MNIST and its relatives.

An IDX file is big-endian: two zero bytes, one byte for the element type, one for the number
of dimensions, each dimension as four bytes, then the elements in row-major order
(Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"). A file is
somebody else's claim: nothing is allocated on the word of a header.
"""

from __future__ import annotations

import gzip
import math
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from uanref.backend import Array, shape_text
from uanref.data.sets import Dataset

MAX_BYTES = 1 << 30
"""Largest content, uncompressed, that :func:`read_idx` accepts: 1 GiB, almost twice EMNIST, the largest in use."""

MAX_CLASSES = 1 << 16
"""Largest number of classes that :func:`read_idx_folder` accepts: more means that the labels are none."""

_ELEMENTS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8
_CHUNK = 1 << 20


class DataError(ValueError):
    """A data file is missing, unreadable or not what it claims to be; the message is one sentence."""


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Read a training and a test set from the four standard MNIST files.

    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each plain or with ``.gz`` (plain first, where both are there).

    Returns:
        ``(train, test)``: grey images ``(N, 1, H, W)``. Bytes are scaled to [0, 1], other element
        types are kept as they are. ``num_classes`` is the largest label of both sets plus one.

    Raises:
        DataError: a file is missing, unreadable, truncated, of another format, or the files do not
            fit each other.
    """
    folder = Path(os.path.expanduser(folder))  # unlike Path.expanduser, leaves the name of an unknown user as it is
    if not _is(stat.S_ISDIR, folder):
        raise DataError(f"there is no folder {folder}: name the one that holds the four IDX files")
    train_images, train_labels = _images_and_labels(folder, "train")
    test_images, test_labels = _images_and_labels(folder, "t10k")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{folder}: training images of {_size_text(train_images)} but test images of {_size_text(test_images)}: "
            "both must have one size"
        )
    num_classes = int(max(train_labels.max(), test_labels.max())) + 1
    if not 2 <= num_classes <= MAX_CLASSES:
        raise DataError(
            f"{folder}: the largest label is {num_classes - 1}, expected one from 1 to {MAX_CLASSES - 1}: "
            "labels count the classes from 0"
        )
    try:
        return (
            Dataset(f"{folder} (train)", train_images, train_labels, num_classes),
            Dataset(f"{folder} (t10k)", test_images, test_labels, num_classes),
        )
    except ValueError as error:
        raise DataError(str(error)) from None


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read one IDX file, plain or gzip-compressed (told by its first bytes, not by its name).

    Returns:
        The array in the machine's byte order: uint8, int8, int16, int32, float32 or float64, of the
        shape in the header, 1 to 8 dimensions.

    Raises:
        DataError: the file is missing, no regular file, unreadable, corrupt, not IDX, empty, shorter or
            longer than its header says, or its content exceeds :data:`MAX_BYTES`.
    """
    path = Path(path)
    if not _is(stat.S_ISREG, path):  # a pipe or a device would be read forever
        raise DataError(f"{path} is missing or no regular file")
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read_stream(unpacked, path, None)
            file.seek(0)
            return _read_stream(file, path, os.fstat(file.fileno()).st_size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}): fetch it again") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_stream(stream: BinaryIO | gzip.GzipFile, path: Path, size: int | None) -> Array:
    """Read header and elements; ``size`` is the length of the file where it is known beforehand."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _ELEMENTS or not 1 <= magic[3] <= _MAX_DIMENSIONS:
        raise DataError(
            f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, expected 00 00, an element "
            f"type (08 for bytes) and the number of dimensions (1 to {_MAX_DIMENSIONS})"
        )
    dtype, rank = np.dtype(_ELEMENTS[magic[2]]), magic[3]
    header = stream.read(4 * rank)
    if len(header) < 4 * rank:
        raise DataError(f"{path} is truncated: it ends inside its header")
    shape = tuple(int.from_bytes(header[4 * i : 4 * i + 4], "big") for i in range(rank))
    expected = math.prod(shape) * dtype.itemsize
    claim = f"its header says {shape_text(shape)} {dtype.newbyteorder('=')}, {expected} bytes"
    if expected == 0:
        raise DataError(f"{path} is empty: its header says {shape_text(shape)}")
    if expected > MAX_BYTES:
        raise DataError(f"{path} is refused: {claim}, and at most {MAX_BYTES} are read")
    if size is not None and size - 4 - 4 * rank < expected:
        raise DataError(f"{path} is truncated: {claim}, but {size - 4 - 4 * rank} follow")

    # In chunks: a request for everything at once would be allocated before anything is there.
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, expected + 1 - len(content))):  # one byte more tells a longer file
        content += chunk
    if len(content) < expected:
        raise DataError(f"{path} is truncated: {claim}, but {len(content)} follow")
    if len(content) > expected:
        raise DataError(f"{path} is damaged: {claim}, but more follow")
    array: Array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _images_and_labels(folder: Path, part: str) -> tuple[Array, Array]:
    """Read ``part`` ("train" or "t10k"): float32 (N, 1, H, W) and int64 (N,)."""
    images_path, labels_path = _find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3:
        raise DataError(f"{images_path} has shape {shape_text(images.shape)}, expected grey images (N, H, W)")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{labels_path} holds {labels.dtype} of shape {shape_text(labels.shape)}, expected integer labels (N,)"
        )
    if len(images) != len(labels):
        raise DataError(f"{images_path} holds {len(images)} images but {labels_path.name} holds {len(labels)} labels")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which Dataset refuses
        scaled = np.divide(images, 255 if images.dtype == np.uint8 else 1, dtype=np.float32, casting="unsafe")
    return scaled[:, np.newaxis], labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if _is(stat.S_ISREG, path):
            return path
    raise DataError(f"{folder} holds neither {name} nor {name}.gz")


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Tell whether ``path`` exists and is of ``kind``, ``stat.S_ISREG`` or ``stat.S_ISDIR``."""
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"cannot read {path}: {reason}")


def _size_text(images: Array) -> str:
    return f"{images.shape[-2]} x {images.shape[-1]}"
