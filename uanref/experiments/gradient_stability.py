r"""How much gradients vary: over successive batches, as training meets them, and by the measure of UAN's authors.

Layer l has the weight W, with P entries (linear and convolutional layers; norms have none of the same size). Three
numbers a layer and epoch, the first and third over the T updates of the epoch, :math:`g_t = \partial L_t / \partial W`
being the gradient of update t, of its batch and of the weights as they were then:

.. math::
    \text{loss:}\quad & \frac1P \sum_i \frac1{T-1} \sum_t (g_{ti} - \bar g_i)^2, \qquad
        \bar g_i = \frac1T \sum_t g_{ti} \\
    \text{logits:}\quad & \frac1P \sum_i (h_i - \bar h)^2, \qquad
        h = \frac{\partial}{\partial W} \sum_{n,c} z_{nc}, \quad \bar h = \frac1P \sum_i h_i \\
    \text{noise:}\quad & \sum_i \sum_t (g_{ti} - \bar g_i)^2 \Big/ \sum_i \sum_t g_{ti}^2

*loss* is the variance of a gradient entry from update to update (this project's choice; T >= 2), a mean over the
entries. *logits* is what the authors' public code computes: after each epoch, in train mode, on one fresh batch, the
gradient of the sum of all logits z with respect to each weight, and the variance *over the entries* of that gradient.
It knows no labels, and it is not a variance over batches. *noise* is the share of the deviations in the squares,
between 0 and 1, about 1 - 1/T of gradients that share nothing: the first two depend on the scale of the weights and of
the logits, which norms change, and this one does not. The probe of the logits works on a copy, so that running
statistics stay what training made them.

A run is summed up by log10 of a measure's maximum, or mean, over the layers, averaged over the epochs; of *noise* by
the number itself. All norms have one learning rate. A run that diverged has no numbers and drops out of the pairs; a
network whose gradient is 0 counts as 1e-30.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from uanref import backend, models
from uanref.backend import Array
from uanref.data import Batches
from uanref.experiments import gradient_stability_report as report
from uanref.experiments import recipe, stepwise
from uanref.experiments.experiment import Config, Experiment, Result
from uanref.experiments.trial import BASE
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.layers.parameter import Parameter
from uanref.training.evaluation import dtype_of
from uanref.training.trainer import Trainer

NORMS = ("none", "bn", "ln", "gn", "mn", "mode", "uan", "uan-learned")
SCALES: dict[str, tuple[int, tuple[str, ...], dict[str, Any]]] = {
    "tiny": (3, ("none", "bn", "uan"), {"model": "mlp", "epochs": 2}),
    "small": (5, NORMS, {"model": "cnn", "epochs": 15}),
    "paper": (
        5,
        NORMS,
        {
            "dataset": "fashion",
            "model": "shallow-one",
            "optimizer": "adamw",
            "weight_decay": 1e-4,
            "batch_size": 256,
            "lr": 0.001,
            "epochs": 100,
        },
    ),
}
"""Seeds, norms and what differs from the base config."""


def plan(scale: str, seeds: int | None = None) -> list[Config]:
    """Return one config for every norm and seed.

    Args:
        scale: ``"tiny"``, ``"small"`` (the CNN on digits) or ``"paper"`` (its shallow CNN on Fashion-MNIST).
        seeds: how many, None for the scale's own number.
    """
    usual, norms, setting = SCALES[scale]
    return [
        BASE | setting | {"norm": norm, "seed": seed}
        for seed in range(usual if seeds is None else seeds)
        for norm in norms
    ]


@dataclass
class Spread:
    """Mean and sum of squared deviations of arrays that come one after the other (Welford 1962), in float64."""

    count: int = 0
    mean: Any = 0.0
    deviations: Any = 0.0
    squares: Any = 0.0

    def add(self, g: Array) -> None:
        """Take one more array."""
        g = g.astype("float64")
        self.count += 1
        delta = g - self.mean
        self.mean = self.mean + delta / self.count
        self.deviations = self.deviations + delta * (g - self.mean)
        self.squares = self.squares + g * g

    def variance(self) -> float:
        """Return the unbiased variance over the arrays, a mean over the entries; of two arrays at least."""
        return float(self.deviations.mean()) / (self.count - 1)

    def noise(self) -> float:
        """Return the share of the deviations in the squares, in [0, 1]; 0 where all are 0."""
        squares = float(self.squares.sum())
        return float(self.deviations.sum()) / squares if squares > 0 else 0.0


def weights_of(model: models.Model) -> dict[str, Parameter]:
    """Return the weights of linear and convolutional layers, from the input to the output, with a label each."""
    layers = [layer for _, layer in model.modules() if isinstance(layer, Linear | Conv2d)]
    return {f"{i} {type(layer).__name__}": layer.weight for i, layer in enumerate(layers, start=1)}


def logit_variances(model: models.Model, x: Array) -> dict[str, float]:
    """Return, by layer, the variance over the entries of the gradient of the summed logits, in train mode.

    Args:
        model: stays as it is, also its running statistics and its mode.
        x: a batch, of the model's dtype.
    """
    probe = copy.deepcopy(model)
    probe.train()
    logits = probe.forward(x)
    probe.backward(backend.namespace(logits).ones_like(logits))
    return {label: float(_host(weight).var()) for label, weight in weights_of(probe).items()}


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and return its layers' measures after every epoch.

    Returns:
        ``loss``, ``logits``, ``noise``: by layer, one number an epoch, None from a diverged run; ``diverged``,
        ``validation_accuracy``, ``test_accuracy``, ``parameters``. Nothing is measured besides.
    """
    model, trainer = stepwise.begin(config)
    steps = len(trainer.batches)
    weights = weights_of(model)
    fresh = Batches(
        trainer.splits.train, trainer.batch_size, rng=np.random.default_rng([config["seed"], 1]), shuffle=True
    )
    found: dict[str, dict[str, list[float]]] = {
        measure: {label: [] for label in weights} for measure in report.MEASURES
    }
    spreads = {label: Spread() for label in weights}
    done = 0
    for done in stepwise.updates(trainer, steps * config["epochs"]):
        for label, weight in weights.items():
            spreads[label].add(_gradient(weight))
        if done % steps == 0:
            logits = logit_variances(model, _batch(fresh, trainer))
            for label, spread in spreads.items():
                found["loss"][label].append(spread.variance())
                found["noise"][label].append(spread.noise())
                found["logits"][label].append(logits[label])
            spreads = {label: Spread() for label in weights}
    numbers = [value for lines in found.values() for line in lines.values() for value in line]
    diverged = done < steps * config["epochs"] or not np.isfinite(numbers).all()
    score = None if diverged else trainer.evaluate(trainer.splits.validation)[1]
    result: Result = {measure: None if diverged else lines for measure, lines in found.items()}
    result |= {
        "validation_accuracy": score,
        "test_accuracy": None if diverged else trainer.evaluate(trainer.splits.test)[1],
        "diverged": diverged,
        "parameters": recipe.size(model),
    }
    return result, {}


def _batch(fresh: Batches, trainer: Trainer) -> Array:
    x, _ = next(iter(fresh))
    dtype = dtype_of(trainer.model)
    return x if dtype is None else x.astype(dtype, copy=False)


def _gradient(weight: Parameter) -> Array:
    assert weight.grad is not None
    return weight.grad


def _host(weight: Parameter) -> Array:
    return np.asarray(backend.to_host(_gradient(weight)), dtype=np.float64)


EXPERIMENT = Experiment(
    name="gradient-stability",
    question="Do the gradients of a network with UAN vary less, over batches and by the authors' own measure?",
    plan=plan,
    compute=compute,
    tables=report.tables,
    pictures=report.pictures,
    verdicts=report.verdicts,
)
