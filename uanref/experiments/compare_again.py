"""Comparisons out of their cells, for ``uanref report``: what was asked for is what the cells say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from rich.table import Table

from uanref.experiments import compare_cells, compare_pictures, compare_report, registry
from uanref.experiments.compare import Comparison, Run
from uanref.experiments.experiment import Cell, Config, Experiment
from uanref.experiments.settings import Asked
from uanref.experiments.verdicts import Verdict

_VARIED = ("norm", "norm_digest", "lr", "seed", "activations")  # within one comparison


def comparisons(cells: Sequence[Cell]) -> list[Comparison]:
    """Return the comparisons that cells are of: one for each data set, network and way to train.

    A norm of the reader's own is a label here, with the beginning of the digest where the code behind one label was
    not always the same; it is not run. Activations, which stand beside the cells, are not read: two cells that differ
    in them alone are one run.

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
    runs = _distinct(runs)
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


def _distinct(runs: list[tuple[Config, Run]]) -> list[tuple[Config, Run]]:
    """Return each run once, the first of those alike, with labels that tell different code apart."""
    once: dict[tuple[Any, ...], tuple[Config, Run]] = {}
    digests: dict[str, set[str | None]] = {}
    for config, run in runs:
        digest = config.get("norm_digest")
        once.setdefault((run.norm, digest, run.lr, run.seed), (config, run))
        digests.setdefault(run.norm, set()).add(digest)

    def labelled(config: Config, run: Run) -> Run:
        digest = config.get("norm_digest")
        return replace(run, norm=f"{run.norm} ({digest[:8]})") if digest and len(digests[run.norm]) > 1 else run

    return [(config, labelled(config, run)) for config, run in once.values()]


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
