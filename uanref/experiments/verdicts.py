"""A verdict on a claim: one of three, with the numbers that carry it."""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = ("supported", "not supported", "not testable here")


@dataclass(frozen=True)
class Verdict:
    """What an experiment says of one claim.

    Attributes:
        claim: the claim, in one sentence.
        rule: what was to be seen for "supported", with the margin, in one sentence; fixed before the runs.
        verdict: one of :data:`VERDICTS`.
        because: the numbers behind it, in one sentence.
    """

    claim: str
    rule: str
    verdict: str
    because: str
