"""All that a kept cell may say: for a comparison's one table, as a checkpoint's header has it
(:mod:`uanref.training.header`), for any other a bound on what JSON can say.

A cell is read by a later process, perhaps after somebody edited it: what it says goes into tables, times and pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from uanref.backend import Array, shape_text
from uanref.npz import NpzError
from uanref.training.archive import CheckpointError
from uanref.training.checks import anything, flag, many, named, nothing_or, one_of, real, record, short, text, whole
from uanref.training.header import EPOCH, REPORTS, check_history

_CONFIG = {
    "experiment": one_of("compare"),
    "dataset": text,
    "model": text,
    "norm": text,
    "components": whole(1),
    "optimizer": text,
    "lr": real(0.0, above=True),
    "schedule": text,
    "epochs": whole(1),
    "batch_size": whole(1),
    "seed": whole(),
    "activations": flag,
    "backend": one_of("numpy", "cupy"),
}
CONFIG = record(**_CONFIG)
OWN_CONFIG = record(**_CONFIG, norm_digest=text)  # of a reader's own norm
CELL = record(
    config=named(anything),
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
_ANY = record(config=named(anything), result=named(anything), measured=named(anything))
_VERSIONS = named(nothing_or(text))
DEEPEST = 16  # objects and lists in each other
LONGEST = 10_000  # characters of a text


def check_any(cell: Any) -> None:
    """Hold the cell of any sweep against what all of them keep to: finite numbers, short texts, little depth.

    Raises:
        CheckpointError: something in it is wrong; the sentence lacks its subject, the file.
    """
    _ANY("", cell)
    level = [cell]
    for _ in range(DEEPEST):
        level = [entry for value in level for entry in _entries(value)]
        if not level:
            break
    else:
        raise CheckpointError(f"holds objects and lists {DEEPEST} deep: it is damaged")
    versions = cell["measured"].get("versions")
    _VERSIONS("measured.versions", versions)
    if not isinstance(versions.get("uanref"), str):
        raise CheckpointError("lacks uanref in measured.versions: it is damaged")


def _entries(value: Any) -> list[Any]:
    """Return what an object or list holds, a text or number checked."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        # A terminal obeys control characters.
        if len(value) > LONGEST or not value.replace("\n", " ").replace("\t", " ").isprintable():
            raise CheckpointError(f"holds the text {short(value)}, which is no name or sentence: it is damaged")
    elif isinstance(value, int | float) and not (math.isfinite(value) if type(value) is float else abs(value) < 2**63):
        raise CheckpointError(f"holds {short(value)}, which is no number of a result: it is damaged")
    return []


def check(cell: Any) -> None:
    """Hold a cell against the table, and its parts against each other.

    Args:
        cell: of a comparison, that passed :func:`check_any`.

    Raises:
        CheckpointError: something in it is wrong; the sentence lacks its subject, the file.
    """
    CELL("", cell)
    asked = cell["config"]
    (OWN_CONFIG if "norm_digest" in asked else CONFIG)("config", asked)
    epochs = asked["epochs"]
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
