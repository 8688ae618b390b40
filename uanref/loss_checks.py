"""What a loss is given, looked at before anything is computed: each refusal is one sentence."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array


def check_backends(prediction: Array, targets: Array) -> None:
    """Refuse what is no array (None as well, which ``backend.namespace`` skips) and two that lie apart.

    Raises:
        TypeError: something is no array.
        BackendMismatch: they lie apart.
    """
    if targets is None:
        raise TypeError("expected targets as a NumPy or CuPy array, got None: a loss compares with something")
    backend.name_of(prediction)
    backend.namespace(prediction, targets)


def check_float(name: str, array: Array) -> None:
    """Refuse what is not floating point."""
    backend.check_float(f"{name} must be floating point,", array)


def check_same_shape(loss: str, name: str, prediction: Array, target: Array) -> None:
    """Refuse targets of another shape or dtype than what they are compared with.

    Raises:
        ValueError: another shape.
        TypeError: another dtype.
    """
    if target.shape != prediction.shape:
        hint = ", or integer labels (N,)" if name == "logits" else ""
        raise ValueError(
            f"{loss} got targets of shape {backend.shape_text(target.shape)} for {name} of shape "
            f"{backend.shape_text(prediction.shape)}: give targets of the same shape{hint}"
        )
    if target.dtype != prediction.dtype:
        raise TypeError(
            f"{loss} got targets of {target.dtype} for {name} of {prediction.dtype}: "
            f"convert them with targets.astype('{prediction.dtype}')"
        )


def check_labels(labels: Array, samples: int, classes: int) -> None:
    """Refuse labels that are no integers of shape (N,) or, on the host, out of range.

    Raises:
        TypeError: booleans.
        ValueError: another dtype or shape, or a label out of range.
    """
    if labels.dtype.kind == "b" or labels.shape != (samples,):
        raise (TypeError if labels.dtype.kind == "b" else ValueError)(
            f"labels must be integers of shape ({samples},), got {labels.dtype} of shape "
            f"{backend.shape_text(labels.shape)}: convert one-hot rows to the logits' dtype to use them as soft targets"
        )
    if backend.name_of(labels) == "numpy":  # reading values from a device would make it wait
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"label {low if low < 0 else high} is out of range: logits with {classes} classes take "
                f"labels 0 to {classes - 1}"
            )
