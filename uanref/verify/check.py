"""``uanref check``: every layer, norm, neighbour and loss against numerical derivatives, at drawn points.

Each case of :mod:`uanref.verify.catalogue` runs as its definition is written and with the faster versions
(:mod:`uanref.verify.versions`). A norm of the reader's own: :mod:`uanref.verify.own`. ``uanref check --backend cupy``
is :mod:`uanref.verify.check_device`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from rich.box import HEAVY_HEAD, MARKDOWN
from rich.table import Table

from uanref import gradcheck, kernels
from uanref.reasons import named
from uanref.verify.catalogue import Case, cases
from uanref.verify.versions import running, wanted
from uanref.verify.words import error_text, status, summary


@dataclass(frozen=True)
class CheckRow:
    """The outcome of one case.

    Attributes:
        name: the case.
        errors: by version, the largest error in units of the larger value or of the floor, see
            :mod:`uanref.gradcheck`; NaN if the case broke off, None where ``"fast"`` met no faster version.
        tensors: how many were checked: gradients of the input and of each parameter.
        kinks: at how many points there was no derivative to compare with.
        ok: whether it passed, in every version.
        details: of each version that failed, the whole report, or the reason why it broke off.
    """

    name: str
    errors: dict[str, float | None]
    tensors: int
    kinks: int
    ok: bool
    details: str

    @property
    def worst(self) -> float:
        """The largest error of all versions, NaN if one broke off."""
        return float(np.max([error for error in self.errors.values() if error is not None], initial=0.0))

    @property
    def status(self) -> str:
        """``"ok"`` or ``"FAIL"``."""
        return "ok" if self.ok else "FAIL"


def run(seed: int = 0, only: str | None = None, versions: Sequence[str] | None = None) -> list[CheckRow]:
    """Compare every case's derivatives with numerical ones, see :mod:`uanref.gradcheck`.

    Args:
        seed: of inputs, upstream gradients and directions.
        only: check the cases whose name contains this, in any case of letters.
        versions: ``"definition"``, ``"fast"`` or both, see :mod:`uanref.verify.versions`.

    Returns:
        One row per case, in the catalogue's order. A case that raises is a row that failed.

    Raises:
        ValueError: ``only`` fits no case, or an unknown version.
    """
    found = wanted(versions)
    return [_outcome(case, seed, found) for case in chosen(cases(), only)]


Named = TypeVar("Named", bound=Any)


def chosen(entries: Sequence[Named], only: str | None) -> list[Named]:
    """Return the entries whose ``name`` contains ``only`` in any case of letters; all of them for None.

    Raises:
        ValueError: there are none.
    """
    found = [entry for entry in entries if only is None or only.lower() in entry.name.lower()]
    if not found:
        names = sorted({entry.name.split()[0].rstrip(",") for entry in entries})
        raise ValueError(f"no case has {only!r} in its name: try one of {', '.join(names)}")
    return found


def _outcome(case: Case, seed: int, versions: Sequence[str]) -> CheckRow:
    x = np.random.default_rng(seed).standard_normal(case.shape)
    errors: dict[str, float | None] = {}
    failed, tensors, kinks = [], 0, 0
    for version in versions:
        try:
            with running(version), kernels.watched() as served:
                report = gradcheck.check(case.make(), x, seed=seed, complex_step=case.analytic)
        except Exception as error:  # one broken layer must not hide the others
            errors[version] = float("nan")
            failed.append(f"{case.name}, {version}: {named(error)}")
            continue
        worst = 0.0 if report.worst is None else report.worst.relative
        errors[version] = worst if version == "definition" or served else None
        tensors, kinks = max(tensors, len(report.tensors)), max(kinks, len(report.kinks))
        if not report.ok:
            failed.append(f"{case.name}, {version}: {report}")
    return CheckRow(case.name, errors, tensors, kinks, not failed, "\n".join(failed))


def table(rows: list[CheckRow], plain: bool = False) -> Table:
    """Return the rows as a table of at most 80 columns; failures are red. ``plain``: as Markdown."""
    made = Table(
        caption=summary(rows),
        caption_justify="left",
        show_edge=plain,
        pad_edge=plain,
        padding=(0, 1) if plain else (0, 0),
        box=MARKDOWN if plain else HEAVY_HEAD,
    )
    versions = list(dict.fromkeys(version for row in rows for version in row.errors))
    made.add_column("layer", overflow="fold")
    for heading in (*(f"{version}\nerror" for version in versions), "tensors", "kinks"):
        made.add_column(heading.replace("\n", " ") if plain else heading, justify="right", no_wrap=True)
    made.add_column("status", no_wrap=True)
    for row in rows:
        numbers = (error_text(row.errors.get(version)) for version in versions)
        made.add_row(row.name, *numbers, str(row.tensors), str(row.kinks), status(row.ok))
    return made
