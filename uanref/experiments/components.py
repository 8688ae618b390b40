r"""What the mixture inside UAN does, one factor at a time: ``uanref experiment components``.

Around one base (UAN everywhere, batch moments, K = 3, the paper's start, a posterior and a prior per channel, trained
by backpropagation) each factor is changed alone: K, start, posterior, update, prior. While the network trains,
:mod:`uanref.experiments.mixture_measures` looks at every UAN, before the first step and after each epoch, always on the
same training images.

The authors' figure of a trained layer shows nearly concentric components. Identical components compute batch
normalization times a constant (identity 4 of the specification), so the question is how far from that a trained layer
is: ``distance`` asks it of the parameters, ``bent`` of what the layer computes.

The start "narrow" is how an independent port reads the paper: sigma itself, not the raw variance, is drawn from
U(0.001, 0.01). It is set by assignment; the layer's eps, 1e-5, is added to sigma^2 as always, and is of the same size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from uanref import backend, data
from uanref.experiments import components_report, recipe, trial
from uanref.experiments.experiment import Config, Experiment, Result
from uanref.experiments.mixture_measures import MEASURES, measure
from uanref.layers.base import Layer
from uanref.norms.mixture_constraints import inverse_softplus
from uanref.norms.uan import UAN

BASE: dict[str, Any] = trial.BASE | components_report.LEVELS | {"norm": "uan", "epochs": 30, "probe": 512}
"""The base; ``probe`` is the number of training images that the mixtures are looked at with."""
FACTORS: dict[str, tuple[Any, ...]] = {
    "components": tuple(range(1, 9)),
    "start": ("paper", "data", "narrow"),
    "posterior": ("channel", "joint"),
    "update": ("backprop", "em"),
    "prior": ("channel", "shared"),
}
"""What is changed, and the values that it takes."""
SEEDS = {"tiny": 3, "small": 5, "paper": 5}
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {"epochs": 2, "probe": 128},
    "small": {},
    "paper": {
        "dataset": "fashion",
        "model": "shallow",
        "optimizer": "adamw",
        "weight_decay": 1e-4,
        "lr": 0.001,
        "batch_size": 256,
        "epochs": 100,
    },
}
NARROW = (0.001, 0.01)  # of sigma


def plan(scale: str, seeds: int | None) -> list[Config]:
    """Return the base and every change of one factor, each with every seed; "tiny" changes K to 1 and 2 alone."""
    count = SEEDS[scale] if seeds is None else seeds
    made = [BASE | SCALES[scale]]
    for factor, values in FACTORS.items():
        chosen = (1, 2) if scale == "tiny" and factor == "components" else values
        made += [made[0] | {factor: value} for value in chosen if value != BASE[factor]]
    return [config | {"seed": seed} for config in made for seed in range(count)]


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and look at its mixtures on the way."""
    splits = data.load(config["dataset"], seed=config["seed"])
    images, _ = next(iter(data.Batches(splits.train, min(config["probe"], len(splits.train)))))
    over_training: dict[str, list[list[float | None]]] = {name: [] for name in MEASURES}

    def look(model: Layer) -> None:
        for name, numbers in measure(model, images).items():
            over_training[name].append([None if value is None else float(f"{value:.6g}") for value in numbers])

    def prepare(model: Layer) -> None:
        if config["start"] == "narrow":
            narrow(model, config["seed"])
        look(model)

    start = "data" if config["start"] == "data" else "paper"
    options = {"start": start, **{name: config[name] for name in ("posterior", "update", "prior")}}
    trained = trial.train(config | {"norm_options": options}, splits, lambda trainer: look(trainer.model), prepare)
    history = trained.trainer.history
    result = {
        "validation_accuracy": None if trained.diverged else history.epochs[-1].validation_accuracy,
        "test_accuracy": trained.test_accuracy(),
        "diverged": trained.diverged,
        "parameters": recipe.size(trained.model),
        "over_training": over_training | {"accuracy": [epoch.validation_accuracy for epoch in history.epochs]},
    }
    return result, {}


def narrow(model: Layer, seed: int) -> None:
    """Give every UAN of ``model`` deviations sigma from U(0.001, 0.01) instead of its own start."""
    rng = np.random.default_rng([seed, 1])  # apart from the weights' and the batches'
    for _, layer in model.modules():
        if isinstance(layer, UAN):
            sigma = rng.uniform(*NARROW, layer.raw_variance.shape)  # (K, C)
            raw = inverse_softplus(sigma**2, 0.0)  # no floor: sigma^2 may lie below eps
            layer.raw_variance.value = backend.to_device(raw.astype(layer.raw_variance.value.dtype))


EXPERIMENT = Experiment(
    name="components",
    question="What do K, start, posterior, update and prior change, and do the components stand apart?",
    plan=plan,
    compute=compute,
    tables=components_report.tables,
    pictures=components_report.pictures,
    verdicts=components_report.verdicts,
)
