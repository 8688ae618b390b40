"""Objects as JSON and back: optimizers, schedules, losses and augmentations.

Each keeps every constructor argument under its own name, so its class and these arguments are all that is written. Only
the classes listed here are ever made from a file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from uanref import losses, optimizers
from uanref.data import augment as augmentations
from uanref.data.augment import Augmentation
from uanref.training import schedules
from uanref.training.archive import CheckpointError

LOSSES = (losses.SoftmaxCrossEntropy, losses.MSE)
OPTIMIZERS = (optimizers.SGD, optimizers.Adam, optimizers.AdamW)
SCHEDULES = (schedules.Constant, schedules.StepDecay, schedules.Cosine)
AUGMENTATIONS = (augmentations.Shift, augmentations.Crop, augmentations.Flip)


def describe(thing: object | None, known: tuple[type, ...]) -> dict[str, Any] | None:
    """Return ``{"kind": class name, its arguments}``, with None as the kind of what is not ``known``."""
    if thing is None:
        return None
    if type(thing) not in known:
        return {"kind": None, "name": type(thing).__name__}
    return {"kind": type(thing).__name__} | {name: getattr(thing, name) for name in arguments(type(thing))}


def rebuild(described: Mapping[str, Any] | None, known: tuple[type, ...], *first: Any) -> Any:
    """Return the object again; ``first`` are the constructor's first arguments.

    Raises:
        CheckpointError: it was none of ``known``.
    """
    if described is None:
        return None
    for kind in known:
        if kind.__name__ == described["kind"]:
            return kind(*first, **{name: described[name] for name in arguments(kind)})
    raise CheckpointError(f"it used {described.get('name') or described['kind']}, which is none of uanref's own")


def arguments(kind: type) -> list[str]:
    """Return the constructor's arguments, without an optimizer's parameters and its rate, which is state."""
    unsaved = ("parameters", "lr") if issubclass(kind, optimizers.Optimizer) else ()
    return [name for name in inspect.signature(kind).parameters if name not in unsaved]


def describe_augmentation(augment: Augmentation | None) -> list[dict[str, Any] | None]:
    """Return a chain's parts, described; nothing for None."""
    if augment is None:
        return []
    chain = augment.augmentations if isinstance(augment, augmentations.Chain) else (augment,)
    return [describe(one, AUGMENTATIONS) for one in chain]


def rebuild_augmentation(described: list[Mapping[str, Any]]) -> Augmentation | None:
    """Return the augmentation again; raises as :func:`rebuild`."""
    chain = [rebuild(one, AUGMENTATIONS) for one in described]
    return augmentations.Chain(*chain) if chain else None
