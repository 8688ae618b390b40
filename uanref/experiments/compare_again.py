"""Comparisons out of their cells, for ``uanref report``: what was asked for is what the cells say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.table import Table

from uanref.experiments import compare_cells, compare_pictures, compare_report, registry
from uanref.experiments.compare import Comparison, Run
from uanref.experiments.experiment import Cell, Config, Experiment
from uanref.experiments.settings import Asked
from uanref.experiments.verdicts import Verdict

_VARIED = ("norm", "norm_digest", "lr", "seed", "activations")  # within one comparison


def comparisons(cells: Sequence[Cell]) -> list[Comparison]:
    """Return the comparisons that cells are of: one for each data set, network and way to train.

    A norm of the reader's own is a label here; its code is not run. Activations, which stand beside the cells, are not
    read.

    Raises:
        CheckpointError: a cell is not one of a comparison.
    """
    runs = [(cell.config, compare_cells.run_of(cell)) for cell in cells]

    def shared(one: tuple[Config, Run]) -> str:
        return json.dumps({key: value for key, value in one[0].items() if key not in _VARIED}, sort_keys=True)

    found = []
    for _, group in itertools.groupby(sorted(runs, key=shared), key=shared):
        found.append(_comparison(list(group)))
    return found


def _comparison(runs: list[tuple[Config, Run]]) -> Comparison:
    config = runs[0][0]
    norms = tuple(sorted({run.norm for _, run in runs}, key=_position))
    asked = Asked(
        dataset=config["dataset"],
        model=config["model"],
        norms=norms,
        components=config["components"],
        seeds=1 + max(run.seed for _, run in runs),
        epochs=config["epochs"],
        lrs=tuple(sorted({run.lr for _, run in runs})),
        batch_size=config["batch_size"],
        optimizer=config["optimizer"],
        backend=config["backend"],
    )
    ordered = sorted((run for _, run in runs), key=lambda run: (norms.index(run.norm), run.lr, run.seed))
    return Comparison(asked, f"{config['dataset']}.", ordered)


def _position(norm: str) -> tuple[int, str]:
    from uanref.models import NORMS

    return (NORMS.index(norm) if norm in NORMS else len(NORMS)), norm


def _tables(cells: Sequence[Cell]) -> list[Table]:
    return [compare_report.table(comparison) for comparison in comparisons(cells)]


def _pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    names = []
    for number, comparison in enumerate(comparisons(cells), start=1):
        drawn, failed = compare_pictures.draw(comparison, folder / "one")
        if failed:
            raise OSError("; ".join(failed))
        for name in drawn:
            (folder / "one" / name).rename(folder / f"{number}-{name}")
            names.append(f"{number}-{name}")
    return names


def _verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    return []


def _elsewhere(*_: object) -> NoReturn:
    raise ValueError("a comparison is planned and computed by uanref compare")


EXPERIMENT = Experiment(
    name=registry.COMPARE,
    question="what do different norms do to one network?",
    plan=_elsewhere,
    compute=_elsewhere,
    tables=_tables,
    pictures=_pictures,
    verdicts=_verdicts,
)
