"""Rows: what is in them, how they are printed, stored and put into the page. Never how fast."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support import requirements

from uanref import backend
from uanref.bench import cases, page, peers, record, report, suite, sweep, timing
from uanref.bench.cases import Case
from uanref.bench.limits import Limits
from uanref.bench.peers import Cannot, Peer
from uanref.bench.record import Record
from uanref.bench.suite import Row
from uanref.bench.work import Material, Stage, Work
from uanref.verify.versions import VERSIONS

ROOT = Path(__file__).parents[2]
NORM = Work((2, 3, 4, 4), (Stage("bn", 3),))
TINY = {
    "conv-16-32": Case("a convolution", Work((2, 3, 5, 5), (Stage("conv", 3, 4),)), goals={"torch": 2.0}),
    "batchnorm": Case("a norm [with brackets]", NORM, threads=1),
    "uan": Case(
        "a mixture", Work((2, 3, 4, 4), (Stage("uan", 3),)), goals={"torch": 0.5, "fake": 9.0}, peak_limit_mb=1.0
    ),
    "uan-batchnorm": Case("two of ours", Work((2, 3, 4, 4), (Stage("uan", 3),)), beside=NORM),
    "import": Case("a process", command=("-c", "pass")),
}
LIMITS = Limits(2, 100.0, 10.0, 1.0)


class Fake(Peer):
    """A peer that does nothing, on NumPy."""

    name, title = "fake", "Fake"
    on_numpy = True
    kinds = frozenset({"conv", "bn"})

    def made(self, what: Work, given: Material):
        if what.stages[0].kind == "conv":
            raise OSError("no compiler\nand more")
        return lambda: np.ones(10**5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "CASES", TINY)
    monkeypatch.setattr(cases, "IMPORT_NUMPY", ("-c", "pass"))
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(suite.limits, "measured", lambda threads: dataclasses.replace(LIMITS, threads=threads))


def printed(rows: list[Row], width: int = 80, **more: object) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report.report(rows, **more))  # type: ignore[arg-type]
    return console.export_text()


def test_rows_beside_pytorch(tiny: None) -> None:
    requirements.require_torch()
    there, _ = peers.find(["torch"])
    known: dict[int, Limits] = {}
    rows = list(suite.run(peers=there, repeats=2, versions=VERSIONS, threads=2, known=known))
    assert [(row.case, row.version) for row in rows] == [
        *((case, version) for case in list(TINY)[:-1] for version in VERSIONS),
        ("import", ""),
    ]
    assert set(known) == {2}
    for row in rows:
        assert row.threads == 2
        assert row.ours_ms > 0
        assert row.peer_ms > 0
        assert row.ratio > 0
        assert row.spread >= 0
        assert 1 <= row.rounds <= timing.ROUNDS
        assert not row.note
    assert [row.peer for row in rows[::2]] == ["torch"] * 3 + ["our BatchNorm", "import numpy"]
    assert [row.goal for row in rows if row.version == "fast"] == [2.0, None, 0.5, None]
    assert all(row.goal is None and row.peak_limit_mb is None for row in rows if row.version == "definition")
    conv, norm, uan = rows[0], rows[2], rows[4]
    assert [row.unit for row in (conv, norm, uan)] == ["GFLOP/s", "GB/s", "Gexp/s"]
    assert conv.rate == pytest.approx(6 * 2 * 4 * 25 * 27 / conv.ours_ms / 1e6)
    assert conv.of_limit == pytest.approx(conv.rate / 100.0)
    assert uan.of_limit == pytest.approx(uan.rate / 1.0)
    assert all(row.peak_mb > 0 for row in rows[:-1])
    assert [row.peer_peak_mb is None for row in rows[::2]] == [True, True, True, False, True]


def test_rows_with_nobody_beside(tiny: None) -> None:
    rows = list(suite.run(repeats=1, names=["batchnorm", "conv-16-32"]))
    assert [(row.case, row.version, row.peer) for row in rows] == [
        ("conv-16-32", "fast", ""),
        ("batchnorm", "fast", ""),
    ]
    assert all(row.ratio is None and row.goal is None and row.peer_ms is None and row.rate for row in rows)
    text = printed(rows)
    assert "nobody beside" in text
    assert "a norm [with brackets]" in text


def test_what_a_peer_cannot_do_becomes_a_note(tiny: None) -> None:
    fakes = [Fake(), type("Second", (Fake,), {"name": "second"})()]
    rows = list(suite.run(repeats=1, peers=fakes, names=["conv-16-32", "batchnorm", "uan"]))
    conv, _, norm, _, uan, _ = rows
    assert norm.peer_peak_mb == pytest.approx(0.8, abs=0.01)
    assert conv.note == "fake failed (OSError: no compiler and more)."
    assert uan.note == "Fake has no operations for UAN's formula."
    assert conv.ours_ms is uan.ours_ms is None
    assert [row.peer for row in rows] == ["fake", "second"] * 3
    text = " ".join(printed(rows).split())
    assert "uan: Fake has no operations for UAN's formula." in text
    assert text.count("no operations") == 1


def test_each_version_and_number_of_threads_runs_as_it_is_named(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, int]] = []

    class Probe(Fake):
        @contextlib.contextmanager
        def limited(self, threads: int) -> Iterator[None]:
            seen.append((True, -threads))
            yield

    monkeypatch.setattr(suite.ours, "task", lambda *_: lambda: seen.append((backend.is_plain(), backend.threads())))
    rows = list(suite.run(repeats=1, names=["batchnorm"], versions=["definition", "fast"], peers=[Probe()]))
    calls = timing.WARM_UP + 1 + 1 + 1
    assert [row.version for row in rows] == ["definition", "fast"]
    assert seen == [(True, -1)] + [(True, 1)] * calls + [(True, -1)] + [(False, 1)] * calls
    with backend.plain():
        assert [row.version for row in suite.run(repeats=1, names=["batchnorm"])] == ["definition"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"versions": ["slow"]}, "unknown version 'slow': expected one or both of definition,fast"),
        ({"names": ["fft"]}, "unknown case 'fft': expected all, or some of digits-none"),
        ({"repeats": 0}, "repeats must be >= 1"),
        ({"threads": 0}, "threads must be >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suite.run(**options)  # type: ignore[arg-type]


def row(**changes: object) -> Row:
    fields = {
        "case": "batchnorm-512",
        "what": "BatchNorm, (256, 512)",
        "threads": 2,
        "version": "definition",
        "ours_ms": 5123.46,
        "peer": "torch",
        "peer_ms": 4000.4,
        "ratio": 12.345,
        "goal": 1.0,
        "spread": 0.123,
        "rounds": 1,
        "rate": 1234.5,
        "unit": "GFLOP/s",
        "of_limit": 0.987,
        "peak_mb": 1016.54,
        "peak_limit_mb": 50.33,
    }
    return Row(**(fields | changes))  # type: ignore[arg-type]


def test_the_report_fits_80_columns_and_says_what_matters() -> None:
    rows = [row(case=name, what=case.what) for name, case in cases.CASES.items()]
    rows += [row(noisy=True, spread=1.234), row(case="uan", note="JAX has no such thing.", ours_ms=None, peer="jax")]
    facts = {"malloc": "malloc is warm", "load": 3.14, "cores": 2}
    lines = printed(rows, limits=[LIMITS], facts=facts).splitlines()
    assert max(map(len, lines)) <= 80
    numbers = next(line for line in lines if line.startswith("cross-entropy"))
    for text in ("definition", "5123", "4000", "12.35", "1.00", "12 %", "1234", "99 %", "1016.5"):
        assert text in numbers, text
    assert any("123 %!" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    for part in (
        "uan: JAX has no such thing.",
        "peak at most 50.3 MB",
        "Limits of this machine with 2 threads: products 100 GFLOP/s, copies 10.0 GB/s, exp 1.00 Gexp/s.",
        "Malloc is warm.",
        "3.1 processes wanted its 2 cores",
        "Too noisy in each of up to 3 rounds (spread above 20 %, marked !): batchnorm-512.",
    ):
        assert part in text, part
    quiet = printed([row()], facts=facts | {"load": 0.1})
    assert "busy" not in quiet
    assert "noisy" not in quiet


def test_what_exceeds_its_goal_is_red() -> None:
    made = report.table([row(ratio=2.5), row(ratio=0.5, goal=None), row(ratio=0.5, peak_mb=9.0)], "torch")
    ratios, peaks = ([str(cell) for cell in made.columns[i].cells] for i in (4, 9))
    assert ratios == ["[red]2.50[/]", "0.50", "[green]0.50[/]"]
    assert peaks[2] == "[green]9.0[/]"


def full() -> Record:
    points = [
        sweep.Point("bn", "N", str(n), (n, 3, 2, 2), 12 * n, 0.1, ns, ns > 50) for n, ns in ((1, 40.0), (2, 110.5))
    ]
    rows = [
        row(),
        row(ratio=0.5, version="fast", noisy=True),
        row(case="help", what="uanref --help", peer="import numpy", version="", goal=None, rate=None, unit=""),
        row(peer="jax", note="JAX has no such thing.", ours_ms=None),
        row(case="x", what="of ours", peer="our BatchNorm", goal=None, ratio=None, rate=None, of_limit=None),
    ]
    machine = {"processor": "a CPU", "cores": 2, "load": 3.0, "malloc": "malloc is warm", "versions": {"numpy": "9"}}
    found = Record("uanref bench --sweep", 7, machine, ["Chainer is not installed"], {2: LIMITS}, rows, points)
    found.picture = "docs/_static/sweep.png"
    return found


def test_json_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(full().as_json(), allow_nan=False), encoding="utf-8")
    assert record.read(path) == full()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', "[" * 10**5, '{"format": 1, "rows": 3}', "\0"])
def test_another_file_is_refused_in_one_sentence(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bench\.json is not what uanref bench --json writes on the host$"):
        record.read(path)


def test_the_page_is_made_of_the_record() -> None:
    made = page.block(full(), Path("docs/benchmarks.md"))
    for part in (
        "$ uanref bench --sweep",
        "a CPU, 2 cores (numpy 9), 7 repeats. Malloc is warm.",
        "**The machine was busy before the run began: 3.0 processes",
        "**1 of 5 rows were too noisy**",
        "### Beside torch",
        "| `batchnorm-512` | definition | 5123 | 4000 | **12.35** | 1.00 | 12 % | 1234 GFLOP/s | 99 % | 1016.5 | 2 |",
        "| `batchnorm-512` | fast | 5123 | 4000 | 0.50 | 1.00 | 12 %! |",
        "| `x` | 5123 | 4000 | - | - | 12 % | - | - | 1016.5 | 2 |",
        "### The cases\n\n- `batchnorm-512`: BatchNorm, (256, 512)\n- `x`: of ours\n\n### Not measured",
        "### A fresh process beside `import numpy`",
        "| uanref --help | 5123 | 4000 | 12.35 | 12 % |",
        "- batchnorm-512: JAX has no such thing.",
        "- Chainer is not installed",
        "](_static/sweep.png)",
        "| bn | N | 1: 40.0, **2: 110** |",
        "bn at N = 2.",
    ):
        assert part in made, part
    assert "### Beside jax" not in made
    assert "interrupted" not in made
    assert "interrupted" in page.block(dataclasses.replace(full(), interrupted=True), Path("x.md"))


def test_numbers_go_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        page.write(path, full())
        text = path.read_text(encoding="utf-8")
        assert text == f"before\n{page.BEGIN}\n\n{page.block(full(), path)}\n{page.END}\nafter\n"
    broken = dataclasses.replace(full(), machine={})
    with pytest.raises(ValueError, match="the numbers make no page"):
        page.write(path, broken)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("content", [b"", page.BEGIN.encode(), f"{page.END} {page.BEGIN}".encode(), b"\xff"])
def test_a_page_without_marks_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.md (lacks the two lines|is no text)"):
        page.text(path)


def test_the_committed_page_is_that_of_the_committed_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = Path("docs/benchmarks.md")
    found = record.read("docs/benchmarks.json")
    _, _, rest = page.text(path).partition(page.BEGIN)
    assert rest.partition(page.END)[0] == f"\n\n{page.block(found, path)}\n", (
        "run uanref bench --page docs/benchmarks.md --from docs/benchmarks.json"
    )
    assert not found.interrupted
    assert Path(found.picture).is_file()
    assert {each.case for each in found.rows} == set(cases.CASES)


def test_a_reason_is_an_exception_of_its_own() -> None:
    assert not issubclass(Cannot, ValueError)
