"""What an experiment is: a plan of cells, how one of them is computed, and what is said of those that are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from uanref.experiments.verdicts import Verdict

SCALES = ("tiny", "small", "paper")
Config = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One finished piece of work, as its file holds it.

    Attributes:
        config: all that the result depends on, as numbers, strings, lists and objects of them.
        result: a function of ``config`` alone, of the same kinds; None stands for a number that is not finite.
        measured: what another machine or day would change: seconds, memory, versions, host, date.
    """

    config: Config
    result: Result
    measured: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One claim, put to the test.

    Attributes:
        name: on the command line.
        question: what it asks, one line.
        plan: ``plan(scale, seeds)`` returns the configs of all cells; ``seeds`` is how many, None for the scale's own
            number. A config names everything; what the sweep itself adds (``experiment``, ``scale``, ``backend``)
            is not in it.
        compute: ``compute(config)`` returns a cell's result, and what it measured besides what the sweep measures
            (seconds and memory, which it may replace); a function of a module, as it runs in another process.
        tables: what is printed of the cells at hand, complete or not.
        pictures: draws into a folder and returns the names of the files.
        verdicts: what the numbers say of the paper's claims.
    """

    name: str
    question: str
    plan: Callable[[str, int | None], list[Config]]
    compute: Callable[[Config], tuple[Result, dict[str, Any]]]
    tables: Callable[[Sequence[Cell]], list[Table]]
    pictures: Callable[[Sequence[Cell], Path], list[str]]
    verdicts: Callable[[Sequence[Cell]], list[Verdict]]
