r"""What can be seen of the mixtures inside a network: how many components live, and how far they stand apart.

All is measured on one batch, in the function that training computes (batch moments where the layer uses them), on a
copy whose state does not move. Each measure is one number for a layer: a mean over its channels (over pairs of
components too, where it compares two). With :math:`\sigma^2` the variance that the posterior uses, eps included:

- ``live``: components with :math:`S_k / M >` :data:`LIVE`, how many;
- ``entropy``: mean over the samples of :math:`-\sum_k \tau_k \log \tau_k / \log K`: 0 where every sample belongs to
  one component, 1 where all share it alike;
- ``distance``: :math:`|\mu_i - \mu_j| / \sqrt{(\sigma_i^2 + \sigma_j^2) / 2}`; two equal Gaussians of equal weight have
  two humps only beyond 2;
- ``ratio``: the larger variance of a pair by the smaller one, geometric mean;
- ``bent``: :math:`1 - R^2` of the straight line through a channel's outputs over its inputs. Batch normalization is
  such a line, and so is any multiple of it: 0 is what identical components compute.

These definitions, and the threshold, are this project's choice.
"""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer
from uanref.norms.mixture_constraints import constrained
from uanref.norms.mixture_weights import Mixture, posterior
from uanref.norms.standardize import as_rows
from uanref.norms.uan import UAN
from uanref.training.guard import stages_of

LIVE = 0.01
"""The share of the samples that a component must have to count as live."""
MEASURES = ("live", "entropy", "distance", "ratio", "bent")


def measure(model: Layer, x: Array) -> dict[str, list[float | None]]:
    """Return each of :data:`MEASURES` for every UAN on the way through ``model``, from the input to the output.

    A layer that waits for its first batch (``start="data"``) is measured as if ``x`` were that batch.

    Args:
        model: left as it is; UANs inside a stage of its own, such as a residual block, are not looked into.
        x: a batch of at least 2 samples.

    Returns:
        Per measure one number a layer; None for what K = 1 does not have (entropy, distance, ratio), and for what is
        not finite.
    """
    twin = copy.deepcopy(model).train()
    for _, layer in twin.modules():
        if isinstance(layer, UAN):
            layer.momentum = 0.0  # nothing moves, EM's mixture neither
    found: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    with backend.inference(), backend.quiet():
        for _, layer in stages_of(twin):
            y = layer.forward(x)
            if isinstance(layer, UAN):
                numbers = of_layer(layer, as_rows(x)) | {"bent": bent(as_rows(x), as_rows(y))}
                for name in MEASURES:
                    value = numbers[name]
                    found[name].append(value if value is not None and math.isfinite(value) else None)
            x = y
    return found


def of_layer(layer: UAN, rows: Array) -> dict[str, float | None]:
    """Return all measures but ``bent`` of one layer for its inputs ``(N, C, S)``."""
    width = layer.num_features if layer.posterior == "channel" else 1  # P
    log_prior, _, with_eps = constrained(layer.prior_logits.value, layer.raw_variance.value, layer.eps, width)
    tau = _float64(posterior(rows, Mixture(log_prior, layer.mean.value, with_eps)))  # (K, N, P, S)
    mean, variance = _float64(layer.mean.value), _float64(with_eps)  # (K, C)
    share = tau.mean(axis=(1, 3))  # (K, P)
    numbers: dict[str, float | None] = {"live": float((share > LIVE).sum(axis=0).mean())}
    if len(mean) == 1:
        return numbers | {"entropy": None, "distance": None, "ratio": None}
    logs = np.log(np.maximum(tau, np.finfo(np.float64).tiny))
    entropy = -(tau * logs).sum(axis=0).mean() / math.log(len(mean))
    pairs = list(itertools.combinations(range(len(mean)), 2))
    distance = [np.abs(mean[i] - mean[j]) / np.sqrt((variance[i] + variance[j]) / 2.0) for i, j in pairs]  # (C,) each
    ratio = [np.abs(np.log(variance[i] / variance[j])) for i, j in pairs]  # (C,) each
    return numbers | {
        "entropy": float(entropy),
        "distance": float(np.mean(distance)),
        "ratio": float(np.exp(np.mean(ratio))),
    }


def bent(x: Array, y: Array) -> float | None:
    """Return the mean over the channels of ``1 - R^2`` of a straight line through y over x, ``(N, C, S)`` each.

    Channels in which x or y does not vary say nothing; None if all are so.
    """
    x, y = (np.moveaxis(_float64(a), 1, 0).reshape(a.shape[1], -1) for a in (x, y))  # (C, M)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    xx, xy, yy = (x * x).sum(axis=1), (x * y).sum(axis=1), (y * y).sum(axis=1)  # (C,)
    varies = (xx > 0) & (yy > 0)
    if not varies.any():
        return None
    r_squared = xy[varies] ** 2 / (xx[varies] * yy[varies])
    return float(np.maximum(1.0 - r_squared, 0.0).mean())


def _float64(a: Array) -> Array:
    return np.asarray(backend.to_host(a), dtype=np.float64)
