"""The moments of a recording on the host: from what was read off the device, and into the arrays of a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np  # noqa: TID251  all of this is the host's

from uanref import backend
from uanref.backend import Array
from uanref.training.looking import Place
from uanref.training.recording import NormRecording, Recording
from uanref.training.recording_checks import BINS, cleaned

_NOT_IN_TIME = ("name", "kind", "mode", "eps", "rescale", "shared_prior", "channels")
PARTS = tuple(field.name for field in fields(NormRecording) if field.name not in _NOT_IN_TIME)


@dataclass(frozen=True)
class Moment:
    """One moment.

    Attributes:
        loss, accuracy: of the batch.
        gradients: the norm of all gradients of each layer, by its name.
        layers: by the norm layers' names, what stands at this moment in each of the :data:`PARTS` that it has.
    """

    loss: float
    accuracy: float
    gradients: dict[str, float]
    layers: dict[str, dict[str, Array]]


def owners(parameters: Iterable[str]) -> list[str]:
    """Return the layers whose the parameters of these names are."""
    return [cleaned(name.rpartition(".")[0]) for name in parameters]


def of_numbers(numbers: Array, size: int, layers: Sequence[str]) -> tuple[float, float, dict[str, float]]:
    """Return loss, accuracy and gradient norms by layer, from what a trainer's step returns.

    Args:
        numbers: on the host; they end with loss x samples, the gradients' norms, and the number of correct answers.
        size: of the batch.
        layers: whose gradients they are, see :func:`owners`.
    """
    loss, *norms, correct = numbers[-len(layers) - 2 :].tolist()
    by_layer: dict[str, list[float]] = {}
    for layer, norm in zip(layers, norms, strict=True):
        by_layer.setdefault(layer, []).append(norm)
    return loss / size, correct / size, {layer: math.hypot(*each) for layer, each in by_layer.items()}


def on_host(taken: Mapping[str, Array]) -> dict[str, Array]:
    """Return what :func:`~uanref.training.looking.look` took, read from its device."""
    return {name: np.asarray(backend.to_host(array)) for name, array in taken.items()}


def of_looks(place: Place, looks: Sequence[Mapping[str, Array]]) -> list[dict[str, Array] | None]:
    """Return a layer's parts at some moments, from what was taken of it there; None where a number is not finite.

    All moments go through it at once: on their own they would cost more than the step that they look at.
    """
    groups: dict[tuple[int, ...], list[int]] = {}  # a last batch may be smaller
    for i, look in enumerate(looks):
        groups.setdefault(look["values"].shape, []).append(i)
    found: list[dict[str, Array] | None] = [None for _ in looks]
    for chosen in groups.values():
        host = {name: np.stack([looks[i][name] for i in chosen]) for name in looks[chosen[0]]}
        parts = _parts(place, host)
        finite = np.all([np.isfinite(part).reshape(len(chosen), -1).all(axis=1) for part in parts.values()], axis=0)
        for t, i in enumerate(chosen):
            if finite[t]:
                found[i] = {name: part[t] for name, part in parts.items()}
    return found


def _parts(place: Place, host: Mapping[str, Array]) -> dict[str, Array]:
    """Return the parts of a layer's recording from what was taken of it, all with an axis of moments in front."""
    values = host["values"].astype(np.float64)  # (T, C, n)
    moments, channels, _ = values.shape
    counts, low, high = histograms(values)
    parts = {
        "counts": counts.astype(np.uint16),
        "low": low,
        "high": high,
        "mean": host["mean"] if "mean" in host else values.mean(axis=2),
        "variance": host["variance"] if "variance" in host else values.var(axis=2),
        "gamma": host.get("gamma", np.ones((moments, channels))),
        "beta": host.get("beta", np.zeros((moments, channels))),
        "samples": host["samples"].swapaxes(1, 2),
    }
    if place.is_mixture:
        mean = parts["component_mean"] = host["component_mean"]
        parts["prior_logits"] = np.broadcast_to(host["prior_logits"], mean.shape)
        raw = host.get("raw_variance")
        parts["raw_variance"] = _raw(host["variance_with_eps"], place.eps) if raw is None else raw
        parts |= {name: host[name] for name in ("moment_mean", "moment_variance") if name in host}
    return {name: part if name == "counts" else part.astype(np.float32) for name, part in parts.items()}


def histograms(values: Array) -> tuple[Array, Array, Array]:
    """Return counts ``(T, C, BINS)`` and ends ``(T, C)`` of the histograms of ``values (T, C, n)``, float64.

    Bins are equally wide; those of a constant channel lie around its value, as ``numpy.histogram`` has them.
    """
    low, high = values.min(axis=2), values.max(axis=2)
    constant = low == high
    low, high = low - 0.5 * constant, high + 0.5 * constant
    width = np.maximum(high - low, np.finfo(np.float64).tiny)[..., None]
    place = np.nan_to_num((values - low[..., None]) / width * BINS).clip(0, BINS - 1).astype(np.int64)
    place += BINS * np.arange(low.size).reshape(*low.shape, 1)
    return np.bincount(place.ravel(), minlength=BINS * low.size).reshape(*low.shape, BINS), low, high


def stacked(place: Place, channels: Sequence[int], moments: Sequence[Mapping[str, Array]]) -> NormRecording:
    """Return a layer's recording out of its moments."""
    return NormRecording(
        name=cleaned(place.name),
        kind=cleaned(place.kind),
        mode=place.mode,
        eps=place.eps,
        rescale=place.rescale,
        shared_prior=place.shared_prior,
        channels=np.array(channels, dtype=np.int64),
        **{part: np.stack([moment[part] for moment in moments]) for part in PARTS if part in moments[0]},
    )


def moments_of(recording: Recording) -> dict[int, Moment]:
    """Return the moments of a recording by their steps."""
    found = {}
    for i, step in enumerate(recording.steps.tolist()):
        gradients = {layer: float(norms[i]) for layer, norms in recording.gradient_norms.items()}
        layers = {
            layer.name: {part: array[i] for part in PARTS if (array := getattr(layer, part)) is not None}
            for layer in recording.layers
        }
        found[step] = Moment(float(recording.loss[i]), float(recording.accuracy[i]), gradients, layers)
    return found


def _raw(variance_with_eps: Array, eps: float) -> Array:
    """Return s with softplus(s) = the variance."""
    variance = np.maximum(variance_with_eps.astype(np.float64) - eps, 1e-12)
    raw: Array = variance + np.log(-np.expm1(-variance))
    return raw
