"""The claims: which verdicts count, and the data file of the authors' figures."""

from __future__ import annotations

import re

import pytest

from uanref.experiments import registry
from uanref.experiments.claims import CLAIMS, Claim, published, verdict_on
from uanref.experiments.verdicts import Verdict

CLAIM = Claim("UAN is better.", "cost", "^UAN")


def verdict(claim, said):
    return Verdict(claim, "", said, f"because of {claim}")


def judged(*said):
    return verdict_on(CLAIM, {"cost": [verdict(f"UAN {i}", one) for i, one in enumerate(said)]})


def test_every_claim_has_an_experiment_or_a_reason():
    for claim in CLAIMS:
        assert bool(claim.experiment) != bool(claim.why), claim.text
        assert claim.experiment in ("", *registry.NAMES)
        assert bool(claim.counts) == bool(claim.experiment)
        re.compile(claim.counts)
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_every_claim_finds_a_verdict_of_its_experiment():
    for claim in CLAIMS:
        if claim.experiment:
            said = [one.claim for one in registry.find(claim.experiment).verdicts([])]
            found = [one for one in said if re.search(claim.counts, one)]
            # Of no cells, classification and inference name no setting, so that they have nothing to say.
            assert found or claim.experiment in ("classification", "inference"), claim.text


def test_a_claim_takes_all_that_could_be_tested():
    assert judged("supported", "supported") == ("supported", "2 of 2 comparisons support it.")
    assert judged("supported", "not supported")[0] == "not supported"
    assert judged("supported", "not testable here") == ("supported", "1 of 1 comparisons support it.")
    assert judged("not testable here", "not testable here") == ("not testable here", "because of UAN 0")


def test_other_verdicts_do_not_count():
    found = {"cost": [verdict("BN is worse", "not supported"), verdict("UAN is fine", "supported")]}
    assert verdict_on(CLAIM, found)[0] == "supported"
    assert verdict_on(CLAIM, {"cost": found["cost"][:1]}) == (
        "not testable here",
        "The runs on this page do not judge it.",
    )


def test_a_claim_without_runs_or_without_an_experiment():
    assert verdict_on(CLAIM, {}) == ("not testable here", "No runs of this experiment are on this page.")
    assert verdict_on(Claim("c", why="No data."), {}) == ("not testable here", "No data.")


def test_the_authors_figures_fit_their_tables():
    entries = published()
    assert {entry.experiment for entry in entries} <= {None, *registry.NAMES}
    for entry in entries:
        assert all(len(row) == len(entry.columns) for row in entry.rows), entry.title
        assert bool(entry.rows) == bool(entry.title)
        assert entry.source
        assert entry.remarks


@pytest.mark.parametrize("figure", ["87.97", "59.82", "39.71", "63.21", "69.65", "33.4", "54.70"])
def test_their_figures_are_there(figure):
    assert any(figure in cell for entry in published() for row in entry.rows for cell in row)
