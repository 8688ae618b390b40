r"""Who arrives first: validation accuracy against updates, and the updates to a target, over three decades of rates.

A run is trained with a constant learning rate for a fixed number of updates. Every few updates its accuracy on the
validation set is taken in eval mode; the first count at which it is at least the target is the run's time. A run that
does not get there within its updates, or diverges, has an *infinite* time. So times have medians and a share of runs
that are not there yet (a survival curve), and no mean: a mean over those that arrived would reward a norm for failing.

Two runs of one seed are compared by a score,

.. math::
    s(a, b) = 1 \text{ if } a \le 0.9\, b, \quad 0 \text{ if } b \le 0.9\, a, \quad \tfrac12 \text{ else},

with times a and b: a tenth fewer updates is the least that counts as faster. Two infinite times are a tie, and a finite
one is faster than an infinite one. The mean over the seeds is a probability of improvement (Bouthillier et al. 2021)
with a tie that has a width (this project's choice, like every number here).

A norm's own rate is the one at which it is fastest: of the grid that all share, the rate with the largest mean of one
divided by the time, 0 for an infinite one, over the seeds. The rate with the best accuracy at the end would be a draw
between many that are all but equally good, and a slow one as likely as a fast one. (It was the rule first; this one
was chosen after a try with three seeds, which supported "UAN is faster than BN" by neither.)

How high a rate a norm tolerates is, for each seed, the largest one of the grid at which the run arrives; for a seed
that never does it is a step of the grid below the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uanref.data import Batches
from uanref.experiments import convergence_pictures, recipe, stepwise
from uanref.experiments import convergence_report as report
from uanref.experiments.experiment import Config, Experiment, Result
from uanref.experiments.trial import BASE
from uanref.training.evaluation import EVALUATION_BATCH, score


@dataclass(frozen=True)
class _Scale:
    seeds: int
    norms: tuple[str, ...]
    rates: tuple[float, ...]
    setting: dict[str, Any]


_COUNTED = {key: value for key, value in BASE.items() if key != "epochs"}
_NORMS = ("none", "bn", "ln", "gn", "mn", "mode", "uan", "uan-learned", "uan-joint")
SCALES = {
    "tiny": _Scale(3, ("none", "bn", "uan"), (0.003, 0.03), {"updates": 24, "every": 4, "target": 0.8}),
    "small": _Scale(
        10, _NORMS, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), {"updates": 240, "every": 2, "target": 0.95}
    ),
    "paper": _Scale(
        5,
        _NORMS,
        (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05),
        {
            "dataset": "fashion",
            "model": "shallow-one",
            "optimizer": "adamw",
            "weight_decay": 1e-4,
            "batch_size": 256,
            "updates": 21100,  # 100 epochs
            "every": 100,
            "target": 0.9,
        },
    ),
}


def plan(scale: str, seeds: int | None = None) -> list[Config]:
    """Return one config for every norm, learning rate and seed.

    Args:
        scale: ``"tiny"``, ``"small"`` (the MLP on digits) or ``"paper"`` (its shallow CNN on Fashion-MNIST).
        seeds: how many, None for the scale's own number.
    """
    chosen = SCALES[scale]
    return [
        _COUNTED | chosen.setting | {"norm": norm, "lr": rate, "seed": seed}
        for seed in range(chosen.seeds if seeds is None else seeds)
        for norm in chosen.norms
        for rate in chosen.rates
    ]


def compute(config: Config) -> tuple[Result, dict[str, Any]]:
    """Train one network and return its accuracies on the way.

    Returns:
        ``curve``: validation accuracy after ``every``, 2 ``every``, ... updates, to the end or to where it diverged;
        ``updates_to_target``: None for never; ``speed``: one divided by it, 0 for never; ``validation_accuracy``: the
        last one of the curve; ``test_accuracy``; ``diverged``; ``parameters``. Nothing is measured besides.
    """
    model, trainer = stepwise.begin(config)
    validation = Batches(trainer.splits.validation, EVALUATION_BATCH)
    curve: list[float] = []
    done = 0
    for done in stepwise.updates(trainer, config["updates"]):
        if done % config["every"] == 0:
            curve.append(score(model, trainer.loss, validation)[1])
    diverged = done < config["updates"]
    arrived = [i for i, accuracy in enumerate(curve, start=1) if accuracy >= config["target"]]
    result = {
        "curve": curve,
        "updates_to_target": arrived[0] * config["every"] if arrived else None,
        "speed": 1.0 / (arrived[0] * config["every"]) if arrived else 0.0,
        "validation_accuracy": curve[-1] if curve and not diverged else None,
        "test_accuracy": None if diverged else trainer.evaluate(trainer.splits.test)[1],
        "diverged": diverged,
        "parameters": recipe.size(model),
    }
    return result, {}


EXPERIMENT = Experiment(
    name="convergence",
    question="Does a norm reach a target accuracy in fewer updates, and at which learning rates does it reach it?",
    plan=plan,
    compute=compute,
    tables=report.tables,
    pictures=convergence_pictures.draw,
    verdicts=report.verdicts,
)
