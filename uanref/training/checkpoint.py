"""Checkpoints: one ``.npz`` file without pickle that holds a whole training run.

The arrays of model and optimizer are members of the archive; all else is one JSON text in the
member ``meta``. Writing goes to a temporary file beside the target, which is renamed when it is
complete: a failure on the way leaves the old file. Reading trusts nothing: members are
uncompressed, so no array can be larger than the file, and their headers are checked against their
sizes before anything is made of them.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uanref import data, losses, models
from uanref.backend import Array, Generator, shape_text
from uanref.data import augment as augmentations
from uanref.data.augment import Augmentation
from uanref.data.splits import Splits
from uanref.layers.base import Layer
from uanref.training import optimizers, schedules
from uanref.training.history import History
from uanref.training.trainer import Trainer

FORMAT = "uanref checkpoint"
VERSION = 1
_KEYS = (
    *("model", "data", "loss", "optimizer", "schedule", "augment"),
    *("batch_size", "clip_norm", "report_every", "seed", "epoch", "generators", "history"),
)

# What a checkpoint may name, by the class's own name.
_LOSSES = (losses.SoftmaxCrossEntropy, losses.MSE)
_OPTIMIZERS = (optimizers.SGD, optimizers.Adam, optimizers.AdamW)
_SCHEDULES = (schedules.Constant, schedules.StepDecay, schedules.Cosine)
_AUGMENTATIONS = (augmentations.Shift, augmentations.Crop, augmentations.Flip)


class CheckpointError(ValueError):
    """A file that is no usable checkpoint, or a run that cannot be saved; the message says what is wrong."""


# --- saving ---------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], trainer: Trainer) -> None:
    """Write the model, the optimizer and all that a bit-identical continuation needs.

    After Ctrl-C a continuation starts the unfinished epoch anew, from the weights as they are now.

    Raises:
        CheckpointError: the model or the optimizer holds NaN or infinity; nothing is written.
        OSError: the file cannot be written; an older file of this name is left as it was.
    """
    model, optimizer = trainer.model, trainer.optimizer
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"optimizer/{name}": array for name, array in optimizer.state_dict().items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} is not finite: a diverged run is not saved")
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.config if isinstance(model, models.Model) else None,
        "data": {"name": trainer.splits.name, "seed": trainer.seed, "fingerprint": fingerprint(trainer.splits)},
        "loss": _describe(trainer.loss, _LOSSES),
        "optimizer": _describe(optimizer, _OPTIMIZERS),
        "schedule": _describe(trainer.schedule, _SCHEDULES),
        "augment": _describe_augmentation(trainer.augment),
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
    _write(Path(path), arrays | {"meta": np.frombuffer(text.encode(), dtype=np.uint8)})


def fingerprint(splits: Splits) -> int:
    """Return a checksum of the training and validation sets: equal for equal data."""
    total = 0
    for dataset in (splits.train, splits.validation):
        for array in (dataset.images, dataset.labels):
            total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return total


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file to write")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C as well
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


# --- loading --------------------------------------------------------------------------------------


def load_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint says about its run, without building anything.

    Keys: ``model`` (the arguments of ``models.build``, or None), ``data`` (``name``, ``seed``, ``fingerprint``),
    ``loss``, ``optimizer``, ``schedule``, ``augment`` (each ``{"kind": ..., its arguments}`` or None),
    ``batch_size``, ``clip_norm``, ``report_every``, ``seed``, ``epoch``, ``generators``, ``history``.

    Raises:
        CheckpointError: the file is missing, damaged or of another version.
    """
    return _read(path)[0]


def load_model(path: str | os.PathLike[str], model: Layer | None = None) -> Layer:
    """Rebuild the trained model, in eval mode.

    Args:
        path: a file that :func:`save` wrote.
        model: receives the weights; needed only for a network that ``models.build`` did not make.

    Raises:
        CheckpointError: the file is missing, damaged, of another version or does not fit the model.
    """
    meta, arrays = _read(path)
    with _explained(path):
        return _model(meta, arrays, model).eval()


def resume(
    path: str | os.PathLike[str],
    *,
    model: Layer | None = None,
    splits: Splits | None = None,
    schedule: Callable[[int], float] | None = None,
    augment: Augmentation | None = None,
    progress: str = "auto",
) -> Trainer:
    """Return a trainer that goes on where the saved one was; on a CPU it computes the same bits.

    Args:
        path: a file that :func:`save` wrote.
        model: needed only for a network that ``models.build`` did not make.
        splits: the saved trainer's; None loads them with ``data.load(name, seed=...)`` and the trainer's seed.
        schedule: needed only for one that is not of ``training.schedules``.
        augment: needed only for an augmentation that is not one of ``data.augment``.
        progress: as in :class:`Trainer`.

    Raises:
        CheckpointError: the file is missing, damaged, of another version, or does not fit what was given;
            or its data are not what they were.
        DataError: the data cannot be read.
    """
    meta, arrays = _read(path)
    with _explained(path):
        model = _model(meta, arrays, model)
        optimizer = _rebuild(meta["optimizer"], _OPTIMIZERS, model.parameters())
        optimizer.load_state_dict(_under("optimizer/", arrays))
        history = History.from_dict(meta["history"])
        name, seed = str(meta["data"]["name"]), int(meta["data"]["seed"])
    if splits is None:
        splits = data.load(name, seed=seed)
    with _explained(path):
        if fingerprint(splits) != meta["data"]["fingerprint"]:
            raise CheckpointError(f"it was trained on other data than {splits.name!r} holds now: pass its own splits")
        trainer = Trainer(
            model,
            _rebuild(meta["loss"], _LOSSES),
            optimizer,
            splits,
            batch_size=meta["batch_size"],
            schedule=_rebuild(meta["schedule"], _SCHEDULES) if schedule is None else schedule,
            clip_norm=meta["clip_norm"],
            augment=_rebuild_augmentation(meta["augment"]) if augment is None else augment,
            seed=meta["seed"],
            report_every=meta["report_every"],
            progress=progress,
        )
        if meta["epoch"] != len(history):
            raise CheckpointError(f"it is at epoch {meta['epoch']} but its history holds {len(history)}")
        trainer.epoch, trainer.history = len(history), history
        _set_generators(trainer.rng, model.generators(), meta["generators"])
    return trainer


