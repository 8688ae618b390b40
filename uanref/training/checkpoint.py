"""Checkpoints: one ``.npz`` file without pickle that holds a whole training run.

The arrays of model and optimizer are members of the archive; all else is one JSON text in the member ``meta``. How the
file is written and read is told in ``archive``, what the text may say in ``header``, how objects become JSON in
``described``. A checkpoint stands at the end of an epoch, from where a continuation computes the same bits.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from uanref import data, factories, models
from uanref.backend import Array, Generator
from uanref.data.augment import Augmentation
from uanref.data.splits import Splits
from uanref.factories import Factory
from uanref.layers.base import Layer
from uanref.reasons import message
from uanref.training import archive, described, header
from uanref.training.archive import CheckpointError as CheckpointError
from uanref.training.history import History
from uanref.training.trainer import Trainer

_fingerprints: weakref.WeakKeyDictionary[Splits, int] = weakref.WeakKeyDictionary()


def save(path: str | os.PathLike[str], trainer: Trainer) -> None:
    """Write the model, the optimizer and all that a bit-identical continuation needs.

    Raises:
        CheckpointError: the model or the optimizer holds NaN or infinity, a generator is none of NumPy's, or the
            trainer is in the middle of an epoch; nothing is written.
        OSError: the file cannot be written; an older file of this name is left as it was.
    """
    if trainer.is_mid_epoch:
        raise CheckpointError(
            "the trainer is in the middle of an epoch, where nothing can be continued: save between epochs, as with "
            "fit(n, after_epoch=lambda trainer: save(path, trainer))"
        )
    model, optimizer = trainer.model, trainer.optimizer
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"optimizer/{name}": array for name, array in optimizer.state_dict().items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} is not finite: a diverged run is not saved")
    meta = {
        "format": header.FORMAT,
        "version": header.VERSION,
        "model": model.config if isinstance(model, models.Model) else None,
        "data": {"name": trainer.data_name, "seed": trainer.seed, "fingerprint": fingerprint(trainer.splits)},
        "loss": described.describe(trainer.loss, described.LOSSES),
        "optimizer": described.describe(optimizer, described.OPTIMIZERS),
        "schedule": described.describe(trainer.schedule, described.SCHEDULES),
        "augment": described.describe_augmentation(trainer.augment),
        "batch_size": trainer.batch_size,
        "clip_norm": trainer.clip_norm,
        "report_every": trainer.report_every,
        "seed": trainer.seed,
        "epoch": trainer.epoch,
        "generators": {
            "trainer": trainer.rng.bit_generator.state,
            "model": {name: rng.bit_generator.state for name, rng in model.generators().items()},
        },
        "history": trainer.history.to_dict(),
    }
    text = json.dumps(meta, allow_nan=False, default=lambda value: value.tolist())
    header.check(json.loads(text))  # what could not be read is not written
    archive.write(path, arrays, text)


def fingerprint(splits: Splits) -> int:
    """Return a checksum of the training and validation sets: equal for equal data."""
    if splits not in _fingerprints:  # an epoch must not read all images once more
        total = 0
        for dataset in (splits.train, splits.validation):
            rows = max(1, 2**22 // math.prod(dataset.image_shape))
            for start in range(0, len(dataset), rows):
                images = dataset.batch(slice(start, start + rows))
                total = zlib.crc32(np.ascontiguousarray(images).data, total)
            total = zlib.crc32(np.ascontiguousarray(dataset.labels).data, total)
        _fingerprints[splits] = total
    return _fingerprints[splits]


def load_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint says about its run, without building anything.

    Keys: ``model`` (the arguments of ``models.build``, or None), ``data`` (``name``, ``seed``, ``fingerprint``),
    ``loss``, ``optimizer``, ``schedule``, ``augment`` (each ``{"kind": ..., its arguments}`` or None),
    ``batch_size``, ``clip_norm``, ``report_every``, ``seed``, ``epoch``, ``generators``, ``history``.

    Raises:
        CheckpointError: the file is missing, damaged or of another version.
    """
    return _read(path)[0]


def load_model(
    path: str | os.PathLike[str],
    model: Layer | None = None,
    norm: str | Callable[..., Any] | Factory | None = None,
) -> Layer:
    """Rebuild the trained model, in eval mode.

    Args:
        path: a file that :func:`save` wrote.
        model: receives the weights; needed only for a network that ``models.build`` did not make.
        norm: the function that made the norms, ``mine.py:make`` or itself; needed where they are the reader's own, for
            a checkpoint never runs code by itself. Another file than the one that it was trained with is a warning.

    Raises:
        CheckpointError: the file is missing, damaged, of another version or does not fit the model, or its norm is the
            reader's own and not given.
        OwnCodeError: the norm's code cannot be used.
    """
    meta, arrays = _read(path)
    if other := _other_norm(meta, norm := _own_norm(path, meta, model, norm)):
        warnings.warn(f"{path}: {other}; it may compute something else", stacklevel=2)
    with _explained(path):
        return _model(meta, arrays, model, norm).eval()


