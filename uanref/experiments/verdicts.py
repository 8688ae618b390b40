"""A verdict on a claim: one of three, with the numbers that carry it."""

from __future__ import annotations

from dataclasses import dataclass

from uanref.experiments.statistics import FEWEST, Paired

SUPPORTED, NOT_SUPPORTED, NOT_TESTABLE = VERDICTS = ("supported", "not supported", "not testable here")


@dataclass(frozen=True)
class Verdict:
    """What an experiment says of one claim.

    Attributes:
        claim: the claim, in one sentence.
        rule: what was to be seen for "supported", with the margin, in one sentence; fixed before the runs,
            but where ``docs/experiments.md`` says otherwise.
        verdict: one of :data:`VERDICTS`.
        because: the numbers behind it, in one sentence.
    """

    claim: str
    rule: str
    verdict: str
    because: str


def judge(claim: str, rule: str, pair: Paired, margin: float) -> Verdict:
    """Return "supported" if the whole interval of the mean difference lies above ``margin``, else "not supported".

    "Not supported" is no proof of the opposite: it says that these runs do not carry the claim. Of fewer than three
    pairs there is no interval, and the claim is "not testable here".

    Args:
        claim: in one sentence.
        rule: in one sentence, with the margin.
        pair: differences that are positive where the claim holds.
        margin: how large a difference is the least to be worth a claim, in the unit of the differences; stated before
            the runs.
    """
    if pair.count < FEWEST:
        return Verdict(
            claim, rule, NOT_TESTABLE, f"Seeds that both sides have finished: {pair.count}, at least {FEWEST} needed."
        )
    verdict = SUPPORTED if pair.low > margin else NOT_SUPPORTED
    return Verdict(claim, rule, verdict, f"{told(pair)}; margin {margin:g}.")


def told(pair: Paired) -> str:
    """Return the numbers of a pair, in words that need no table."""
    p = "" if pair.wilcoxon is None else f", Wilcoxon p = {pair.wilcoxon:.2g}"
    return (
        f"Mean difference {pair.mean:+.4g}, 95 % interval {pair.low:+.4g} to {pair.high:+.4g} over {pair.count} seeds"
        f"{p}, larger in {100 * pair.improvement:.0f} % of the pairs"
    )


def untestable(claim: str, why: str) -> Verdict:
    """Return a verdict on a claim that nothing here can test, with the reason in one sentence."""
    return Verdict(claim, "", NOT_TESTABLE, why)
