"""Checkpoints: one ``.npz`` file without pickle that holds a whole training run.

Arrays are members of the archive; all else is one JSON text in the member ``meta``. A file is written
under a temporary name beside its target and renamed when it is complete, so a failure leaves the old file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from uanref.backend import Array
from uanref.data.sets import Splits
from uanref.layers.base import Layer
from uanref.models import Model
from uanref.training.trainer import Trainer


class CheckpointError(ValueError):
    """A file that is no usable checkpoint; the message says what is wrong with it."""


def save(path: str | os.PathLike[str], trainer: Trainer) -> None:
    """Write the model, the optimizer and all that a bit-identical continuation needs.

    Raises:
        OSError: the file cannot be written; an older file under the same name is left as it was.
    """
    raise NotImplementedError


def load_model(path: str | os.PathLike[str], model: Layer | None = None) -> Layer:
    """Rebuild the trained model, in eval mode.

    Args:
        path: a file that :func:`save` wrote.
        model: receives the weights; needed only for a network that ``models.build`` did not make.

    Raises:
        CheckpointError: the file is missing, damaged, of another version or does not fit the model.
    """
    raise NotImplementedError


def load_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint says about its run, without building anything.

    Keys: ``version``, ``model`` (the arguments of ``models.build`` or None), ``data`` (``name`` and ``seed`` for
    ``data.load``), ``loss``, ``optimizer``, ``schedule``, ``epoch``, ``batch_size``, ``seed``, ``history`` (a dict) ...

    Raises:
        CheckpointError: the file is missing, damaged or of another version.
    """
    raise NotImplementedError


def resume(
    path: str | os.PathLike[str],
    *,
    model: Layer | None = None,
    splits: Splits | None = None,
    augment: Callable[..., Array] | None = None,
    progress: str = "auto",
) -> Trainer:
    """Return a trainer that goes on where the saved one was; on a CPU it computes the same bits.

    Args:
        path: a file that :func:`save` wrote.
        model: needed only for a network that ``models.build`` did not make.
        splits: needed only for data that ``data.load`` did not make.
        augment: the function that the saved trainer had, if any (functions are not saved).
        progress: as in :class:`Trainer`.

    Raises:
        CheckpointError: the file is missing, damaged, of another version, or does not fit what was given.
    """
    raise NotImplementedError
