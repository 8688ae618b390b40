"""Statistics of an experiment's runs, each against its definition written out another way."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from uanref.experiments.experiment import Cell
from uanref.experiments.statistics import choose, counted, middle, paired, summary, survival


def pair(*differences):
    return paired(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))


def test_a_summary_is_number_mean_and_sd():
    found = summary(iter([1.0, 2.0, 4.0]))
    assert (found.count, found.mean) == (3, pytest.approx(7 / 3))
    assert found.sd == pytest.approx(math.sqrt(((1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2) / 2))


def test_a_summary_of_too_few():
    assert summary([]).count == 0
    assert math.isnan(summary([]).mean)
    assert math.isnan(summary([3.0]).sd)
    assert summary([3.0]).mean == 3.0


def test_a_diverged_run_counts_as_guessing():
    assert counted(None, 10) == 0.1
    assert counted(0.0, 10) == 0.0
    assert counted(0.7, 10) == 0.7


def test_pairs_are_those_of_seeds_that_both_have():
    found = paired({0: 1.0, 1: 5.0, 7: 2.0, 9: 3.0}, {9: 1.0, 7: 1.5, 0: 2.0, 4: 100.0})
    assert found.count == 3
    assert found.mean == pytest.approx((-1 + 0.5 + 2) / 3)
    assert found.improvement == pytest.approx(2 / 3)


def test_an_exchanged_pair_is_the_other_way_round():
    rng = np.random.default_rng(3)
    a, b = (dict(enumerate(rng.standard_normal(8))) for _ in range(2))
    there, back = paired(a, b), paired(b, a)
    assert there.mean == pytest.approx(-back.mean)
    assert there.low == pytest.approx(-back.high, abs=0.05)  # the quantiles are those of drawn resamples
    assert there.wilcoxon == back.wilcoxon
    assert there.improvement == 1 - back.improvement


def test_an_interval_is_the_same_at_every_call():
    assert pair(1.0, 2.0, 4.0, 7.0) == pair(1.0, 2.0, 4.0, 7.0)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_ends_are_the_quantiles_of_all_resamples(count):
    differences = np.random.default_rng(count).standard_normal(count)
    means = np.sort([np.mean(sample) for sample in itertools.product(differences, repeat=count)])
    further = math.sqrt(count / (count - 1)) * scipy.stats.t.ppf(0.975, count - 1)
    tail = scipy.stats.norm.sf(further)
    found = pair(*differences)

    def between(end, lower, upper):  # drawn resamples miss the quantile by a little
        low, high = np.quantile(means, [lower, upper], method="nearest")
        return low - 1e-12 <= end <= high + 1e-12

    assert between(found.low, tail / 3, 3 * tail)
    assert between(found.high, 1 - 3 * tail, 1 - tail / 3)
    assert differences.min() <= found.low < found.mean < found.high <= differences.max()


@pytest.mark.parametrize(("differences", "mean"), [([], math.nan), ([0.5], 0.5), ([0.5, 0.7], 0.6)])
def test_too_few_pairs_have_no_interval(differences, mean):
    found = pair(*differences)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.mean == pytest.approx(mean, nan_ok=True)


@pytest.mark.parametrize("difference", [0.0, -0.25])
def test_equal_differences_are_their_own_interval(difference):
    found = pair(*[difference] * 5)
    assert (found.low, found.high, found.mean) == (difference,) * 3
    assert found.wilcoxon == (None if difference == 0 else 2 / 2**5)


def test_ties_count_half():
    assert pair(0.0, 0.0, 1.0, -1.0, 2.0).improvement == pytest.approx((1 + 1 + 2) / 5 - 0.2)


@given(st.lists(st.integers(-3, 3), max_size=7))
def test_the_signed_rank_test_is_that_of_all_signs(differences):
    """W over all 2^m signs of the differences that are not 0, ranks of ties averaged, in fractions."""
    moved = [d for d in differences if d]
    ranks = [Fraction(sum(abs(e) < abs(d) for e in moved) + sum(abs(e) <= abs(d) for e in moved) + 1, 2) for d in moved]
    seen = sum(rank for rank, d in zip(ranks, moved, strict=True) if d > 0)
    half = sum(ranks, Fraction(0)) / 2
    drawn = [
        sum(rank for rank, positive in zip(ranks, signs, strict=True) if positive)
        for signs in itertools.product((False, True), repeat=len(moved))
    ]
    expected = Fraction(sum(abs(w - half) >= abs(seen - half) for w in drawn), len(drawn))
    assert pair(*differences).wilcoxon == (float(expected) if moved else None)


@pytest.mark.parametrize("count", [5, 10, 13])
def test_without_ties_it_is_scipys_exact_test(count):
    differences = np.random.default_rng(count).standard_normal(count)
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert pair(*differences).wilcoxon == pytest.approx(expected, rel=1e-12)


def test_many_pairs_are_approximated():
    differences = np.random.default_rng(1).standard_normal(40) + 0.3
    exact = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert pair(*differences).wilcoxon == pytest.approx(exact, rel=0.1)


def test_rounding_breaks_no_tie():
    """0.9 - 0.8 and 0.2 - 0.1 differ in their last digit; as ties, each has rank 2."""
    found = paired({0: 0.9, 1: 0.2, 2: 0.8}, {0: 0.8, 1: 0.1, 2: 0.9})
    assert 0.9 - 0.8 != 0.2 - 0.1
    assert found.wilcoxon == pair(1.0, 1.0, -1.0).wilcoxon


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_difference_needs_finite_numbers(value):
    with pytest.raises(ValueError, match=r"the pair of seed 1 is .*, expected finite numbers"):
        paired({0: 1.0, 1: value}, {0: 0.0, 1: 0.0})


@pytest.mark.slow
@pytest.mark.parametrize(("count", "ours", "percentile", "bca"), [(5, 0.921, 0.834, 0.833), (10, 0.946, 0.898, 0.895)])
def test_the_docstring_is_right_about_how_often_the_interval_holds_the_mean(count, ours, percentile, bca):
    drawn = np.random.default_rng(7).standard_normal((6000, count))
    held = [found.low <= 0 <= found.high for found in (pair(*differences) for differences in drawn[:2000])]
    assert np.mean(held) == pytest.approx(ours, abs=0.012)  # two standard errors
    for method, expected in {"percentile": percentile, "BCa": bca}.items():
        held = []
        for part in np.array_split(drawn, 120):
            made = scipy.stats.bootstrap((part,), np.mean, axis=1, n_resamples=2000, method=method, random_state=0)
            held += list((made.confidence_interval.low <= 0) & (made.confidence_interval.high >= 0))
        assert np.mean(held) == pytest.approx(expected, abs=0.01)  # likewise


def test_a_run_that_never_arrived_is_infinite():
    assert middle([3, math.inf, 1]) == 3
    assert middle([3, math.inf, math.inf]) == math.inf
    assert middle([3, 5]) == 4
    assert middle([3, math.inf]) == math.inf
    assert math.isnan(middle([]))


def test_survival_is_the_share_that_is_not_there_yet():
    assert survival([10, 20, math.inf, 20], [0, 10, 19, 20, 1e9]) == [1.0, 0.75, 0.75, 0.25, 0.25]
    with pytest.raises(ValueError, match="there is no run"):
        survival([], [1])


def _cell(norm, lr, seed, score, **others):
    return Cell({"norm": norm, "lr": lr, "seed": seed, **others}, {"validation_accuracy": score, "other": lr}, {})


def test_the_best_mean_on_validation_is_chosen_for_each_method():
    cells = [
        *(_cell("bn", 0.1, seed, score) for seed, score in enumerate([0.9, 0.5])),
        *(_cell("bn", 0.01, seed, score) for seed, score in enumerate([0.75, 0.75])),
        *(_cell("uan", 0.1, seed, score) for seed, score in enumerate([0.9, 0.9])),
        *(_cell("uan", 0.01, seed, score) for seed, score in enumerate([0.8, 0.95])),
    ]
    assert choose(cells) == {("bn",): 0.01, ("uan",): 0.1}
    assert choose(reversed(cells)) == choose(cells)
    assert choose(cells, score="other") == {("bn",): 0.1, ("uan",): 0.1}


def test_a_diverged_run_and_equal_means():
    cells = [_cell("bn", 0.1, 0, None), _cell("bn", 0.1, 1, 0.9), _cell("bn", 0.01, 0, 0.5), _cell("bn", 0.01, 1, 0.5)]
    assert choose(cells) == {("bn",): 0.01}
    assert choose([_cell("bn", lr, 0, 0.5) for lr in (0.3, 0.1, 0.2)]) == {("bn",): 0.1}
    assert choose([_cell("bn", lr, 0, None) for lr in (0.3, 0.1)]) == {("bn",): 0.1}


def test_incomplete_cells_are_compared_on_what_all_have():
    cells = [
        _cell("bn", 0.1, 0, 0.99),  # the other was not tried with it
        _cell("bn", 0.01, 0, 0.6),
        _cell("bn", 0.01, 1, 0.9),  # without its partner of seed 1
        _cell("bn", 0.001, 0, 0.7),
        _cell("uan", 0.01, 0, 0.5),
        _cell("uan", 0.001, 0, 0.4),
    ]
    assert choose(cells) == {("bn",): 0.001, ("uan",): 0.01}
    assert choose([]) == {}
    assert choose([_cell("bn", 0.1, 0, 0.9), _cell("uan", 0.2, 0, 0.9)]) == {}


def test_two_configs_in_one_place_are_refused():
    cells = [_cell("bn", 0.1, 0, 0.9, batch_size=8), _cell("bn", 0.1, 0, 0.8, batch_size=16)]
    with pytest.raises(ValueError, match=r"two configs of bn at lr 0\.1 and seed 0 differ, expected one: add to by"):
        choose(cells)
    assert choose(cells, by=("norm", "batch_size")) == {("bn", 8): 0.1, ("bn", 16): 0.1}
    assert choose([cells[0], cells[0]]) == {("bn",): 0.1}
