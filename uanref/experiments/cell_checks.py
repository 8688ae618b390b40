"""All that a kept cell may say: one table, as a checkpoint's header has it (:mod:`uanref.training.header`).

A cell is read by a later process, perhaps after somebody edited it: what it says goes into tables, times and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uanref.backend import Array, shape_text
from uanref.npz import NpzError
from uanref.training.archive import CheckpointError
from uanref.training.checks import anything, flag, many, named, nothing_or, real, record, text, whole
from uanref.training.header import EPOCH, REPORTS, check_history

CELL = record(
    config=named(anything),  # held against what is asked for
    result=record(
        test_accuracy=nothing_or(real(0.0, 1.0)),
        parameters=whole(),
        layers=named(text),
        history=record(epochs=many(record(**EPOCH)), **REPORTS),
        activations=flag,
    ),
    measured=record(
        seconds=real(0.0),
        cpu_seconds=real(0.0),
        memory_bytes=nothing_or(whole()),
        versions=named(nothing_or(text)),
        host=text,
        date=text,
        epoch_seconds=many(nothing_or(real(0.0))),
    ),
)
ARRAYS = ("channels", "samples", "weights", "means", "variances")


def check(cell: Any, epochs: int) -> None:
    """Hold a cell against the table, and its parts against each other.

    Args:
        cell: what its file says.
        epochs: that its run was to have.

    Raises:
        CheckpointError: something in it is wrong; the sentence lacks its subject, the file.
    """
    CELL("", cell)
    result, history = cell["result"], cell["result"]["history"]
    done, diverged = len(history["epochs"]), result["test_accuracy"] is None
    check_history(history, done)
    if len(cell["measured"]["epoch_seconds"]) != done:
        raise CheckpointError(f"holds the seconds of {len(cell['measured']['epoch_seconds'])} epochs for {done}")
    if diverged != bool(history["stopped"]) or (done > epochs if diverged else done != epochs):
        why = f"stopped by {history['stopped'][:100]!r}" if history["stopped"] else "not stopped"
        scored = "without" if diverged else "with"
        raise CheckpointError(f"holds {done} of {epochs} epochs, {why}, {scored} a test accuracy: it is damaged")
    if history["steps"] and (lost := [name for name in result["layers"] if name not in history["gradient_norms"]]):
        raise CheckpointError(f"lacks {lost[0]} in result.history.gradient_norms: it is damaged")


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays of a cell that do not fit each other.

    Raises:
        NpzError: they do not; the sentence lacks its subject, the file.
    """
    count, mixture = shapes["channels"], shapes["weights"]
    samples = shapes["samples"]
    fitting = len(count) == 1 and len(samples) == len(mixture) == 2 and samples[0] == mixture[1] == count[0] > 0
    if not fitting or 0 in (*samples, *mixture) or not shapes["means"] == shapes["variances"] == mixture:
        listed = ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())
        raise NpzError(f"holds arrays that do not fit each other: {listed}")


def check_numbers(arrays: Mapping[str, Array]) -> None:
    """Refuse numbers of a cell that nothing can have computed.

    Raises:
        NpzError: there are such; the sentence lacks its subject, the file.
    """
    for name, array in arrays.items():
        kinds, words = ("iu", "whole") if name == "channels" else ("f", "finite")
        signed = name in ("samples", "means")
        if array.dtype.kind not in kinds or not np.isfinite(array).all() or not (signed or array.min() >= 0):
            raise NpzError(f"holds something else than {words} numbers{'' if signed else ' >= 0'} in {name}")
