"""All that a checkpoint's text may say: one table, one place where every field is held against it.

The text is JSON. What it says decides how much memory is asked for and what is put into generators, so every field's
type and range is checked before any of it is used; a sentence names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uanref import files, models
from uanref.training.archive import CheckpointError
from uanref.training.checks import (
    flag,
    kinds,
    many,
    named,
    nothing_or,
    one_of,
    real,
    record,
    refuse,
    short,
    text,
    whole,
)

FORMAT = "uanref checkpoint"
VERSION = 1

_U32, _U64, _U128 = (whole(0, 2**bits - 1) for bits in (32, 64, 128))
_SHARE, _POSITIVE, _NOT_NEGATIVE = real(0.0, 1.0, below=True), real(0.0, above=True), real(0.0)
_MEASURED = nothing_or(real())  # null stands for NaN and infinity, which JSON lacks


def _odd(field: str, value: Any) -> None:
    _U128(field, value)
    if value % 2 == 0:
        refuse(field, "an odd number", value)


_HALF = {"has_uint32": whole(0, 1), "uinteger": _U32}
_PCG = {"state": record(state=_U128, inc=_odd), **_HALF}
GENERATOR = kinds(
    "bit_generator",
    PCG64=_PCG,
    PCG64DXSM=_PCG,
    MT19937={"state": record(key=many(_U32, 624), pos=whole(0, 624))},
    Philox={
        "state": record(counter=many(_U64, 4), key=many(_U64, 2)),
        **{"buffer": many(_U64, 4), "buffer_pos": whole(0, 4)},
        **_HALF,
    },
    SFC64={"state": record(state=many(_U64, 4)), **_HALF},
)
_ADAM = {"betas": many(_SHARE, 2), "eps": _POSITIVE, "weight_decay": _NOT_NEGATIVE}
OPTIMIZER = kinds(
    "kind",
    SGD={"momentum": _SHARE, "nesterov": flag, "weight_decay": _NOT_NEGATIVE},
    Adam=_ADAM,
    AdamW=_ADAM,
)
SCHEDULE = kinds(
    "kind",
    Constant={"lr": _POSITIVE},
    StepDecay={"lr": _POSITIVE, "step_size": whole(1), "factor": real(0.0, 1.0, above=True)},
    Cosine={"lr": _POSITIVE, "total_steps": whole(1), "warmup_steps": whole(), "final_lr": _NOT_NEGATIVE},
)
LOSS = kinds("kind", SoftmaxCrossEntropy={"label_smoothing": real(0.0, 1.0)}, MSE={})
AUGMENTATION = kinds("kind", Shift={"max_shift": whole()}, Crop={"padding": whole()}, Flip={"p": real(0.0, 1.0)})


def _norm(field: str, value: Any) -> None:
    if isinstance(value, dict):  # of the reader's own code, which is never stored
        record(factory=text, digest=nothing_or(text))(field, value)
    else:
        one_of(*models.NORMS)(field, value)


def _image_shape(field: str, value: Any) -> None:
    many(whole(1), 1 if isinstance(value, list) and len(value) == 1 else 3)(field, value)  # vectors, or images


def _option(field: str, value: Any) -> None:
    if not isinstance(value, bool | str):
        real()(field, value)


_MODEL = {
    "model": one_of(*models.MODELS),
    "norm": _norm,
    "image_shape": _image_shape,
    "num_classes": whole(2),
    "num_components": whole(1),
    "seed": whole(0, None),
    "dtype": one_of("float32", "float64"),
}
_MODEL_OPTIONS = {"width": real(0.0, above=True), "norm_options": named(_option)}  # there only where they were given


def _model(field: str, value: Any) -> None:
    given = value if isinstance(value, dict) else {}
    record(**_MODEL, **{name: check for name, check in _MODEL_OPTIONS.items() if name in given})(field, value)


EPOCH = {
    "epoch": whole(1),
    "train_loss": _MEASURED,
    "train_accuracy": _MEASURED,
    "validation_loss": _MEASURED,
    "validation_accuracy": _MEASURED,
    "lr": _MEASURED,
}
REPORTS = {"steps": many(whole(1)), "gradient_norms": named(many(_MEASURED)), "stopped": text}
HISTORY = record(epochs=many(record(**EPOCH, seconds=_MEASURED)), **REPORTS)
HEADER = record(
    format=text,
    version=whole(),
    model=nothing_or(_model),
    data=record(name=text, seed=whole(0, None), fingerprint=_U32),
    loss=LOSS,
    optimizer=OPTIMIZER,
    schedule=nothing_or(SCHEDULE),
    augment=many(AUGMENTATION),
    batch_size=whole(1),
    clip_norm=nothing_or(_POSITIVE),
    report_every=nothing_or(whole(1)),
    seed=whole(0, None),
    epoch=whole(),
    generators=record(trainer=GENERATOR, model=named(GENERATOR)),
    history=HISTORY,
)


def parse(path: object, content: bytes) -> dict[str, Any]:
    """Return what the text of ``path`` says, every field checked.

    Raises:
        CheckpointError: it is no JSON, of another format or version, or a field is missing, unknown, of another
            type or out of range; one sentence with the file and the field.
    """
    try:
        meta: dict[str, Any] = files.parse_json(content)
        known = meta["format"], meta["version"]
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of uanref: it has no readable meta data") from error
    if known[0] != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of uanref: its format is {short(known[0])}")
    if type(known[1]) is not int or known[1] != VERSION:
        raise CheckpointError(f"{path} has format version {short(known[1])}, this uanref reads version {VERSION}")
    try:
        check(meta)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no usable checkpoint: it {error}") from None
    return meta


def check(meta: Any) -> None:
    """Hold a header against the table, and its parts against each other.

    Raises:
        CheckpointError: something in it is wrong; the sentence lacks its subject, the file.
    """
    HEADER("", meta)
    check_history(meta["history"], meta["epoch"])


def check_history(history: Mapping[str, Any], epoch: int) -> None:
    """Hold the parts of a history, each right by itself, against each other and the number of epochs.

    Raises:
        CheckpointError: they contradict each other.
    """
    if [one["epoch"] for one in history["epochs"]] != list(range(1, epoch + 1)):
        raise CheckpointError(f"is at epoch {epoch}, but history.epochs does not hold epochs 1 to {epoch}")
    if any(a >= b for a, b in zip(history["steps"], history["steps"][1:], strict=False)):
        raise CheckpointError("holds history.steps that do not grow: it is damaged")
    for name, norms in history["gradient_norms"].items():
        if len(norms) != len(history["steps"]):
            raise CheckpointError(
                f"holds {len(norms)} numbers in history.gradient_norms.{name} for {len(history['steps'])} reports: "
                "it is damaged"
            )
