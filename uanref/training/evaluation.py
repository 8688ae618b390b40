"""How good a model is on a set: one pass in eval mode."""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
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
    model.eval()
    try:
        with backend.inference():
            for x, labels in batches:
                logits = model.forward(converted(x, model))
                loss_sum = loss_sum + loss.forward(logits, labels) * len(labels)
                correct = correct + (logits.argmax(axis=1) == labels).sum()
    finally:
        for layer, mode in modes:
            layer.training = mode
    both = backend.to_host(backend.namespace(correct).stack([loss_sum, correct]))
    return float(both[0]) / samples, float(both[1]) / samples


def converted(x: Array, model: Layer) -> Array:
    """Return a batch of images in the dtype that the model computes in: its first parameter's, else a layer's.

    A model that has neither, such as a ``Flatten`` alone, takes the images as they are.
    """
    for _, parameter in model._all_parameters():  # the first one is the answer: the others need no name
        if parameter.trainable:
            return x.astype(parameter.value.dtype, copy=False)
    for _, layer in model.modules():
        if layer.dtype is not None:
            return x.astype(layer.dtype, copy=False)
    return x
