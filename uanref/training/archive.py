"""A checkpoint's file: an uncompressed ``.npz`` of plain numbers, and one text in the member ``meta``."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from uanref import npz
from uanref.backend import Array
from uanref.reasons import reason


class CheckpointError(ValueError):
    """A file that is no usable checkpoint, or a run that cannot be saved; the message says what is wrong."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], meta: str) -> None:
    """Write the file whole or not at all.

    Raises:
        OSError: it cannot be written; an older file of this name is left as it was.
    """
    npz.write(path, dict(arrays) | {"meta": np.frombuffer(meta.encode(), dtype=np.uint8)})


def read(path: str | os.PathLike[str]) -> tuple[bytes, dict[str, Array]]:
    """Return the text and the arrays by name.

    Raises:
        CheckpointError: the file is missing, no plain file, damaged, holds something else than finite numbers, or
            claims to hold more than it does.
    """
    try:
        arrays = npz.read(path, what="a checkpoint")
    except npz.NpzError as error:
        raise CheckpointError(f"{path} {error}") from error
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: name a file that uanref saved") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    meta = arrays.pop("meta", None)
    if meta is None or meta.dtype != np.uint8:
        raise CheckpointError(f"{path} is not a checkpoint of uanref: it has no readable meta data")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path} holds NaN or infinity in {name}: it is damaged")
    return meta.tobytes(), arrays
