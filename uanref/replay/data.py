"""Recordings as the plain data that the replay's scripts work on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np  # noqa: TID251  a recording is the host's

from uanref.backend import Array
from uanref.derivations import find
from uanref.replay.moments import derivation_of, scale
from uanref.stepping.page_data import mixture
from uanref.stepping.single import forward_only, single
from uanref.training.recording import NormRecording, Recording

DIGITS = 5
"""Significant digits of a number on the page."""


def replay_data(recordings: Sequence[Recording], room: int) -> dict[str, Any]:
    """Return what the page's scripts work on.

    Args:
        recordings: to be shown.
        room: bytes that they may take on the page: longer ones lose every second moment until they fit.

    Returns:
        ``runs``: per recording its ``title`` and numbers, moments first; ``every``: which of the recorded moments the
        page holds, 1 for all of them; ``derivations``: by name what computes a channel (:func:`forward_only`, and
        ``view``, the expressions to draw); ``single``: batch normalization's view of a channel.
    """
    every = 1
    runs = _runs(recordings, every)
    while len(json.dumps(runs, separators=(",", ":"))) > room and max(len(one.steps) for one in recordings) > 8 * every:
        every *= 2
        runs = _runs(recordings, every)
    names = sorted({layer["derivation"] for run in runs for layer in run["layers"]} - {None})
    return {"runs": runs, "every": every, "derivations": {name: _computed(name) for name in names}, "single": single()}


def _computed(name: str) -> dict[str, Any]:
    # A prior that all channels share is, in one channel, a prior.
    derivation = find("uan" if name == "uan-shared" else name)
    return {**forward_only(derivation), "view": mixture(derivation), "title": find(name).title}


def _runs(recordings: Sequence[Recording], every: int) -> list[dict[str, Any]]:
    titles = _titles(recordings)
    return [_run(one, title, _kept(len(one.steps), every)) for one, title in zip(recordings, titles, strict=True)]


def _kept(moments: int, every: int) -> Array:
    """Return which moments stay: each ``every``-th, and the last."""
    return np.unique([*range(0, moments, every), moments - 1])


def _titles(recordings: Sequence[Recording]) -> list[str]:
    """Return what tells the runs apart."""
    rates = len({one.lr for one in recordings}) > 1
    found = [f"{one.norm}, seed {one.seed}" + (f", rate {one.lr:g}" if rates else "") for one in recordings]
    return found if len(set(found)) == len(found) else [f"{title} ({i + 1})" for i, title in enumerate(found)]


def _run(one: Recording, title: str, kept: Array) -> dict[str, Any]:
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
        "layers": [_layer(layer, kept) for layer in one.layers],
    }


def _layer(layer: NormRecording, kept: Array) -> dict[str, Any]:
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
        "channels": layer.channels.tolist(),
        "counts": layer.counts[kept].tolist(),
        **{name: None if part is None else _rounded(part[kept]) for name, part in parts.items()},
    }


def _rounded(numbers: Array) -> Any:
    """Return numbers of :data:`DIGITS` significant digits as nested lists, whole ones without a point."""
    flat = [float(f"{number:.{DIGITS}g}") for number in np.ravel(numbers).tolist()]
    short = [int(number) if number.is_integer() and abs(number) < 1e6 else number for number in flat]
    return np.array(short, dtype=object).reshape(np.shape(numbers)).tolist()
