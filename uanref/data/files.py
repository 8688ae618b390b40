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
import re
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from uanref import files
from uanref.backend import Array, shape_text
from uanref.data.sets import Dataset, is_small
from uanref.data.values import Values
from uanref.reasons import reason

MAX_BYTES = 1 << 30
"""Largest content, uncompressed, that :func:`read_idx` accepts: 1 GiB, almost twice EMNIST, the largest in use."""

MAX_CLASSES = 1 << 16
"""Largest number of classes that :func:`read_idx_folder` accepts: more means that the labels are none."""

MAX_ROWS = 1 << 24
"""Largest number of samples that :func:`read_idx` accepts: twenty times EMNIST's."""

RATIO = 500
"""How many bytes a byte of a compressed file may hold: images take a few, the format allows 1032."""

_SMALL = 1 << 26  # bytes that a file may hold whatever its ratio
_ELEMENTS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8
_CHUNK = 1 << 20


class DataError(ValueError):
    """A data file is missing, unreadable or not what it claims to be; the message is one sentence."""


def read_idx_folder(folder: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Read a training and a test set from the four standard MNIST files.

    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each plain or with ``.gz`` (plain first, where both are there); with a dot for the
    second dash (``train-images.idx3-ubyte``); or as EMNIST calls them (``emnist-letters-train-images-idx3-ubyte`` and
    ``emnist-letters-test-...``), one of its sets in a folder.

    Returns:
        ``(train, test)``: grey images ``(N, 1, H, W)``. Bytes stay bytes until a batch is made, and stand for numbers
        in [0, 1]; other element types are kept as they are. ``num_classes`` is the largest label of both sets plus one.

    Raises:
        DataError: a file is missing, unreadable, truncated, of another format, there are several that could be meant,
            or the files do not fit each other.
    """
    folder = Path(os.path.expanduser(folder))  # unlike Path.expanduser, leaves the name of an unknown user as it is
    if not _is(stat.S_ISDIR, folder):
        raise DataError(f"there is no folder {folder}: name the one that holds the four IDX files")
    paths = [_find(folder, part, what) for part in ("train", "t10k") for what in ("images", "labels")]
    train, test = (_images_and_labels(*pair) for pair in (paths[:2], paths[2:]))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{folder}: training images of {_size_text(train[0])} but test images of {_size_text(test[0])}: "
            "both must have one size"
        )
    num_classes = int(max(train[1].max(), test[1].max())) + 1
    if not 2 <= num_classes <= MAX_CLASSES:
        raise DataError(
            f"{folder}: the largest label is {num_classes - 1}, expected one from 1 to {MAX_CLASSES - 1}: "
            "labels count the classes from 0"
        )
    try:
        return (
            Dataset(f"{folder} (train)", *train[:2], num_classes, train[2]),
            Dataset(f"{folder} (t10k)", *test[:2], num_classes, test[2]),
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
            longer than its header says, or its content exceeds :data:`MAX_BYTES` or what its size can hold.
    """
    return _read(Path(path))


def _read(path: Path, labels: tuple[str, int] | None = None) -> Array:
    """Read a file; one of images must have as many as there are ``labels``, given as their file's name and number."""
    if not _is(stat.S_ISREG, path):  # a pipe or a device would be read forever
        raise DataError(f"{path} is missing or no regular file")
    try:
        with files.open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read_stream(file, path, size, labels, 1)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_stream(unpacked, path, size, labels, RATIO)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}): fetch it again") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_stream(
    stream: BinaryIO | gzip.GzipFile, path: Path, size: int, labels: tuple[str, int] | None, ratio: int
) -> Array:
    """Read header and elements; ``size`` is that of the file, of which each byte holds at most ``ratio`` bytes."""
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
    if shape[0] > MAX_ROWS:
        raise DataError(f"{path} is refused: {claim}, and at most {MAX_ROWS} samples are read")
    if labels is not None and shape[0] != labels[1]:
        raise DataError(f"{path} holds {shape[0]} images but {labels[0]} holds {labels[1]} labels")
    if ratio == 1 and size - 4 - 4 * rank < expected:
        raise DataError(f"{path} is truncated: {claim}, but {size - 4 - 4 * rank} follow")
    # In chunks: a request for everything at once would be allocated before anything is there.
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, expected + 1 - len(content))):  # one byte more tells a longer file
        content += chunk
        if len(content) > max(ratio * size, _SMALL):
            raise DataError(f"{path} is refused: {claim}, but no real data have {RATIO} times the file's {size} bytes")
    if len(content) < expected:
        raise DataError(f"{path} is truncated: {claim}, but {len(content)} follow")
    if len(content) > expected:
        raise DataError(f"{path} is damaged: {claim}, but more follow")
    array: Array = np.frombuffer(content, dtype).reshape(shape)
    return array if array.dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _images_and_labels(images_path: Path, labels_path: Path) -> tuple[Array, Array, Values | None]:
    """Read one part: images (N, 1, H, W), int64 labels (N,), and what the images' integers stand for."""
    labels = read_idx(labels_path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{labels_path} holds {labels.dtype} of shape {shape_text(labels.shape)}, expected integer labels (N,)"
        )
    images = _read(images_path, (labels_path.name, len(labels)))
    if images.ndim != 3:
        raise DataError(f"{images_path} has shape {shape_text(images.shape)}, expected grey images (N, H, W)")
    values = Values(255 if images.dtype == np.uint8 else 1) if is_small(images) else None
    if values is None:
        with np.errstate(over="ignore", under="ignore"):  # a float64 beyond float32 becomes inf, which Dataset refuses
            images = images.astype(np.float32, copy=False)
    return images[:, np.newaxis], labels.astype(np.int64), values


def _find(folder: Path, part: str, what: str) -> Path:
    """Return the file with the images or labels of "train" or "t10k"."""
    rank = 3 if what == "images" else 1
    emnist = "test" if part == "t10k" else part
    wanted = re.compile(rf"({part}|emnist-\w+-{emnist})-{what}[.-]idx{rank}-ubyte")
    found: dict[str, Path] = {}
    for path in sorted(_listed(folder)):
        name = path.name.removesuffix(".gz")
        if wanted.fullmatch(name) and _is(stat.S_ISREG, path):
            found.setdefault(name, path)  # the plain one comes first
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise DataError(f"{folder} holds several files that could be meant ({names[:300]}): leave one set in a folder")
    if not found:
        name = f"{part}-{what}-idx{rank}-ubyte"
        raise DataError(f"{folder} holds neither {name} nor {name}.gz")
    return next(iter(found.values()))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from None


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Tell whether ``path`` exists and is of ``kind``, ``stat.S_ISREG`` or ``stat.S_ISDIR``."""
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path}: {reason(error)}")


def _size_text(images: Array) -> str:
    return f"{images.shape[-2]} x {images.shape[-1]}"
