r"""What small batches cost: accuracy, and what train mode and eval mode see differently, for batches of 2 to 256.

Every batch size gets the same number of *epochs*, so every run sees the same samples equally often, as in the
comparison of Wu & He (2018). Equal numbers of updates would show a batch of 256 a hundred and twenty-eight times as
many samples as one of 2. The learning rate follows the square-root rule, :math:`\mathrm{lr} = \mathrm{lr}_{64}
\sqrt{B / 64}`, as suits Adam (Malladi et al. 2022). Neither choice is neutral: large batches make few updates here and
may end before they have learned, which is why the claims concern the small end, and why norms without statistics of the
batch (none, LN, GN) stand beside: what they lose at a batch of 2, rate and noise of the gradient cost by themselves.

Of each trained network, all as shares of correct answers:

* *test* and *validation* accuracy, in eval mode;
* *train, eval mode*: on the training data, as the network is used;
* *train, train mode*: on the same data with statistics of batches of the training's own size, freshly drawn. It works
  on a copy, whose running statistics may move.

The **mode gap** is train mode minus eval mode on the same training data: it is 0 for a norm that computes one function
in both modes. The **generalization gap** is train, eval mode, minus validation.

A norm's **drop** is its test accuracy at its best batch size (by the mean validation accuracy) minus that at the
smallest one, seed by seed. A diverged run counts as guessing.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from uanref import backend
from uanref.data import Batches
from uanref.experiments import batch_size_report as report
from uanref.experiments import recipe, trial
from uanref.experiments.experiment import Config, Experiment, Result
from uanref.layers.base import Layer
from uanref.training.evaluation import dtype_of


@dataclass(frozen=True)
class _Scale:
    seeds: int
    norms: tuple[str, ...]
    sizes: tuple[int, ...]
    setting: dict[str, Any]


REFERENCE = 64  # the batch size at which a config's learning rate is the base one
_NORMS = ("none", "bn", "ln", "gn", "mn", "mode", "uan", "uan-learned")
_SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
SCALES = {
    "tiny": _Scale(3, ("none", "bn", "uan"), (4, 32), {"epochs": 1}),
    "small": _Scale(10, _NORMS, _SIZES, {"epochs": 5}),
    "paper": _Scale(
        5,
        _NORMS,
        _SIZES,
        {
            "dataset": "fashion",
            "model": "shallow-one",
            "optimizer": "adamw",
            "weight_decay": 1e-4,
            "lr": 0.001,
            "epochs": 10,
        },
    ),
}


def plan(scale: str, seeds: int | None = None) -> list[Config]:
    """Return one config for every norm, batch size and seed.

    Args:
        scale: ``"tiny"``, ``"small"`` (the MLP on digits) or ``"paper"`` (its shallow CNN on Fashion-MNIST).
        seeds: how many, None for the scale's own number.
    """
    chosen = SCALES[scale]
    base = trial.BASE | chosen.setting
    return [
        base | {"norm": norm, "batch_size": size, "lr": base["lr"] * math.sqrt(size / REFERENCE), "seed": seed}
        for seed in range(chosen.seeds if seeds is None else seeds)
        for norm in chosen.norms
        for size in chosen.sizes
    ]


def train_mode_accuracy(model: Layer, batches: Batches) -> float:
    """Return the accuracy on ``batches`` with each batch's own statistics; ``model`` stays as it is."""
    probe, dtype, correct = copy.deepcopy(model), dtype_of(model), 0
    probe.train()
    with backend.inference(), backend.quiet():
        for x, labels in batches:
            logits = probe.forward(x if dtype is None else x.astype(dtype, copy=False))
            correct = correct + (logits.argmax(axis=1) == labels).sum()
    return float(correct) / len(batches.dataset)


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and score it in both modes.

    Returns:
        ``train_mode``, ``train_accuracy`` (eval mode), ``validation_accuracy``, ``test_accuracy``, all None from a
        diverged run; ``diverged``, ``parameters``, ``classes``, ``updates``. Nothing is measured besides.
    """
    trained = trial.train(config)
    splits = trained.splits
    fresh = Batches(splits.train, config["batch_size"], rng=np.random.default_rng([config["seed"], 1]), shuffle=True)
    result: Result = {
        "train_mode": None if trained.diverged else train_mode_accuracy(trained.model, fresh),
        "train_accuracy": None if trained.diverged else trained.accuracy(splits.train),
        "validation_accuracy": None if trained.diverged else trained.accuracy(splits.validation),
        "test_accuracy": trained.test_accuracy(),
        "diverged": trained.diverged,
        "parameters": recipe.size(trained.model),
        "classes": splits.num_classes,
        "updates": config["epochs"] * len(trained.trainer.batches),
    }
    return result, {}


EXPERIMENT = Experiment(
    name="batch-size",
    question="Which norms need large batches, and does UAN need them less than batch normalization?",
    plan=plan,
    compute=compute,
    tables=report.tables,
    pictures=report.pictures,
    verdicts=report.verdicts,
)
