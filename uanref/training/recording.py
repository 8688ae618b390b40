"""What a training looked like inside at some moments: the data of ``uanref replay``, and their file.

A file is a compressed ``.npz`` of plain numbers with one text, JSON, in the member ``meta``. It is read as if a
stranger had written it: every field is checked, and what is text stays text.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np  # noqa: TID251  a recording is the host's

from uanref import files, npz
from uanref.backend import Array
from uanref.reasons import reason
from uanref.training import recording_checks
from uanref.training.history import Epoch
from uanref.training.recording_checks import BINS as BINS
from uanref.training.recording_checks import SAMPLES as SAMPLES
from uanref.training.recording_checks import RecordingError as RecordingError


@dataclass(frozen=True)
class NormRecording:
    """Some channels of one norm layer over T moments: C <= 4 channels, B = 32 bins, E <= 8 activations, K components.

    Arrays of numbers are float32 where nothing else is said.

    Attributes:
        name: the layer's dotted path in the model.
        kind: the name of its class; ``"UAN (EM)"`` where EM moves the mixture.
        mode: what it normalizes by: ``"batch"`` or ``"learned"`` statistics, where ``prior_logits`` is not None of a
            mixture per channel; ``"sample"``, ``"joint"`` (one posterior for all channels together), ``"gate"``,
            ``"public"`` (the authors' released layer) or ``"own"``, the reader's own code.
        eps: that is added to variances; 0 where a layer has none.
        rescale: whether a mixture's output is multiplied by 1 / sqrt(K).
        shared_prior: whether one prior serves all channels of a mixture.
        channels: which channels of the layer's input these are, ``(C,)``, integers.
        counts: histograms of the channels' activations in the batch, ``(T, C, B)``, integers; of a large batch not
            all are counted.
        low, high: the ends of the histograms, ``(T, C)``.
        mean, variance: moments of the batch, ``(T, C)``: BN's Gaussian. The variance is the biased one.
        gamma, beta: ``(T, C)``; 1 and 0 where a layer has none.
        samples: E activations of the batch, those of one entry from the same place of the batch, ``(T, E, C)``.
        prior_logits: a, of lambda = softmax_k(a), ``(T, K, C)``; None but for a mixture per channel, as the next two.
        component_mean: mu, ``(T, K, C)``.
        raw_variance: s, of sigma^2 = softplus(s), ``(T, K, C)``.
        moment_mean, moment_variance: the posterior-weighted moments of the batch by which each component is
            standardized, ``(T, K, C)``; None with learned statistics.
    """

    name: str
    kind: str
    mode: str
    eps: float
    rescale: bool
    shared_prior: bool
    channels: Array
    counts: Array
    low: Array
    high: Array
    mean: Array
    variance: Array
    gamma: Array
    beta: Array
    samples: Array
    prior_logits: Array | None = None
    component_mean: Array | None = None
    raw_variance: Array | None = None
    moment_mean: Array | None = None
    moment_variance: Array | None = None


@dataclass(frozen=True)
class Recording:
    """One training, looked at T times.

    Attributes:
        norm, lr, seed, dataset, model: what was trained.
        steps: the moments, ``(T,)``, integers: how many updates came before; 0 is the network as it was made.
        loss, accuracy: of the batch at that moment, ``(T,)``, float64.
        gradient_norms: by the dotted name of each layer with trained weights the norm of all its gradients, ``(T,)``,
            float64; before clipping.
        steps_per_epoch: how many updates an epoch has.
        epochs: those that ended.
        layers: the norm layers, from the input to the output.
        stopped: why training ended early, empty if it did not.
    """

    norm: str
    lr: float
    seed: int
    dataset: str
    model: str
    steps: Array
    loss: Array
    accuracy: Array
    gradient_norms: dict[str, Array]
    steps_per_epoch: int
    epochs: tuple[Epoch, ...]
    layers: tuple[NormRecording, ...]
    stopped: str = ""


_TEXTS = ("name", "kind", "mode", "eps", "rescale", "shared_prior")
_PARTS = tuple(field.name for field in fields(NormRecording) if field.name not in _TEXTS)


def write(path: str | os.PathLike[str], recording: Recording) -> None:
    """Write the file whole or not at all.

    Raises:
        OSError: it cannot be written; an older file of this name is left as it was.
    """
    files.write_bytes(path, encode(recording))


def encode(recording: Recording) -> bytes:
    """Return the bytes of a recording's file."""
    meta: dict[str, Any] = {
        key: getattr(recording, key) for key in ("norm", "lr", "seed", "dataset", "model", "steps_per_epoch", "stopped")
    }
    meta["format"] = recording_checks.FORMAT
    meta["gradients"] = list(recording.gradient_norms)
    meta["layers"] = [{key: getattr(layer, key) for key in _TEXTS} for layer in recording.layers]
    epochs = np.array([[getattr(epoch, part.name) for part in fields(Epoch)] for epoch in recording.epochs])
    arrays = {
        "steps": recording.steps,
        "loss": recording.loss,
        "accuracy": recording.accuracy,
        "gradients": np.array(list(recording.gradient_norms.values())).reshape(-1, len(recording.steps)),
        "epochs": np.where(np.isinf(epochs), np.nan, epochs).reshape(-1, len(fields(Epoch))),
    }
    for i, layer in enumerate(recording.layers):
        arrays |= {f"{i}.{part}": getattr(layer, part) for part in _PARTS if getattr(layer, part) is not None}
    text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    return npz.packed({"meta": text} | arrays)


def read(path: str | os.PathLike[str]) -> Recording:
    """Return the recording that a file holds.

    Raises:
        RecordingError: the file is missing, no plain file, damaged, or holds what no recording holds.
    """
    try:
        arrays = npz.read(path, largest=recording_checks.LARGEST, what="a recording")
        meta = recording_checks.text_of(arrays.pop("meta", None))
        recording_checks.check(meta, arrays, _PARTS)
    except (npz.NpzError, RecordingError) as error:
        raise RecordingError(f"{path} {error}") from error
    except FileNotFoundError:
        raise RecordingError(f"{path} does not exist: name a recording that uanref wrote") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise RecordingError(f"{path} cannot be read: {reason(error)}") from error
    layers = tuple(
        NormRecording(**one, **{part: arrays.get(f"{i}.{part}") for part in _PARTS})  # type: ignore[arg-type]
        for i, one in enumerate(meta.pop("layers"))
    )
    names = meta.pop("gradients")
    del meta["format"]
    return Recording(
        **meta,
        steps=arrays["steps"],
        loss=arrays["loss"],
        accuracy=arrays["accuracy"],
        gradient_norms=dict(zip(names, arrays["gradients"], strict=True)),
        epochs=tuple(Epoch(int(row[0]), *(float(number) for number in row[1:])) for row in arrays["epochs"]),
        layers=layers,
    )
