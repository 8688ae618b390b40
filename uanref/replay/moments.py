"""Which derivation computes what a recorded layer computed."""

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
