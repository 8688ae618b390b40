"""A small experiment for tests of the mechanism: real networks at one scale, arithmetic alone at another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from uanref import data, models
from uanref.experiments import recipe, registry
from uanref.experiments.experiment import Experiment
from uanref.experiments.verdicts import Verdict

NAME = "inference"  # a name that the command line knows


def plan(scale, seeds):
    count = {"tiny": 2, "small": 3, "paper": 5}[scale] if seeds is None else seeds
    return [
        {"norm": norm, "trained": scale == "small", "fails": "", "seed": seed}
        for norm in ("none", "bn")
        for seed in range(count)
    ]


def compute(config):
    if wait := os.environ.get("TOY_WAIT"):
        time.sleep(float(wait))
    if os.environ.get("TOY_FAILS") == config["norm"]:
        raise OSError(28, f"no space for {config['norm']}")
    if config["trained"]:
        return _trained(config), {"epoch_seconds": [0.5]}
    draw = np.random.default_rng(config["seed"])
    accuracy = float(draw.uniform(0.5, 0.9)) + 0.1 * (config["norm"] == "bn")
    return {"validation_accuracy": accuracy, "diverged": False, "parameters": 3}, {}


def _trained(config):
    splits = data.load("digits", seed=config["seed"])
    options = {"image_shape": splits.image_shape, "num_classes": splits.num_classes, "seed": config["seed"]}
    model = models.build("mlp", config["norm"], num_components=3, **options)
    trainer = recipe.make_trainer(
        model,
        splits,
        optimizer="adam",
        lr=0.01,
        schedule="constant",
        epochs=1,
        batch_size=64,
        seed=config["seed"],
        progress="none",
    )
    trainer.fit(1)
    losses = trainer.history.curve("validation_loss")
    accuracy = trainer.history.curve("validation_accuracy")[-1]
    return {"validation_accuracy": accuracy, "losses": losses, "diverged": False, "parameters": 3}


def tables(cells):
    table = Table("norm", "seeds", "accuracy (%)")
    for norm in ("none", "bn"):
        found = [100 * cell.result["validation_accuracy"] for cell in cells if cell.config["norm"] == norm]
        if found:
            table.add_row(norm, str(len(found)), f"{sum(found) / len(found):.2f}")
    return [table]


def pictures(cells, folder):
    (Path(folder) / "accuracy.png").write_bytes(b"\x89PNG of " + str(len(cells)).encode())
    return ["accuracy.png"]


def verdicts(cells):
    return [Verdict("bn is better than nothing", "by more than 0.05", "supported", f"{len(cells)} cells say so")]


EXPERIMENT = Experiment(NAME, "is bn better than nothing?", plan, compute, tables, pictures, verdicts)


def install(set_attribute=setattr):
    """Put the experiment in the place of one that the command line knows."""
    set_attribute(registry, "find", lambda name: EXPERIMENT)