def resume(
    path: str | os.PathLike[str],
    *,
    model: Layer | None = None,
    norm: str | Callable[..., Any] | Factory | None = None,
    splits: Splits | None = None,
    schedule: Callable[[int], float] | None = None,
    augment: Augmentation | None = None,
    progress: str = "auto",
) -> Trainer:
    """Return a trainer that goes on where the saved one was; on a CPU it computes the same bits.

    Args:
        path: a file that :func:`save` wrote.
        model: needed only for a network that ``models.build`` did not make.
        norm: the function that made the norms, as in :func:`load_model`; here its file must be the very same.
        splits: the saved trainer's; None loads them with ``data.load(name, seed=...)`` and the trainer's seed, where
            the name holds an absolute path. Where such data moved, load them from their new place with that seed.
        schedule: needed only for one that is not of ``training.schedules``.
        augment: needed only for an augmentation that is not one of ``data.augment``.
        progress: as in :class:`Trainer`.

    Raises:
        CheckpointError: the file is missing, damaged, of another version, or does not fit what was given;
            or its data, or the code of a norm of the reader's own, are not what they were.
        OwnCodeError: the norm's code cannot be used.
        DataError: the data cannot be read.
    """
    meta, arrays = _read(path)
    if other := _other_norm(meta, norm := _own_norm(path, meta, model, norm)):
        raise CheckpointError(f"{path}: {other}; only the same code goes on to the same bits: restore it or train anew")
    with _explained(path):
        model = _model(meta, arrays, model, norm)
        optimizer = described.rebuild(meta["optimizer"], described.OPTIMIZERS, model.parameters())
        optimizer.load_state_dict(_under("optimizer/", arrays))
        history = History.from_dict(meta["history"])
    if splits is None:
        splits = load_data(path, meta)
    with _explained(path):
        if fingerprint(splits) != meta["data"]["fingerprint"]:
            raise CheckpointError(f"it was trained on other data than {splits.name!r} holds now: give it its own data")
        trainer = Trainer(
            model,
            described.rebuild(meta["loss"], described.LOSSES),
            optimizer,
            splits,
            batch_size=meta["batch_size"],
            schedule=described.rebuild(meta["schedule"], described.SCHEDULES) if schedule is None else schedule,
            clip_norm=meta["clip_norm"],
            augment=described.rebuild_augmentation(meta["augment"]) if augment is None else augment,
            seed=meta["seed"],
            report_every=meta["report_every"],
            progress=progress,
        )
        done = len(history) * len(trainer.batches)
        history.cut(len(history), sum(step <= done for step in history.steps))  # earlier versions kept half epochs
        trainer.epoch, trainer.history = len(history), history
        _set_generators(trainer.rng, model.generators(), meta["generators"])
    return trainer


def load_data(path: str | os.PathLike[str], meta: Mapping[str, Any]) -> Splits:
    """Load the data that a checkpoint was trained on.

    Args:
        path: of the checkpoint, for the sentences.
        meta: what :func:`load_meta` says.

    Raises:
        DataError: they cannot be read; the sentence says how to name their new place.
        CheckpointError: they are none that ``data.load`` knows.
    """
    name, seed = meta["data"]["name"], meta["data"]["seed"]
    try:
        return data.load(name, seed=seed)
    except data.DataError as error:
        raise data.DataError(
            f"{error} ({path} was trained on {name}; if that moved, name its new place: --dataset, in Python splits=)"
        ) from None
    except ValueError:
        raise CheckpointError(
            f"{path} was trained on {name!r}, which data.load does not know: pass its splits, in Python splits="
        ) from None


def _own_norm(
    path: object, meta: Mapping[str, Any], model: Layer | None, given: str | Callable[..., Any] | Factory | None
) -> Factory | None:
    """Return the norm of the reader's own that a checkpoint needs, if it needs one and if it was given."""
    stored = None if meta["model"] is None else meta["model"]["norm"]
    if model is not None or not isinstance(stored, dict):
        if given is not None:
            has = (
                "given a whole model" if model is not None else f"of norm {stored!r}" if stored else "no built network"
            )
            raise CheckpointError(f"{path} is {has}: leave norm out")
        return None
    if given is None:
        raise CheckpointError(
            f"{path} has a norm of your own, {stored['factory']}, whose code it does not run by itself: name it again, "
            f"--norm {stored['factory']}, in Python norm="
        )
    return factories.find(given)


def _other_norm(meta: Mapping[str, Any], norm: Factory | None) -> str:
    """Return how a given norm is not the one that was trained with; empty if it is."""
    return "" if norm is None else factories.differs(meta["model"]["norm"], norm)


def _model(
    meta: Mapping[str, Any], arrays: Mapping[str, Array], model: Layer | None, norm: Factory | None = None
) -> Layer:
    state = _under("model/", arrays)
    if model is None:
        if meta["model"] is None:
            raise CheckpointError("it holds a network that models.build did not make: pass model= with its layers")
        # No size of the network exceeds the number of its weights: a forged one must not take the memory.
        weights = sum(array.size for array in state.values())
        for name in ("num_classes", "num_components"):
            if meta["model"][name] > weights:
                raise CheckpointError(f"{name} is {meta['model'][name]} but there are {weights} weights in all")
        width = meta["model"].get("width", 1.0)
        if (64 * width) * (
            64 * width
        ) > weights:  # every network has two layers of this size at least, one after another
            raise CheckpointError(f"width is {width:g} but there are {weights} weights in all")
        if math.prod(meta["model"]["image_shape"]) > max(weights, 2**20):
            raise CheckpointError(f"images {meta['model']['image_shape']} are too large for {weights} weights")
        model = models.build(**meta["model"] | ({} if norm is None else {"norm": norm}))
    model.load_state_dict(state)
    return model


def _set_generators(own: Generator, layers: Mapping[str, Generator], states: Mapping[str, Any]) -> None:
    if layers.keys() != states["model"].keys():
        raise CheckpointError(f"its random layers are {sorted(states['model'])}, the model's {sorted(layers)}")
    for generator, state in [(own, states["trainer"]), *((layers[name], states["model"][name]) for name in layers)]:
        generator.bit_generator.state = state


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a wrong content raises into one sentence that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} is no usable checkpoint: {message(error)}") from error


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    content, arrays = archive.read(path)
    return header.parse(path, content), arrays
