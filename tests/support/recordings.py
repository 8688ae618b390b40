"""Made-up recordings: two groups of activations that drift apart, and a mixture that follows one of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from uanref.replay.moments import scale
from uanref.training.history import Epoch
from uanref.training.recording import BINS, NormRecording, Recording

K = 3


def softmax(logits):
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def layer(name, kind, moments=12, channels=(0, 5), seed=0, **changes):
    """A norm layer: ``kind`` "BatchNorm" or "UAN"."""
    rng = np.random.default_rng(seed)
    C = len(channels)
    batch = np.stack(
        [
            np.concatenate(
                [
                    rng.normal(-0.5 - t / moments, 0.4, (60, C)),
                    rng.normal(0.8 + 2 * t / moments, 0.5 + 0.3 * t / moments, (40, C)),
                ]
            )
            for t in range(moments)
        ]
    )
    low, high = batch.min(axis=1), batch.max(axis=1)
    counts = np.stack(
        [
            np.stack([np.histogram(batch[t, :, c], BINS, (low[t, c], high[t, c]))[0] for c in range(C)])
            for t in range(moments)
        ]
    )
    made = {
        "name": name,
        "kind": kind,
        "mode": "batch",
        "eps": 1e-5,
        "rescale": True,
        "shared_prior": False,
        "channels": np.array(channels),
        "counts": counts.astype(np.uint32),
        "low": low,
        "high": high,
        "mean": batch.mean(axis=1),
        "variance": batch.var(axis=1),
        "gamma": np.linspace(1, 1.3, moments)[:, None] * np.ones(C),
        "beta": np.linspace(0, -0.2, moments)[:, None] * np.ones(C),
        "samples": batch[:, ::13, :][:, :8],
    }
    if kind == "UAN":
        way = np.linspace(0, 1, moments)[:, None, None]
        made["prior_logits"] = way * np.array([0.8, 0.2, -1.0])[None, :, None] * np.ones((1, K, C))
        made["component_mean"] = np.array([-0.5, 0.6, 1.5])[None, :, None] * (1 + way) * np.ones((1, K, C))
        made["raw_variance"] = np.array([-0.8, 0.1, 0.9])[None, :, None] * (1 - 0.4 * way) * np.ones((1, K, C))
        moments_of = [
            weighted(batch[t], *(made[p][t] for p in ("prior_logits", "component_mean", "raw_variance")))
            for t in range(moments)
        ]
        made["moment_mean"], made["moment_variance"] = (np.stack(part) for part in zip(*moments_of, strict=True))
    for part, value in made.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            made[part] = value.astype(np.float32)
    return NormRecording(**{**made, **changes})


def weighted(x, logits, mean, raw):
    """The moments by which UAN standardizes: of posterior over root prior, ``(K, C)`` each; ``x`` ``(M, C)``."""
    prior = softmax(logits)
    spread = np.log1p(np.exp(raw)) + 1e-5
    scores = np.log(prior)[:, None] - 0.5 * np.log(spread)[:, None] - (x - mean[:, None]) ** 2 / (2 * spread[:, None])
    weight = softmax(scores) / np.sqrt(prior)[:, None]
    share = weight / weight.sum(axis=1, keepdims=True)
    moment = (share * x).sum(axis=1)
    return moment, (share * (x - moment[:, None]) ** 2).sum(axis=1)


def recording(norm="bn", seed=0, moments=12, layers=None, **changes):
    """A training of ``moments`` moments, 10 steps apart, 40 steps an epoch."""
    rng = np.random.default_rng(seed)
    steps = np.arange(moments) * 10
    fall = np.exp(-steps / 50)
    kind = "BatchNorm" if norm == "bn" else "UAN"
    made = Recording(
        norm=norm,
        lr=0.01,
        seed=seed,
        dataset="digits",
        model="mlp",
        steps=steps,
        loss=2.3 * fall + 0.1 * rng.uniform(size=moments),
        accuracy=1 - 0.9 * fall,
        gradient_norms={name: (0.5 + rng.uniform(size=moments)) * fall for name in ("0", "1", "3")},
        steps_per_epoch=40,
        epochs=tuple(Epoch(i + 1, 1.0, 0.5, 1.0, 0.5 + 0.2 * i, 1.0, 0.01) for i in range(2)),
        layers=layers or (layer("1", kind, moments, seed=seed), layer("4", kind, moments, seed=seed + 5)),
    )
    return dataclasses.replace(made, **changes)


def inputs(layer, moment, channel):
    """Return the inputs of a layer's derivation at a moment, as jump.js should: of one channel.

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
