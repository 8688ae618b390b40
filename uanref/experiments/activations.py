"""What the first norm of a trained network receives, and the densities that it sees in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uanref import backend, data, models
from uanref.backend import Array
from uanref.data import Splits
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN

CHANNELS = 4  # how many are kept


@dataclass(frozen=True)
class Activations:
    """One mini-batch's inputs of a norm layer, and the densities that the layer sees in them.

    Attributes:
        norm: the norm's name, the row's title.
        channels: which channels were kept, C of them.
        samples: ``(C, M)``.
        weights: lambda, ``(K, C)``; K = 1 for batch normalization.
        means: mu, ``(K, C)``.
        variances: sigma^2, ``(K, C)``.
    """

    norm: str
    channels: tuple[int, ...]
    samples: Array
    weights: Array
    means: Array
    variances: Array

    @property
    def is_mixture(self) -> bool:
        """Whether the densities are a learned mixture rather than the batch's own Gaussian."""
        return self.norm != "bn"


def of_first_norm(norm: str, model: models.Model, splits: Splits, batch_size: int) -> Activations | None:
    """Return what the first norm layer receives for one training batch; None without batch normalization or UAN.

    Args:
        norm: the norm's name.
        model: trained; it is left in eval mode.
        splits: the data.
        batch_size: samples to show.
    """
    x, _ = next(iter(data.Batches(splits.train, batch_size, rng=np.random.default_rng(0), shuffle=True)))
    model.eval()
    with backend.inference():
        for layer in model.layers:
            if type(layer) is UAN or (
                type(layer) is BatchNorm and norm == "bn"
            ):  # a reader's own may keep other things
                break
            x = layer.forward(x)
        else:
            return None
    host = _float64(x)
    samples = np.moveaxis(host, 1, 0).reshape(host.shape[1], -1)  # (C, M)
    channels = np.unique(np.linspace(0, len(samples) - 1, min(CHANNELS, len(samples))).round().astype(int))
    samples = samples[channels]
    if isinstance(layer, UAN):
        import scipy.special

        logits, means, raw = (_float64(p.value) for p in (layer.prior_logits, layer.mean, layer.raw_variance))
        weights = np.broadcast_to(scipy.special.softmax(logits, axis=0), means.shape)[:, channels]  # (K, C)
        means, variances = means[:, channels], np.logaddexp(0.0, raw[:, channels]) + layer.eps
    else:
        weights = np.ones((1, len(channels)))
        means, variances = samples.mean(axis=1)[None], samples.var(axis=1)[None]
    return Activations(norm, tuple(int(c) for c in channels), samples, weights, means, variances)


def _float64(array: Array) -> Array:
    return np.asarray(backend.to_host(array), dtype=np.float64)
