"""The paper's claims, which experiment tests each of them, and what its authors published beside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uanref.experiments.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, Verdict


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's abstract, or one that goes with it.

    Attributes:
        text: in this project's words.
        experiment: which tests it; empty for none.
        counts: a regular expression; the verdicts of the experiment whose claims it finds are those that count.
        why: for a claim without an experiment, why it is not testable here.
    """

    text: str
    experiment: str = ""
    counts: str = ""
    why: str = ""


CLAIMS = (
    Claim("Gradients are more stable with UAN than with BN.", "gradient-stability", r"UAN than with BN"),
    Claim("UAN learns faster than BN.", "convergence", r"^UAN .*fewer updates"),
    Claim("UAN tolerates higher learning rates than no normalization.", "convergence", r"^UAN tolerates"),
    Claim("UAN is more accurate than BN.", "classification", r"more accurate than batch normalization"),
    Claim(
        "UAN is more accurate than Mixture Normalization.",
        "classification",
        r"more accurate than Mixture Normalization",
    ),
    Claim(
        "BN depends on the mini-batch: a small one costs it more than LN, which has no statistics of it.",
        "batch-size",
        r"^BN loses",
    ),
    Claim("UAN with statistics of the batch depends less on it.", "batch-size", r"^UAN with batch"),
    Claim("UAN with learned statistics depends less on it.", "batch-size", r"^UAN with learned"),
    Claim(
        "A network with UAN is more accurate on shifted inputs than one with BN.", "input-shift", r"^A network with UAN"
    ),
    Claim(
        "UAN as trained is as good as BN with statistics taken anew.",
        "input-shift",
        r"^UAN as trained",
    ),
    Claim("With statistics taken anew for both, UAN is as good as BN.", "input-shift", r"^UAN with moments taken anew"),
    Claim(
        "UAN at the input helps on shifted inputs, more than simpler means there.",
        "input-shift",
        r"^UAN at the input helps",
    ),
    Claim("UAN carries over to data of another source.", "input-shift", r"carries over"),
    Claim("The components of a trained UAN are distinct.", "components", r"stand apart|something else than"),
    Claim("Three components are better than one.", "components", r"^Three components"),
    Claim("In eval mode the mixture's own moments may normalize.", "inference", r"mixture's own moments"),
    Claim("Without a separate EM fit, UAN takes less time than Mixture Normalization.", "cost", r"less time"),
    Claim("UAN needs less memory than Mixture Normalization.", "cost", r"less memory"),
    Claim(
        "UAN is more accurate than BN and Mixture Normalization on CIFAR-10, CIFAR-100 and Tiny ImageNet.",
        why="These data are not part of this package yet; digits and Fashion-MNIST are under classification.",
    ),
    Claim(
        "UAN is more accurate than BN and Mixture Normalization in DenseNet-40 and DenseNet-100.",
        why="DenseNet is not part of this package yet, nor is CIFAR-100.",
    ),
    Claim(
        "With UAN at the input, AdaMatch adapts better from MNIST to SVHN.",
        why="AdaMatch and SVHN are not part of this package yet; a smaller question is under input-shift.",
    ),
)
"""In the order of the page. For the last three the place is open: data and networks that a laptop does not train."""


@dataclass(frozen=True)
class Published:
    """What the authors published about the subject of an experiment, and how to read it.

    Attributes:
        experiment: the name; None for what no experiment here tests.
        title: of the table.
        source: where it stands.
        columns: the table's heads; none where there are no figures.
        rows: as printed there.
        remarks: what a reader of these figures should know.
        here: what differs in this project's runs.
    """

    experiment: str | None
    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]
    here: tuple[str, ...]


def published() -> list[Published]:
    """Return the authors' figures, from ``published.json`` beside this module."""
    entries = json.loads(Path(__file__).with_name("published.json").read_text("utf-8"))
    return [
        Published(
            experiment=entry["experiment"],
            title=entry["title"],
            source=entry["source"],
            columns=tuple(entry["columns"]),
            rows=tuple(tuple(row) for row in entry["rows"]),
            remarks=tuple(entry["remarks"]),
            here=tuple(entry["here"]),
        )
        for entry in entries
    ]


def verdict_on(claim: Claim, verdicts: Mapping[str, Sequence[Verdict]]) -> tuple[str, str]:
    """Return the verdict on a claim, and what it rests on, in a few words.

    "Supported" takes every verdict that counts, those that are not testable here aside; "not supported" a single one
    (this project's choice: a claim without a condition has to hold wherever it was tested).

    Args:
        claim: one of :data:`CLAIMS`.
        verdicts: by experiment.
    """
    if not claim.experiment:
        return NOT_TESTABLE, claim.why
    if claim.experiment not in verdicts:
        return NOT_TESTABLE, "No runs of this experiment are on this page."
    counted = [verdict for verdict in verdicts[claim.experiment] if re.search(claim.counts, verdict.claim)]
    tested = [verdict for verdict in counted if verdict.verdict != NOT_TESTABLE]
    if not tested:
        return NOT_TESTABLE, counted[0].because if counted else "The runs on this page do not judge it."
    good = sum(verdict.verdict == SUPPORTED for verdict in tested)
    return SUPPORTED if good == len(tested) else NOT_SUPPORTED, f"{good} of {len(tested)} comparisons support it."
