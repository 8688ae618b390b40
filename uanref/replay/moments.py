"""Which derivation computes what a recorded layer computed, and a moment's numbers as its inputs."""

from __future__ import annotations

import numpy as np  # noqa: TID251  a recording is the host's

from uanref.backend import Array
from uanref.training.recording import NormRecording


def derivation_of(layer: NormRecording) -> str | None:
    """Return the name of the derivation that one channel of the layer follows, None where there is none.

    A layer that normalizes each sample by itself, or all channels together, is no function of one channel's
    activations; neither is what a reader's own code does known here.
    """
    if layer.prior_logits is None:
        return "bn" if layer.mode == "batch" else None
    if layer.mode == "learned":
        return "uan-learned" if not layer.shared_prior else None
    return "uan-shared" if layer.shared_prior else "uan"


def components(layer: NormRecording) -> int:
    """Return how many components the layer's mixture has, 0 without one."""
    return 0 if layer.prior_logits is None else layer.prior_logits.shape[1]


def scale(layer: NormRecording) -> Array:
    """Return gamma as the derivation means it, ``(T, C)``: it divides by sqrt(K), which a layer may leave out."""
    left_out = bool(components(layer)) and not layer.rescale
    return layer.gamma * np.sqrt(components(layer)) if left_out else layer.gamma


def inputs(layer: NormRecording, moment: int, channel: int) -> dict[str, Array]:
    """Return the inputs of :func:`derivation_of` at a moment: the recorded activations of one channel, its parameters.

    Args:
        layer: of a recording, one that has a derivation.
        moment: which of the T.
        channel: which of the C.
    """
    one = slice(channel, channel + 1)
    found = {
        "x": layer.samples[moment, :, one],
        "gamma": scale(layer)[moment, one],
        "beta": layer.beta[moment, one],
        "eps": np.float64(layer.eps),
    }
    if layer.prior_logits is not None and layer.component_mean is not None and layer.raw_variance is not None:
        logits = layer.prior_logits[moment]
        found["prior_logits"] = logits[:, channel] if layer.shared_prior else logits[:, one]
        found["mean"] = layer.component_mean[moment][:, one]
        found["raw_variance"] = layer.raw_variance[moment][:, one]
    return {name: np.asarray(value, np.float64) for name, value in found.items()}
