"""Recordings as the plain data that the replay's scripts work on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np  # noqa: TID251  a recording is the host's

from uanref.backend import Array
from uanref.derivations import find
from uanref.replay.moments import derivation_of, scale
from uanref.stepping.page_data import mixture
from uanref.stepping.single import forward_only, single
from uanref.training.recording import NormRecording, Recording
from uanref.training.recording_checks import CHANNELS

DIGITS = 5
"""Significant digits of a number on the page."""

MORE = 4
"""At most so many more for activations: float32 has 9."""


FEWEST = 8
"""Moments that a page has at least, unless one channel of each layer alone is too much for it."""


def replay_data(recordings: Sequence[Recording], room: int) -> dict[str, Any]:
    """Return what the page's scripts work on.

    Args:
        recordings: to be shown.
        room: bytes that they may take on the page: longer ones lose every second moment until they fit, of deep
            networks channels as well.

    Returns:
        ``runs``: per recording its ``title`` and numbers, moments first; ``every``: which of the recorded moments the
        page holds, 1 for all of them; ``channels``: how many of each layer at most; ``derivations``: by name what
        computes a channel (:func:`forward_only`, and ``view``, the expressions to draw); ``single``: batch
        normalization's view of a channel.

    Raises:
        ValueError: they do not fit, whatever is left out.
    """
    for every, channels in _shorter(max(len(one.steps) for one in recordings)):
        runs = _runs(recordings, every, channels)
        if len(json.dumps(runs, separators=(",", ":"))) <= room:
            break
    else:
        layers = max(len(one.layers) for one in recordings)
        raise ValueError(
            f"what was recorded of {layers} norm layer{'s' * (layers > 1)} is too much for one page, even two moments "
            "of a single channel each: choose one run with --runs, or record a smaller network"
        )
    names = sorted({layer["derivation"] for run in runs for layer in run["layers"]} - {None})
    derivations = {name: _computed(name) for name in names}
    return {"runs": runs, "every": every, "channels": channels, "derivations": derivations, "single": single()}


def _shorter(moments: int) -> Iterator[tuple[int, int]]:
    """Yield which moments and how many channels stay, all of them first."""
    every = 1
    yield every, CHANNELS
    while moments > FEWEST * every:
        every *= 2
        yield every, CHANNELS
    for channels in (CHANNELS // 2, 1):
        yield every, channels
    while moments > 2 * every:
        every *= 2
        yield every, 1


def _computed(name: str) -> dict[str, Any]:
    # A prior that all channels share is, in one channel, a prior.
    derivation = find("uan" if name == "uan-shared" else name)
    return {**forward_only(derivation), "view": mixture(derivation), "title": find(name).title}


def _runs(recordings: Sequence[Recording], every: int, channels: int) -> list[dict[str, Any]]:
    titles = _titles(recordings)
    return [
        _run(one, title, _kept(len(one.steps), every), channels) for one, title in zip(recordings, titles, strict=True)
    ]


def _kept(moments: int, every: int) -> Array:
    """Return which moments stay: each ``every``-th, and the last."""
    return np.unique([*range(0, moments, every), moments - 1])


def _titles(recordings: Sequence[Recording]) -> list[str]:
    """Return what tells the runs apart."""
    rates = len({one.lr for one in recordings}) > 1
    found = [f"{one.norm}, seed {one.seed}" + (f", rate {one.lr:g}" if rates else "") for one in recordings]
    return found if len(set(found)) == len(found) else [f"{title} ({i + 1})" for i, title in enumerate(found)]


def _run(one: Recording, title: str, kept: Array, channels: int) -> dict[str, Any]:
    return {
        "title": title,
        "norm": one.norm,
        "rate": one.lr,
        "dataset": one.dataset,
        "model": one.model,
        "stopped": one.stopped,
        "stepsPerEpoch": one.steps_per_epoch,
        "steps": one.steps[kept].tolist(),
        "loss": _rounded(one.loss[kept]),
        "accuracy": _rounded(one.accuracy[kept]),
        "gradients": [{"name": name, "norm": _rounded(norm[kept])} for name, norm in one.gradient_norms.items()],
        "epochs": [
            {"step": epoch.epoch * one.steps_per_epoch, "accuracy": _rounded(np.asarray(epoch.validation_accuracy))}
            for epoch in one.epochs
            if math.isfinite(epoch.validation_accuracy)
        ],
        "layers": [_layer(layer, kept, channels) for layer in one.layers],
    }


def _layer(layer: NormRecording, kept: Array, channels: int) -> dict[str, Any]:
    places = ("low", "high", "mean", "samples", "componentMean", "momentMean")
    digits = _digits(layer)
    parts = {
        "low": layer.low,
        "high": layer.high,
        "mean": layer.mean,
        "variance": layer.variance,
        "gamma": layer.gamma,
        "scale": scale(layer),
        "beta": layer.beta,
        "samples": layer.samples,
        "priorLogits": layer.prior_logits,
        "componentMean": layer.component_mean,
        "rawVariance": layer.raw_variance,
        "momentMean": layer.moment_mean,
        "momentVariance": layer.moment_variance,
    }
    return {
        "name": layer.name,
        "kind": layer.kind,
        "mode": layer.mode,
        "eps": layer.eps,
        "rescaled": layer.rescale,
        "derivation": derivation_of(layer),
        "channels": layer.channels[:channels].tolist(),
        "counts": layer.counts[kept, :channels].tolist(),
        **{
            name: None if part is None else _rounded(part[kept][..., :channels], digits if name in places else DIGITS)
            for name, part in parts.items()
        },
    }


def _digits(layer: NormRecording) -> int:
    """Return how many significant digits an activation needs: more where a channel is narrow and far from 0."""
    mean, deviation = np.abs(layer.mean, dtype=np.float64), np.sqrt(layer.variance, dtype=np.float64)
    far = (mean[deviation > 0] / deviation[deviation > 0]).max(initial=1.0)
    return DIGITS + min(MORE, int(np.log10(far)))


def _rounded(numbers: Array, digits: int = DIGITS) -> Any:
    """Return numbers of so many significant digits as nested lists, whole ones without a point."""
    flat = [float(f"{number:.{digits}g}") for number in np.ravel(numbers).tolist()]
    short = [int(number) if number.is_integer() and abs(number) < 1e6 else number for number in flat]
    return np.array(short, dtype=object).reshape(np.shape(numbers)).tolist()
