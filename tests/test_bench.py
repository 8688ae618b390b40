"""The benchmarks: structure, limits, and that both contestants compute the same. Never how fast."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from support import requirements

from uanref import backend
from uanref.bench import conv, norms, peer, suite, timing
from uanref.verify.versions import VERSIONS

TINY = {
    "conv-16-32": suite.Case(lambda name: conv.conv2d((2, 3, 5, 5), 4, name), "a convolution", 2.0),
    "batchnorm": suite.Case(lambda name: norms.batch_norm((2, 3, 4, 4), name), "a norm [with brackets]"),
    "uan": suite.Case(lambda name: norms.uan((2, 3, 4, 4), name), "a mixture", 0.5, peak_limit_mb=1.0),
    "uan-batchnorm": suite.Case(lambda name: norms.uan_beside_batch_norm((2, 3, 4, 4), name), "two of ours"),
}
NO_TORCH = 'PyTorch is not installed; to compare with it: pip install ".[oracle]"'


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "CASES", TINY)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(peer.importlib, "import_module", missing)


def printed(rows: list[suite.Row], width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(suite.report(rows))
    return console.export_text()


CONTESTS = {
    "conv": (lambda: conv.conv2d((2, 3, 6, 5), 4), 4),
    "conv, more outputs than twice the inputs": (lambda: conv.conv2d((2, 1, 6, 5), 4), 4),
    "batch norm": (lambda: norms.batch_norm((3, 4, 5, 5)), 4),
    "uan": (lambda: norms.uan((3, 4, 5, 5)), 7),
}


@pytest.mark.parametrize("name", CONTESTS)
def test_both_contestants_compute_the_same(name: str) -> None:
    requirements.require_torch()
    make, count = CONTESTS[name]
    contest = make()
    ours, theirs = contest.ours(), contest.peer()
    assert len(ours) == len(theirs) == count
    for one, other in zip(ours, theirs, strict=True):
        other = other.numpy()
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 2e-5 * max(1.0, np.abs(other).max())
        assert np.abs(one).max() > 0


def test_rows_with_pytorch(tiny: None) -> None:
    requirements.require_torch()
    rows = suite.run(repeats=2)
    assert [(row.case, row.version) for row in rows] == [(case, version) for case in TINY for version in VERSIONS]
    for row in rows:
        assert row.ours_ms > 0
        assert row.peer_ms > 0
        assert row.ratio > 0
        assert row.peak_mb > 0
        assert not row.note
    assert [row.limit for row in rows if row.version == "fast"] == [2.0, None, 0.5, None]
    assert all(row.limit is None and row.peak_limit_mb is None for row in rows if row.version == "definition")


def test_rows_without_pytorch(tiny: None, no_torch: None) -> None:
    rows = suite.run(repeats=1, versions=["fast"])
    assert {row.version for row in rows} == {"fast"}
    alone, beside_ours = rows[:3], rows[3]
    assert all(row.peer_ms is None and row.ratio is None and row.note == NO_TORCH for row in alone)
    assert beside_ours.peer == "our BatchNorm"
    assert beside_ours.ratio > 0
    text = printed(rows, width=120)
    assert text.count('pip install ".[oracle]"') == 1
    assert "a norm [with brackets]" in text


def test_only_one_case(tiny: None) -> None:
    assert [row.case for row in suite.run(repeats=1, only="batchnorm", versions=["definition"])] == ["batchnorm"]


def test_each_version_runs_as_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    contest = timing.Contest(lambda: seen.append(backend.is_plain()), None, "nobody", "why")
    monkeypatch.setattr(suite, "CASES", {"conv": suite.Case(lambda name: contest, "a probe")})
    calls = timing.WARM_UP + 1 + 1  # one repeat, one for the memory
    rows = suite.run(repeats=1, versions=["fast", "definition"])
    assert [row.version for row in rows] == ["fast", "definition"]
    assert seen == [False] * calls + [True] * calls
    with backend.plain():
        assert [row.version for row in suite.run(repeats=1)] == ["definition"]


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown version 'slow': expected one or both of definition,fast"):
        suite.run(versions=["slow"])


def test_an_unknown_case_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"unknown case 'fft': expected one of conv-16-32, conv-64-64, batchnorm, uan"):
        suite.run(only="fft")


@pytest.mark.parametrize("repeats", [0, -3])
def test_repeats_must_be_positive(repeats: int) -> None:
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        suite.run(repeats=repeats)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown backend 'abacus'"):
        suite.run(backend="abacus")


def row(**changes: object) -> suite.Row:
    fields = {
        "case": "conv-16-32",
        "what": "a convolution",
        "version": "fast",
        "ours_ms": 12.34,
        "peer": "torch",
        "peer_ms": 10.0,
        "ratio": 1.234,
        "limit": 2.0,
        "peak_mb": 16.5,
        "peak_limit_mb": None,
        "note": "",
    }
    return suite.Row(**(fields | changes))  # type: ignore[arg-type]


def test_the_report_fits_80_columns() -> None:
    rows = [
        row(
            case=name,
            what=case.what,
            version=version,
            ours_ms=5123.46,
            peak_mb=43.25 if version == "fast" else 843.25,
            peak_limit_mb=case.peak_limit_mb if version == "fast" else None,
        )
        for name, case in suite.CASES.items()
        for version in VERSIONS
    ]
    lines = printed([*rows, row(case="alone", peer_ms=None, ratio=None, note=NO_TORCH)]).splitlines()
    assert max(map(len, lines)) <= 80
    # A line of numbers for each version and one of words for each case.
    for case in rows[:: len(VERSIONS)]:
        *numbers, words = (line for line in lines if line.split()[:1] == [case.case])
        for version, line in zip(VERSIONS, numbers, strict=True):
            assert all(text in line for text in (version, "5123.5", "10.0", "1.23", "2.00", "43.2"))
        assert words.rstrip().endswith(f"{case.what}; peer: torch")
    assert any("43.2 of 50.3" in line for line in lines)
    assert NO_TORCH in lines


def test_what_exceeds_its_limit_is_red() -> None:
    # the ratio is the fifth column, the memory the last one
    def column(made: suite.Table, i: int) -> list[str]:
        return [str(cell) for cell in made.columns[i].cells]

    made = suite.table([row(ratio=2.5), row(ratio=1.5), row(peak_mb=9.0, peak_limit_mb=8.0)])
    assert column(made, 4) == ["[red]2.50[/]", "[green]1.50[/]", "[green]1.23[/]"]
    assert column(made, 6)[2].startswith("[red]9.0[/]")


def test_rows_are_json(tiny: None, no_torch: None) -> None:
    rows = suite.run(repeats=1, only="uan", versions=["fast"])
    (back,) = json.loads(json.dumps(suite.rows_as_json(rows), allow_nan=False))
    assert (back["case"], back["version"]) == ("uan", "fast")
    assert back["limit"] == 0.5
    assert back["peer_ms"] is None
    assert back["note"] == NO_TORCH


def test_the_suite_measures_what_was_promised() -> None:
    assert {name: case.limit for name, case in suite.CASES.items()} == {
        "conv-16-32": 2.0,
        "conv-64-64": 2.0,
        "batchnorm": 2.0,
        "uan": 0.5,
        "uan-batchnorm": None,
    }
    assert suite.CASES["uan"].peak_limit_mb == pytest.approx(3 * 64 * 64 * 32 * 32 * 4 / 1e6)


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    contest = timing.Contest(lambda: calls.append("a"), lambda: calls.append("b"), "b")
    found = timing.measure(contest, repeats=3)
    warm = timing.WARM_UP
    assert calls == ["a"] * warm + ["b"] * warm + list("ab" + "ba" + "ab")
    assert found.ratio is not None
    assert math.isfinite(found.ratio)


def test_alone_there_is_no_ratio() -> None:
    found = timing.measure(timing.Contest(lambda: None, None, "nobody", "why"), repeats=2)
    assert found.peer is None
    assert found.ratio is None
    assert found.ours >= 0


def test_peak_memory_counts_intermediates_and_only_the_extra() -> None:
    before = np.ones(10**6)  # 8 MB that were there already

    def task() -> float:
        twice = np.concatenate([before, before])  # 16 MB
        return float(twice[0])

    assert 16e6 <= timing.peak_bytes(task) <= 17e6
