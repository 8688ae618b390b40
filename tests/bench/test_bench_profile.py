"""Profiles: totals add up, floors and reasons by known numbers, the tables, the page and the command."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from uanref.bench import (
    cases,
    host,
    malloc,
    page,
    profile,
    profile_page,
    profile_record,
    profile_report,
    single,
    suite,
    timing,
)
from uanref.bench.cases import Case
from uanref.bench.limits import Limits
from uanref.bench.profile import Profile, Site, calls_of, least, sites
from uanref.bench.profile_record import ProfileRecord
from uanref.bench.profile_report import REASONS, reason
from uanref.bench.recorder import Call
from uanref.bench.single import Operation, Pair
from uanref.bench.work import Stage, Work, amount, bytes_of
from uanref.cli import main
from uanref.kernels.cpu.rectifier import leaky_relu

OPERATION = Operation(start=0.5, cache=100.0)
LIMITS = Limits(1, gemm=50.0, copy=10.0, exp=2.0)
KNOWN = Profile(
    case="relu",
    what="a ReLU",
    goal=1.0,
    threads=2,
    ratio=2.0,
    ratio_one=1.5,
    noisy=False,
    gain=1.2,
    peer_gain=1.6,
    peer_ms=4.0,
    total_ms=6.0,
    numpy_ms=5.0,
    products_ms=2.0,
    exp_ms=1.0,
    calls=10,
    starts_ms=0.5,
    work_ms=3.0,
    memory_ms=0.0,
    sites=(
        Site("rectifier.py:21", "maximum", "other", 8, 3.0, 25.0, 100.0),
        Site("a.py:1", "|=", "other", 1, 1.0, 0.0, 100.0),
    ),
)


def changed(**values: object) -> Profile:
    return dataclasses.replace(KNOWN, **values)  # type: ignore[arg-type]


def record(*profiles: Profile) -> ProfileRecord:
    facts = {"processor": "a processor", "cores": 2, "load": 1.7, "versions": {"numpy": "2"}, "malloc": "as it is"}
    facts["blas"] = "openblas 1 for Haswell"
    pairs = [Pair(8192, 0.8, 0.9)]
    return ProfileRecord("uanref bench --profile", 3, facts, OPERATION, pairs, ["no PyTorch"], {1: LIMITS}, [*profiles])


def printed(found: ProfileRecord) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(profile_report.report(found))
    return console.export_text()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ratio": 1.0}, "met"),
        ({"ratio_one": 1.0}, "lock"),
        ({"work_ms": 3.6}, "floor"),
        ({"memory_ms": 3.6}, "memory"),
        ({"numpy_ms": 4.5}, "interpreter"),
        ({"numpy_ms": 4.6}, "operations"),
        ({"goal": None}, "-"),
        ({"ratio": None, "ratio_one": None, "peer_ms": None}, "-"),
    ],
)
def test_the_reason_is_the_first_that_holds(values: dict[str, object], expected: str) -> None:
    assert reason(changed(**values)) == expected
    assert expected in (*REASONS, "-")


def test_parts_add_up() -> None:
    assert KNOWN.python_ms == 1.0
    assert KNOWN.floor_ms == 3.5
    assert changed(memory_ms=4.0).floor_ms == 4.5
    assert changed(total_ms=4.0).python_ms == 0.0  # a noisy machine
    assert profile_report.shares(KNOWN) == ("relu", "6.00", "17 %", "33 %", "17 %", "33 %", "10", "3.50", "4.00")


def call(kind: str = "other", name: str = "add", seconds: float = 1e-3, **values: float) -> Call:
    made = {"numbers": 10**6, "bytes": 10**7, "operations": 0.0} | values
    return Call("a.py:1", name, kind, seconds=seconds, **made)  # type: ignore[arg-type]


def test_the_least_that_a_call_takes_is_its_longest_bound() -> None:
    assert least(call(), OPERATION, LIMITS) == pytest.approx(1e-4)  # 10 MB by 100 GB/s
    assert least(call("exp"), OPERATION, LIMITS) == pytest.approx(5e-4)  # 10^6 by 2 Gexp/s
    assert least(call("product", operations=1e9, seconds=1.0), OPERATION, LIMITS) == pytest.approx(2e-2)
    assert least(call("product", operations=1e9, seconds=1e-2), OPERATION, LIMITS) == 1e-2  # faster than the limit
    assert least(call("product", operations=1e3), OPERATION, LIMITS) == pytest.approx(1e-4)


def test_places_are_put_together_and_sorted() -> None:
    calls = [
        call(),
        call("exp", "exp", seconds=5e-3),
        call(),
        *(call(name=f"other {i}", seconds=1e-6) for i in range(9)),
    ]
    first, second, *rest = sites(calls, OPERATION, LIMITS)
    assert (first.name, first.kind, first.count, first.ms, first.limit) == ("exp", "exp", 1, 5.0, 2.0)
    assert first.rate == pytest.approx(0.2)
    assert (second.name, second.count, second.ms, second.limit) == ("add", 2, 2.0, 100.0)
    assert second.rate == pytest.approx(10.0)
    assert len(rest) == 3


def test_a_known_pass_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    x = np.random.default_rng(0).standard_normal(1000).astype("float32")
    total, calls = calls_of(lambda: leaky_relu(x, 0.3))
    assert [one.name for one in calls] == ["empty", "multiply", "maximum"]
    assert calls[1].bytes == 2 * x.nbytes
    assert calls[0].bytes == 0
    assert 0.0 < sum(one.seconds for one in calls) < 1.0
    assert total > 0.0


def test_two_threads_and_a_single_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "LEAST_SECONDS", 1e-4)
    found = single.pairs((16, 64), repeats=2)
    assert [one.size for one in found] == [16, 64]
    assert all(one.us > 0.0 and one.gain > 0.0 for one in found)
    cost = single.operation()
    assert 0.0 < cost.start < 1e3
    assert cost.cache > 0.0


def test_bytes_of_a_pass() -> None:
    norm = Work((2, 3, 4, 4), (Stage("bn", 3),))
    assert bytes_of(norm) == amount(norm).number == 5 * 96 * 4
    assert bytes_of(Work((5, 7), (), "loss")) == 2 * 35 * 4


def test_tables_fit_a_terminal_and_say_what_words_mean() -> None:
    text = printed(record(KNOWN, changed(case="conv5-64-128", ratio=None, noisy=True)))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for word in (
        "rectifier.py:21",
        "25.0 GB/s",
        "8,192",
        "0.90",
        "Limits of this machine with one thread",
        "no PyTorch",
    ):
        assert word in text
    assert "operations: none of these" in text
    assert "lock: with one thread" not in text


def test_threads_that_slowed_pytorch_down_are_told(tmp_path: Path) -> None:
    found = record(KNOWN, changed(case="slow", peer_gain=0.6), changed(case="one thread", peer_gain=None))
    assert "PyTorch was slower with several threads than with one in 1 of 3 rows" in printed(found).replace("\n", " ")
    assert "in 1 of 3 rows (slow):" in profile_page.block(found)
    assert profile_report.doubt([KNOWN]) == ""
    assert "PyTorch was slower" not in profile_page.block(record(KNOWN))


def test_an_empty_record_has_its_machine_alone() -> None:
    text = printed(record())
    assert "where the time goes" not in text
    assert "two threads" in text


def test_the_page_holds_the_tables(tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    begin, end = profile_page.MARKS
    target.write_text(f"before\n{begin}\nold\n{end}\nbehind\n", encoding="utf-8")
    profile_page.write(target, record(KNOWN))
    text = target.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nbehind\n")
    assert "old" not in text
    assert "$ uanref bench --profile" in text
    assert "| `relu` | 2.00 | 1.00 | 1.50 | 1.20 | 1.60 | 0.88 | operations |" in text
    assert "| `relu` | 6.00 | 17 % | 33 % | 17 % | 33 % | 10 | 3.50 | 4.00 |" in text
    assert "| `relu` | `a.py:1` | `\\|=` | 1 | 17 % | - | - |" in text
    assert "| 8,192 | 0.80 | 0.90 |" in text
    assert "products by openblas 1 for Haswell" in text
    assert "The machine was busy" in text
    (tmp_path / "other.md").write_text(f"{page.BEGIN}\n{page.END}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the two lines"):
        profile_page.write(tmp_path / "other.md", record(KNOWN))


def test_a_record_survives_json(tmp_path: Path) -> None:
    path, found = tmp_path / "p.json", record(KNOWN, changed(case="two"))
    path.write_text(json.dumps(found.as_json()), encoding="utf-8")
    assert profile_record.read(path) == found
    for broken in ("[]", "{}", json.dumps(found.as_json() | {"kind": "rows"}), json.dumps({"format": 1})):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match="is not what uanref bench --profile --json writes"):
            profile_record.read(path)


@pytest.mark.parametrize(("field", "value"), [("total_ms", "x"), ("ratio", []), ("starts_ms", None)])
def test_edited_numbers_make_no_page(tmp_path: Path, field: str, value: object) -> None:
    path, target, content = tmp_path / "p.json", tmp_path / "p.md", record(KNOWN).as_json()
    content["profiles"][0][field] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    before = "{}\n{}\n".format(*profile_page.MARKS)
    target.write_text(before, encoding="utf-8")
    with pytest.raises(ValueError, match="the numbers make no page"):
        profile_page.write(target, profile_record.read(path))
    assert target.read_text(encoding="utf-8") == before


def test_the_blas_is_told_with_what_its_code_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scipy = {"user_api": "blas", "filepath": "/x/scipy.libs/b.so", "internal_api": "mkl", "version": "9"}
    numpy = scipy | {"filepath": "/x/numpy.libs/a.so", "internal_api": "openblas", "version": "1.2"}
    found = [{"user_api": "openmp", "filepath": "/x/numpy.libs/gomp.so"}, scipy, numpy | {"architecture": "Zen"}]
    monkeypatch.setattr(host.threadpoolctl, "threadpool_info", lambda: found)
    assert host.blas() == "openblas 1.2 for Zen"
    found[2] = numpy
    assert host.blas() == "openblas 1.2"
    found.pop()
    assert host.blas() == "unknown"


@pytest.mark.parametrize(
    ("kind", "flags", "is_advised"),
    [
        ("Haswell", "fpu avx512f avx512bw avx512dq avx512vl", True),
        ("Zen", "avx512f avx512bw avx512dq avx512vl", True),
        ("SkylakeX", "avx512f avx512bw avx512dq avx512vl", False),
        ("Haswell", "fpu avx2 avx512f", False),
    ],
)
def test_a_blas_for_older_processors_is_told(
    kind: str, flags: str, is_advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = {"user_api": "blas", "filepath": "/x/numpy.libs/a.so", "internal_api": "openblas", "version": "1.2"}
    monkeypatch.setattr(host.threadpoolctl, "threadpool_info", lambda: [library | {"architecture": kind}])
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"model name: one\nflags\t\t: {flags}\n")
    found = host.blas_advice()
    assert bool(found) == is_advised
    assert not is_advised or ("OPENBLAS_CORETYPE=SkylakeX" in found and f"for {kind}" in found)


def test_a_system_that_does_not_tell_gets_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError("/proc/cpuinfo")

    monkeypatch.setattr(host, "blas", lambda: "openblas 1 for Haswell")
    monkeypatch.setattr(Path, "read_text", missing)
    assert host.blas_advice() == ""


def test_cases_without_a_pass_of_ours_are_refused() -> None:
    assert set(profile.chosen(None)) == set(profile.chosen(("all",)))
    assert not {"import", "help", "uan-batchnorm"} & set(profile.chosen(None))
    for name in ("import", "uan-batchnorm"):
        with pytest.raises(ValueError, match=f"{name} has no pass of ours to profile"):
            profile.chosen((name,))
    with pytest.raises(ValueError, match="unknown case 'fft'"):
        profile.chosen(("fft",))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two quick cases, no peer, no malloc."""
    norm = Work((2, 3, 4, 4), (Stage("bn", 3),))
    goals = {"torch": 1.0}
    found = {"one": Case("a norm", norm, goals=goals, threads=1), "two": Case("again", norm, goals=goals, threads=2)}
    monkeypatch.setattr(cases, "CASES", found)
    monkeypatch.setattr(suite.limits, "measured", lambda threads: dataclasses.replace(LIMITS, threads=threads))
    monkeypatch.setattr(profile_record.peers, "find", lambda: ([], ["PyTorch is not installed; do this"]))
    monkeypatch.setattr(malloc, "keep_warm", lambda: "malloc is as it is")
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    monkeypatch.setattr(single, "LEAST_SECONDS", 1e-4)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("tiny")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    begin, end = profile_page.MARKS
    Path("page.md").write_text(f"{begin}\n{end}\n", encoding="utf-8")
    assert main(["bench", "--profile", "--repeats", "1", "--json", "p.json", "--page", "page.md"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "2 of 2 profiled: two"
    assert "PyTorch is not installed; do this" in out
    text = Path("page.md").read_text(encoding="utf-8")
    assert "| `two` |" in text
    found = profile_record.read("p.json")
    assert [(one.case, one.threads, one.ratio) for one in found.profiles] == [("one", 1, None), ("two", 2, None)]
    assert sorted(found.limits) == [1, 2]
    for one in found.profiles:
        assert one.calls > 10
        assert one.products_ms + one.exp_ms < one.numpy_ms
        assert one.memory_ms == 0.0
        assert one.starts_ms == pytest.approx(one.calls * found.operation.start / 1e3)
    Path("page.md").write_text(f"{begin}\n{end}\n", encoding="utf-8")
    assert main(["bench", "--profile", "--page", "page.md", "--from", "p.json"]) == 0
    assert Path("page.md").read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("first", [True, False])
def test_ctrl_c_keeps_what_was_profiled(
    first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = profile.calls_of

    def stop(task: timing.Task) -> object:
        if first or Path("p.json").exists():
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(profile, "calls_of", stop)
    assert main(["bench", "--profile", "--repeats", "1", "--json", "p.json", "-q"]) == 130
    err = capsys.readouterr().err
    kept = "" if first else ", p.json has what was"
    assert err == f"uanref: interrupted: {0 if first else 1} of 2 were profiled{kept}\n"
    assert Path("p.json").exists() != first


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "fft"], "unknown case 'fft'"),
        (["--sweep", "--against", "torch"], "leave out --against, --sweep"),
        (["--versions", "fast"], "leave out --versions"),
        (["--from", "p.json"], "--from needs --page"),
        (["--from", "p.json", "--page", "p.md", "--threads", "1"], "leave out --threads"),
        (["--from", "p.json", "--page", "p.md"], "p.json"),
        (["--json", "no/p.json"], "there is no folder no"),
        (["--page", "p.md"], "p.md"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--profile", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
