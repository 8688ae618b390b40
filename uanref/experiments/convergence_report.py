"""What the convergence runs say: times to the target, the rates that are tolerated, and four claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from uanref.experiments.convergence_times import (
    Times,
    at_equal_rates,
    compared,
    highest,
    is_of,
    norms_of,
    own_rates,
    rates_of,
    times,
    tolerated,
)
from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import Paired, counted, middle, paired, summary
from uanref.experiments.verdicts import NOT_TESTABLE, Verdict, judge

SHARE_MARGIN = 0.1  # how far beyond one half the share of faster runs has to lie
DECADES_MARGIN = 0.25  # how much higher a tolerated rate has to be: half a step of the grid
CLASSES = 10


def tables(cells: Sequence[Cell]) -> list[Table]:
    """Return the times at every rate, each norm at its own rate, and the pairs with BN."""
    return [_at_every_rate(cells), _at_own_rate(cells), _beside_bn(cells)]


def _at_every_rate(cells: Sequence[Cell]) -> Table:
    target = f"{100 * cells[0].config['target']:g} %" if cells else "the target"
    made = Table(
        title=f"Median updates to {target} on validation; runs that got there",
        caption="never: the median run does not get there.",
    )
    made.add_column("norm  \\ lr")
    for rate in rates_of(cells):
        made.add_column(f"{rate:g}", justify="right")
    for norm in norms_of(cells):
        made.add_row(norm, *(_told(times(cells, norm, rate)) for rate in rates_of(cells)))
    return made


def _told(found: Times) -> str:
    if not found:
        return ""
    median = middle(found.values())
    arrived = sum(value < math.inf for value in found.values())
    return f"{'never' if median == math.inf else f'{median:g}'}\n{arrived}/{len(found)}"


def _at_own_rate(cells: Sequence[Cell]) -> Table:
    made = Table(
        title="Each norm at its own rate, where it is fastest",
        caption="highest lr: the largest at which the median run gets there. Diverged counts as guessing.",
    )
    for heading in ("norm", "lr", "updates", "validation (%)", "test (%)", "highest lr"):
        made.add_column(heading, justify="left" if heading == "norm" else "right")
    for norm, rate in own_rates(cells).items():
        low, median, high = _quartiles(list(times(cells, norm, rate).values()))
        chosen = [c.result for c in cells if is_of(c, norm, rate)]
        accuracies = []
        for name in ("validation_accuracy", "test_accuracy"):
            found = summary(100 * counted(r[name], CLASSES) for r in chosen)
            accuracies.append(f"{found.mean:.1f} ± {found.sd:.1f}" if found.count > 1 else f"{found.mean:.1f}")
        top = highest(cells, norm)
        made.add_row(
            norm,
            f"{rate:g}",
            f"{median:g} ({low:g}-{high:g})",
            *accuracies,
            "none" if top is None else f"{top:g}",
        )
    return made


def _beside_bn(cells: Sequence[Cell]) -> Table:
    made = Table(
        title="How often a run is faster than BN's of the same seed (%)",
        caption="A tenth fewer updates is faster, else half a point. 95 % intervals; 50 says no difference.",
    )
    for heading in ("norm", "each at its own rate", "at equal rates"):
        made.add_column(heading, justify="left" if heading == "norm" else "right")
    own = own_rates(cells)
    for norm in norms_of(cells):
        if norm != "bn" and norm in own and "bn" in own:
            at_own = compared(times(cells, norm, own[norm]), times(cells, "bn", own["bn"]))
            made.add_row(norm, *(_share(pair) for pair in (at_own, at_equal_rates(cells, norm, "bn"))))
    return made


def _share(pair: Paired) -> str:
    if not pair.count:
        return ""
    mean, low, high = (100 * (0.5 + value) for value in (pair.mean, pair.low, pair.high))
    return f"{mean:.0f}" + (f" ({low:.0f} to {high:.0f})" if math.isfinite(low) else "")


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return values of the runs themselves, as infinity has no mean with its neighbour, but for the median."""
    line = sorted(values)
    return line[(len(line) - 1) // 4], middle(line), line[-1 - (len(line) - 1) // 4]


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """Judge who is faster, UAN or BN, and whether BN and UAN tolerate higher rates than no norm.

    Margins: the share of seeds where UAN is faster (by a tenth of the updates) has to exceed one half by 0.1, and a
    tolerated rate has to be higher by 0.25 decades, half a step of the grid; the whole 95 % interval has to lie there.
    """
    own = own_rates(cells)
    rule = (
        "UAN needs at most 0.9 of BN's updates in more than 60 % of the seeds (ties count half, unreached is "
        "infinite): the 95 % interval of the share minus one half lies above 0.1"
    )
    claim = "UAN reaches the target in fewer updates than BN"
    found = []
    if "uan" in own and "bn" in own:
        uan, bn = (times(cells, norm, own[norm]) for norm in ("uan", "bn"))
        medians = f" Medians: UAN {_median(uan)} at {own['uan']:g}, BN {_median(bn)} at {own['bn']:g}."
        found.append(_with(judge(f"{claim}, each at its own rate", rule, compared(uan, bn), SHARE_MARGIN), medians))
        equal = at_equal_rates(cells, "uan", "bn")
        found.append(judge(f"{claim}, at equal rates", rule.replace("seeds", "runs"), equal, SHARE_MARGIN))
    else:
        found = [
            Verdict(f"{claim}, {where}", rule, NOT_TESTABLE, "There are no runs of both.")
            for where in ("each at its own rate", "at equal rates")
        ]
    return found + [_tolerates(cells, norm) for norm in ("bn", "uan")]


def _tolerates(cells: Sequence[Cell], norm: str) -> Verdict:
    claim = f"{norm.upper()} tolerates higher learning rates than no normalization"
    rule = (
        "log10 of the largest rate at which a run arrives, minus that without a norm, by seed: the 95 % interval "
        "lies above 0.25, half a step of the grid"
    )
    if not {norm, "none"} <= set(norms_of(cells)):
        return Verdict(claim, rule, NOT_TESTABLE, "There are no runs of both.")
    top, without = highest(cells, norm), highest(cells, "none")
    if without == rates_of(cells)[-1]:
        return Verdict(
            claim, rule, NOT_TESTABLE, "Without a norm the median run arrives at the highest rate of the grid, too."
        )
    judged = judge(claim, rule, paired(tolerated(cells, norm), tolerated(cells, "none")), DECADES_MARGIN)
    shown = [f"{value:g}" if value is not None else "at no rate" for value in (top, without)]
    return _with(judged, f" Largest rate at which the median run arrives: {shown[0]}, without a norm {shown[1]}.")


def _with(verdict: Verdict, more: str) -> Verdict:
    return Verdict(verdict.claim, verdict.rule, verdict.verdict, verdict.because + more)


def _median(found: Times) -> str:
    value = middle(found.values())
    return "never" if value == math.inf else f"{value:g}"