def _model(meta: Mapping[str, Any], arrays: Mapping[str, Array], model: Layer | None) -> Layer:
    state = _under("model/", arrays)
    if model is None:
        if meta["model"] is None:
            raise CheckpointError("it holds a network that models.build did not make: pass model= with its layers")
        # No size of the network exceeds the number of its weights: a forged one must not take the memory.
        weights = sum(array.size for array in state.values())
        for name in ("num_classes", "num_components"):
            if meta["model"][name] > weights:
                raise CheckpointError(f"{name} is {meta['model'][name]} but there are {weights} weights in all")
        if math.prod(meta["model"]["image_shape"]) > max(weights, 2**20):
            raise CheckpointError(f"images {meta['model']['image_shape']} are too large for {weights} weights")
        model = models.build(**meta["model"])
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
        text = error.args[0] if isinstance(error, KeyError) else error  # str() would put quotes around it
        raise CheckpointError(f"{path} is no usable checkpoint: {text}") from error


# --- objects as JSON ------------------------------------------------------------------------------
# Optimizers, schedules, losses and augmentations keep every constructor argument under its own name.


def _describe(thing: object | None, known: tuple[type, ...]) -> dict[str, Any] | None:
    if thing is None:
        return None
    if type(thing) not in known:
        return {"kind": None, "name": type(thing).__name__}
    return {"kind": type(thing).__name__} | {name: getattr(thing, name) for name in _arguments(type(thing))}


def _rebuild(described: Mapping[str, Any] | None, known: tuple[type, ...], *first: Any) -> Any:
    if described is None:
        return None
    for kind in known:
        if kind.__name__ == described["kind"]:
            return kind(*first, **{name: described[name] for name in _arguments(kind)})
    raise CheckpointError(f"it used {described.get('name') or described['kind']}, which is none of uanref's own")


def _arguments(kind: type) -> list[str]:
    """Return the constructor's arguments, without an optimizer's parameters and its rate, which is state."""
    unsaved = ("parameters", "lr") if issubclass(kind, optimizers.Optimizer) else ()
    return [name for name in inspect.signature(kind).parameters if name not in unsaved]


def _describe_augmentation(augment: Augmentation | None) -> list[dict[str, Any] | None]:
    if augment is None:
        return []
    chain = augment.augmentations if isinstance(augment, augmentations.Chain) else (augment,)
    return [_describe(one, _AUGMENTATIONS) for one in chain]


def _rebuild_augmentation(described: list[Mapping[str, Any]]) -> Augmentation | None:
    chain = [_rebuild(one, _AUGMENTATIONS) for one in described]
    return augmentations.Chain(*chain) if chain else None


# --- the file -------------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the meta data and all arrays of a checkpoint, every one of them checked."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):  # a pipe would never end
        raise CheckpointError(f"{path} is no plain file: name a file that uanref saved")
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > size:
                raise CheckpointError(f"{path} is compressed or claims more than it holds: uanref did not write it")
            arrays = {m.filename.removesuffix(".npy"): _array(path, m.filename, archive.read(m)) for m in members}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: name a file that uanref saved") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or damaged or cut short ({error})") from error

    try:
        meta = json.loads(arrays.pop("meta").tobytes().decode())
        is_ours = meta["format"] == FORMAT
        version = meta["version"]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of uanref: it has no readable meta data") from error
    if not is_ours:
        raise CheckpointError(f"{path} is not a checkpoint of uanref: its format is {meta['format']!r}")
    if version != VERSION:
        raise CheckpointError(f"{path} has format version {version!r}, this uanref reads version {VERSION}")
    if missing := [key for key in _KEYS if key not in meta]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: it is damaged")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path} holds NaN or infinity in {name}: it is damaged")
    return meta, arrays


def _array(path: str | os.PathLike[str], name: str, content: bytes) -> Array:
    """Make an array of an ``.npy`` member: numbers alone, of exactly the size that its header tells."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"unknown .npy version {version}")
    except ValueError as error:
        raise CheckpointError(f"{path} holds something else than an array in {name}") from error
    if dtype.hasobject:
        raise CheckpointError(f"{path} holds pickled objects in {name}: they are never loaded")
    if dtype.kind not in "fiub" or min(shape, default=0) < 0:
        raise CheckpointError(f"{path} holds no plain numbers in {name} but {dtype} of shape {shape_text(shape)}")
    rest = content[stream.tell() :]
    if len(rest) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{path} claims shape {shape_text(shape)} in {name} but holds {len(rest)} bytes there")
    return np.frombuffer(rest, dtype=dtype).reshape(shape, order="F" if fortran else "C")
