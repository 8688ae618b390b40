"""What a recording's file must hold: each text, each shape, each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np  # noqa: TID251  what comes from a file is the host's

from uanref import files
from uanref.backend import Array, shape_text
from uanref.training import checks
from uanref.training.history import Epoch

FORMAT = 1
BINS = 32
SAMPLES = 8
CHANNELS = 4
MODES = ("batch", "learned", "sample", "joint", "gate", "public", "own")
LARGEST = 1 << 26
"""Bytes that all arrays of a recording together may have."""

_LONGEST = 500  # of a text
_MOST = 10_000  # moments, components, gradients, layers, epochs
_EPOCH_FIELDS = len(fields(Epoch))
_LARGEST_WHOLE = 2**53  # which JSON and JavaScript still tell from its neighbours
_LARGEST_REAL = float(np.finfo(np.float32).max)
_MIXTURE = ("prior_logits", "component_mean", "raw_variance")
_MOMENTS = ("moment_mean", "moment_variance")


class RecordingError(ValueError):
    """A file that is no usable recording; the message says what is wrong."""


def text_of(member: Array | None) -> dict[str, Any]:
    """Return what the member ``meta`` says.

    Raises:
        RecordingError: it is missing or no JSON of a recording; the sentence lacks its subject, the file.
    """
    if member is None or member.dtype != np.uint8 or member.ndim != 1:
        raise RecordingError("is not a recording of uanref: it has no readable meta data")
    try:
        meta = files.parse_json(member.tobytes())
        _check_version(meta)
        _META("", meta)
    except ValueError as error:  # CheckpointError is one
        raise RecordingError(str(error)) from error
    assert isinstance(meta, dict)
    return meta


def _check_version(meta: object) -> None:
    """Refuse another version before its fields are: they may be others.

    Raises:
        RecordingError: the sentence lacks its subject, the file.
    """
    version = meta.get("format", FORMAT) if isinstance(meta, dict) else FORMAT
    if type(version) is int and version != FORMAT:
        raise RecordingError(
            f"has format version {checks.short(version)}, this uanref reads version {FORMAT}: "
            "record the training again, or use the uanref that wrote it"
        )


def cleaned(text: str) -> str:
    """Return a text as a recording may hold it: shorter, without line ends and what else no terminal shows."""
    text = text[:_LONGEST]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _shown(field: str, value: Any) -> None:
    checks.text(field, value)
    if len(value) > _LONGEST or not value.isprintable():
        checks.refuse(field, f"a text of at most {_LONGEST} characters that a terminal can show", value)


def _named(field: str, value: Any) -> None:
    checks.many(_shown)(field, value)
    if len(set(value)) < len(value) or len(value) > _MOST:
        checks.refuse(field, "names, each once", value)


_LAYER = checks.record(
    name=_shown,
    kind=_shown,
    mode=checks.one_of(*MODES),
    eps=checks.real(0.0),
    rescale=checks.flag,
    shared_prior=checks.flag,
)

_META = checks.record(
    norm=_shown,
    lr=checks.real(0.0),
    seed=checks.whole(most=None),
    dataset=_shown,
    model=_shown,
    steps_per_epoch=checks.whole(1),
    stopped=_shown,
    format=checks.whole(FORMAT, FORMAT),
    gradients=_named,
    layers=checks.many(_LAYER),
)


def check(meta: Mapping[str, Any], arrays: Mapping[str, Array], parts: Sequence[str]) -> None:
    """Refuse arrays that are not those of a recording.

    Args:
        meta: that :func:`text_of` returned.
        arrays: by the names of the file's members.
        parts: of every layer, in order.

    Raises:
        RecordingError: the sentence lacks its subject, the file.
    """
    moments = len(arrays["steps"]) if "steps" in arrays and arrays["steps"].ndim == 1 else 0
    if not 0 < moments <= _MOST:
        raise RecordingError("has no moments: it is damaged")
    shapes: dict[str, tuple[int | str, ...]] = {
        "steps": (moments,),
        "loss": (moments,),
        "accuracy": (moments,),
        "gradients": (len(meta["gradients"]), moments),
        "epochs": ("n", _EPOCH_FIELDS),
    }
    for i, layer in enumerate(meta["layers"]):
        shapes |= {f"{i}.{part}": shape for part, shape in _shapes(i, layer, arrays, moments, parts).items()}
    if missing := [name for name in shapes if name not in arrays]:
        raise RecordingError(f"lacks {missing[0]}: it is damaged")
    if unknown := [name for name in arrays if name not in shapes]:
        raise RecordingError(f"holds {checks.short(unknown[0])}, which this uanref does not know")
    for name, expected in shapes.items():
        array = arrays[name]
        if array.ndim != len(expected) or any(
            size != want and want != "n" for size, want in zip(array.shape, expected, strict=True)
        ):
            wanted = "(" + ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "") + ")"
            raise RecordingError(f"holds {name} of shape {shape_text(array.shape)}, expected {wanted}: it is damaged")
        _check_numbers(name, array)
    for i in range(len(meta["layers"])):
        if (arrays[f"{i}.low"] > arrays[f"{i}.high"]).any():
            raise RecordingError(f"holds histograms in layer {i} whose ends are the wrong way round: it is damaged")


def _shapes(
    i: int, layer: Mapping[str, Any], arrays: Mapping[str, Array], moments: int, parts: Sequence[str]
) -> dict[str, tuple[int | str, ...]]:
    """Return the shapes of the parts that layer ``i`` must have; the file says how many channels and so on there are.

    Raises:
        RecordingError: it says too many.
    """
    channels = _size(arrays, f"{i}.channels", 0, 1, CHANNELS)
    shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(parts, (moments, channels))
    shapes["channels"] = (channels,)
    shapes["counts"] = (moments, channels, BINS)
    shapes["samples"] = (moments, _size(arrays, f"{i}.samples", 1, 2, SAMPLES), channels)
    mixture = f"{i}.prior_logits" in arrays
    if mixture and layer["mode"] not in ("batch", "learned"):
        raise RecordingError(f"holds a mixture in layer {i}, whose mode is {layer['mode']}: it is damaged")
    components = _size(arrays, f"{i}.prior_logits", 1, 1, _MOST) if mixture else 0
    for part in (*_MIXTURE, *_MOMENTS):
        if mixture and (part in _MIXTURE or layer["mode"] == "batch"):
            shapes[part] = (moments, components, channels)
        else:
            del shapes[part]
    return shapes


def _size(arrays: Mapping[str, Array], name: str, axis: int, least: int, most: int) -> int:
    shape = arrays[name].shape if name in arrays else ()
    if len(shape) <= axis or not least <= shape[axis] <= most:
        raise RecordingError(f"has no usable {name}: it is damaged")
    size: int = shape[axis]
    return size


def _check_numbers(name: str, array: Array) -> None:
    part = name.rpartition(".")[2]
    if part in ("steps", "channels", "counts"):
        if array.dtype.kind not in "iu" or (
            array.size and not 0 <= int(array.min()) <= int(array.max()) < _LARGEST_WHOLE
        ):
            raise RecordingError(f"holds other numbers than 0, 1, 2 ... in {name}: it is damaged")
        if part != "counts" and len(array) > 1 and not (array[1:] > array[:-1]).all():
            raise RecordingError(f"holds {name} out of order: it is damaged")
    elif array.dtype.kind != "f":
        raise RecordingError(f"holds {array.dtype} in {name}, expected floating point numbers")
    elif name == "epochs":
        _check_epochs(array)
    elif not np.isfinite(array).all():
        raise RecordingError(f"holds NaN or infinity in {name}: it is damaged")
    elif part != name and array.size and max(-float(array.min()), float(array.max())) > _LARGEST_REAL:
        raise RecordingError(f"holds numbers in {name} that are too large for float32: it is damaged")
    if part in ("variance", "moment_variance", "gradients") and (array < 0).any():
        raise RecordingError(f"holds negative numbers in {name}: it is damaged")
    if name == "accuracy" and ((array < 0) | (array > 1)).any():
        raise RecordingError("holds an accuracy beyond [0, 1]: it is damaged")


def _check_epochs(array: Array) -> None:
    """Refuse epochs that are not 1, 2, 3 ...; a loss may be NaN, which stands for infinity as well.

    Raises:
        RecordingError: the sentence lacks its subject, the file.
    """
    numbered = len(array) <= _MOST and (array[:, 0] == np.arange(1, len(array) + 1)).all()
    if not numbered or np.isinf(array).any():
        raise RecordingError("holds epochs that are none: it is damaged")
