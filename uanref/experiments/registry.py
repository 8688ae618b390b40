"""The experiments by name. Their modules are imported when they are needed: naming one is quick."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uanref.experiments.experiment import Experiment

NAMES = (
    "convergence",
    "gradient-stability",
    "batch-size",
    "components",
    "inference",
    "classification",
    "input-shift",
    "cost",
)
"""Each is a module of this package that has the constant ``EXPERIMENT``."""

COMPARE = "compare"  # a sweep too, with a command of its own; its cells are reported like all others


def find(name: str) -> Experiment:
    """Return the experiment called ``name``.

    Raises:
        ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"experiment must be one of {', '.join(NAMES)}, got {name[:60]!r}")
    found: Experiment = importlib.import_module(f"uanref.experiments.{name.replace('-', '_')}").EXPERIMENT
    return found


def reported(name: str) -> Experiment:
    """Return what reports the cells of ``name``, an experiment or ``"compare"``.

    Raises:
        ValueError: there is none.
    """
    if name == COMPARE:
        found: Experiment = importlib.import_module("uanref.experiments.compare_again").EXPERIMENT
        return found
    return find(name)
