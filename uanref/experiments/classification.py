"""Is UAN the more accurate norm? Every norm on every network and data set: ``uanref experiment classification``.

A setting is a data set with a network: the MLP, the small CNN, and the paper's shallow CNN twice, with the norm under
test everywhere (``shallow``) and, as in the paper, once in a network of batch normalization (``shallow-one``). All are
trained as the paper trains its shallow CNN: AdamW with weight decay 1e-4, learning rate 0.001 or 0.005, K = 3. Each
method gets the rate with the better mean validation accuracy; what is told of the test data is of that rate alone.
Mixture Normalization comes with the joint posterior of the paper's description and, as ``mn-channel``, with UAN's one
per channel: what remains between ``mn-channel`` and UAN is how the mixture is found.

At ``paper`` the width is the paper's, with batches of 256 and 100 epochs. CIFAR, Tiny ImageNet and DenseNet are not
here. At ``small`` networks are narrower, batches of the 719 digits smaller and epochs fewer, so that a higher rate,
0.02, joins the grid; the rate falls along a cosine, since at a constant one an accuracy would depend on where among its
last swings a short training ends.
"""

from __future__ import annotations

import itertools
from typing import Any

from uanref.experiments import classification_report, recipe, trial
from uanref.experiments.experiment import Config, Experiment, Result

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("none", "bn", "ln", "gn", "in", "mn", "mode", "uan", "uan-learned", "uan-joint")},
    "uan-em": ("uan", {"update": "em"}),
    "mn-channel": ("mn", {"posterior": "channel"}),
}
"""What a method is: a norm of the models, and its options. Instance normalization is where a channel has pixels."""
RATES = {"tiny": (0.001, 0.005), "small": (0.001, 0.005, 0.02), "paper": (0.001, 0.005)}
BASE: dict[str, Any] = trial.BASE | {"optimizer": "adamw", "weight_decay": 1e-4, "schedule": "cosine"}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "tiny": [
        {"dataset": "digits", "model": "mlp", "epochs": 1, "seeds": 3},
        {"dataset": "digits", "model": "shallow-one", "width": 0.03125, "epochs": 1, "seeds": 1},
    ],
    "small": [
        {"dataset": "digits", "model": "mlp", "epochs": 20, "seeds": 10},
        {"dataset": "digits", "model": "cnn", "width": 0.5, "epochs": 12, "seeds": 10},
        {"dataset": "digits", "model": "shallow", "width": 0.125, "epochs": 10, "seeds": 10},
        {"dataset": "digits", "model": "shallow-one", "width": 0.125, "epochs": 10, "seeds": 10},
        {"dataset": "fashion-small", "model": "mlp", "batch_size": 256, "epochs": 10, "seeds": 5},
        {"dataset": "fashion-small", "model": "cnn", "width": 0.25, "epochs": 4, "seeds": 5},
    ],
    "paper": [
        {"dataset": dataset, "model": model, "schedule": "constant", "batch_size": 256, "epochs": 100, "seeds": 5}
        for dataset in ("fashion", "mnist-5k")
        for model in ("mlp", "cnn", "shallow", "shallow-one")
    ],
}
"""By scale: the changes of :data:`BASE`, and how many seeds."""
TINY = ("bn", "mn", "uan", "uan-em")  # methods at this scale


def plan(scale: str, seeds: int | None) -> list[Config]:
    """Return every setting with every method, learning rate and seed."""
    made = []
    for setting in SETTINGS[scale]:
        changes = {name: value for name, value in setting.items() if name != "seeds"}
        count = setting["seeds"] if seeds is None else seeds
        pixels = setting["model"] == "cnn" or (setting["model"] != "mlp" and setting["dataset"] != "digits")
        chosen = TINY if scale == "tiny" else [method for method in METHODS if method != "in" or pixels]
        for method, lr, seed in itertools.product(chosen, RATES[scale], range(count)):
            norm, options = METHODS[method]
            named = {"method": method, "norm": norm, "norm_options": options}
            made.append(BASE | changes | named | {"lr": lr, "seed": seed})
    return made


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and score it."""
    trained = trial.train(config)
    lost = trained.diverged
    result = {
        "validation_accuracy": None if lost else trained.trainer.history.epochs[-1].validation_accuracy,
        "test_accuracy": trained.test_accuracy(),
        "diverged": lost,
        "parameters": recipe.size(trained.model),
    }
    return result, {}


EXPERIMENT = Experiment(
    name="classification",
    question="Is UAN more accurate than the other norms, each at its best learning rate?",
    plan=plan,
    compute=compute,
    tables=classification_report.tables,
    pictures=classification_report.pictures,
    verdicts=classification_report.verdicts,
)
