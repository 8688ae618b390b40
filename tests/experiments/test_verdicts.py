"""Verdicts: when a claim is carried, and that the numbers are told."""

from __future__ import annotations

import math

import pytest

from uanref.experiments.statistics import Paired
from uanref.experiments.verdicts import VERDICTS, judge, untestable


def _pair(low, high=1.0, count=5):
    return Paired(count, 0.5, low, high, 0.0625, 0.9)


@pytest.mark.parametrize(
    ("low", "margin", "verdict"),
    [
        (0.02, 0.01, "supported"),
        (0.01, 0.01, "not supported"),  # the interval has to lie above it
        (0.005, 0.01, "not supported"),
        (-0.2, 0.0, "not supported"),
        (-0.005, -0.01, "supported"),  # not worse by more than 0.01
    ],
)
def test_the_whole_interval_has_to_lie_above_the_margin(low, margin, verdict):
    made = judge("It is larger.", "By more than the margin.", _pair(low), margin)
    assert (made.claim, made.rule, made.verdict) == ("It is larger.", "By more than the margin.", verdict)
    assert made.verdict in VERDICTS


def test_a_verdict_tells_its_numbers():
    because = judge("c", "r", _pair(0.123456, 0.9), 0.01).because
    assert because == (
        "Mean difference +0.5, 95 % interval +0.1235 to +0.9 over 5 seeds, Wilcoxon p = 0.062, "
        "larger in 90 % of the pairs; margin 0.01."
    )
    assert "Wilcoxon" not in judge("c", "r", Paired(5, 0.0, 0.0, 0.0, None, 0.5), 0.01).because


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_pairs_judge_nothing(count):
    made = judge("c", "r", Paired(count, math.nan, -math.inf, math.inf, None, math.nan), 0.0)
    assert made.verdict == "not testable here"
    assert made.because == f"Seeds that both sides have finished: {count}, at least 3 needed."


def test_what_nothing_here_can_test_says_why():
    made = untestable("DenseNet is better.", "There is no DenseNet here.")
    assert (made.verdict, made.because, made.rule) == ("not testable here", "There is no DenseNet here.", "")
