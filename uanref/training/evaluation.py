"""How good a model is on a set: one pass in eval mode."""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import DType
from uanref.data.batches import Batches
from uanref.data.sets import Dataset
from uanref.layers.base import Layer
from uanref.losses import Loss

EVALUATION_BATCH = 256


def evaluate(model: Layer, loss: Loss, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> tuple[float, float]:
    """Return the mean loss and the accuracy (a fraction) of ``model`` on ``dataset``.

    Runs in eval mode and keeps nothing for a backward pass; every layer gets its mode back.
    """
    return score(model, loss, Batches(dataset, batch_size))


def score(model: Layer, loss: Loss, batches: Batches) -> tuple[float, float]:
    """Return what :func:`evaluate` does, for a set whose batches are there already (on a device, moved already)."""
    modes = [(layer, layer.training) for _, layer in model.modules()]
    samples = len(batches.dataset)
    loss_sum: Any = 0.0
    correct: Any = 0
    dtype = dtype_of(model)
    model.eval()
    try:
        with backend.inference():
            for x, labels in batches:
                logits = model.forward(x if dtype is None else x.astype(dtype, copy=False))
                loss_sum = loss_sum + loss.forward(logits, labels) * len(labels)
                correct = correct + (logits.argmax(axis=1) == labels).sum()
    finally:
        for layer, mode in modes:
            layer.training = mode
    both = backend.to_host(backend.namespace(correct).stack([loss_sum, correct]))
    return float(both[0]) / samples, float(both[1]) / samples


def dtype_of(model: Layer) -> DType | None:
    """Return the dtype that batches are converted to: the one of the model's first parameter, else of a layer.

    A model that has neither, such as a ``Flatten`` alone, takes the images as they are.
    """
    for _, parameter in model._all_parameters():
        if parameter.trainable:
            return parameter.value.dtype
    return next((layer.dtype for _, layer in model.modules() if layer.dtype is not None), None)
