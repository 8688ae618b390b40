"""The command: options that fit together, files that are written as rows come, Ctrl-C, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uanref.bench import cases, malloc, page, session, suite, sweep, timing
from uanref.bench.cases import Case
from uanref.bench.limits import Limits
from uanref.bench.work import Stage, Work
from uanref.cli import main


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three quick cases, a sweep of one point an axis, no peer, no malloc."""
    norm = Work((2, 3, 4, 4), (Stage("bn", 3),))
    monkeypatch.setattr(cases, "CASES", {name: Case(f"norm {name}", norm) for name in ("one", "two", "uan")})
    monkeypatch.setattr(suite.limits, "measured", lambda threads: Limits(threads, 1.0, 1.0, 1.0))
    monkeypatch.setattr(session.peers, "find", lambda names: ([], ["PyTorch is not installed; do this"]))
    monkeypatch.setattr(malloc, "keep_warm", lambda: "malloc is as it is")
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(sweep, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(sweep, "LAYERS", ("bn",))
    monkeypatch.setattr(sweep, "AXES", {axis: sizes[:1] for axis, sizes in sweep.AXES.items()})
    monkeypatch.chdir(tmp_path)


def marked(path: Path) -> Path:
    path.write_text(f"words\n{page.BEGIN}\n{page.END}\n", encoding="utf-8")
    return path


def test_cases_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--repeats", "1", "--case", "two,one", "--only", "uan", "--json", "b.json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "nobody beside" in out
    assert "PyTorch is not installed; do this" in out
    found = json.loads(Path("b.json").read_text(encoding="utf-8"))
    assert [(row["case"], row["version"]) for row in found["rows"]] == [
        ("one", "fast"),
        ("two", "fast"),
        ("uan", "fast"),
    ]
    assert found["interrupted"] is False
    assert found["command"].startswith("uanref bench --repeats 1 --case")
    assert found["repeats"] == 1
    assert found["missing"] == ["PyTorch is not installed; do this"]


def test_versions_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--repeats", "1", "--case", "one", "--versions", "definition,fast", "--threads", "1"]
    assert main([*arguments, "--json", "b.json"]) == 0
    rows = json.loads(Path("b.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["version"], row["threads"]) for row in rows] == [("definition", 1), ("fast", 1)]
    assert "2 of 2 measured: one fast" in capsys.readouterr().err


def test_a_sweep_alone_its_picture_and_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    marked(Path("page.md"))
    assert (
        main(["bench", "--sweep", "--repeats", "1", "--out", "s.png", "--page", "page.md", "--json", "b.json", "-q"])
        == 0
    )
    out, err = capsys.readouterr()
    assert err == ""
    assert "No cliff" in out
    found = json.loads(Path("b.json").read_text(encoding="utf-8"))
    assert found["rows"] == found["missing"] == []
    assert [point["axis"] for point in found["sweep"]] == ["N", "HxW", "C"]
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")
    text = Path("page.md").read_text(encoding="utf-8")
    assert "](s.png)" in text
    marked(Path("page.md"))
    assert main(["bench", "--page", "page.md", "--from", "b.json"]) == 0
    assert Path("page.md").read_text(encoding="utf-8") == text


def test_all_cases_and_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--sweep", "--case", "all", "--repeats", "1"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "6 of 6 measured: bn, C = 1"
    assert "norm one" in out


@pytest.mark.parametrize("where", ["a row", "the sweep"])
def test_ctrl_c_keeps_what_was_measured(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marked(Path("page.md"))
    real = suite.measure
    seen: list[int] = []

    def stop(*arguments: object) -> object:
        if seen:  # the row before is on the disk already
            assert len(json.loads(Path("b.json").read_text(encoding="utf-8"))["rows"]) == len(seen)
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    def broken(what: object, repeats: int) -> float:
        raise KeyboardInterrupt

    if where == "a row":
        monkeypatch.setattr(suite, "measure", stop)
    else:
        monkeypatch.setattr(sweep, "_seconds", broken)
    arguments = ["bench", "--case", "all", "--sweep", "--repeats", "1", "--json", "b.json", "--page", "page.md", "-q"]
    assert main(arguments) == 130
    out, err = capsys.readouterr()
    done = 2 if where == "a row" else 3
    assert err == f"uanref: interrupted: {done} of 6 were measured, b.json has what was\n"
    assert "norm two" in out
    found = json.loads(Path("b.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == done
    assert found["interrupted"] is True
    assert page.text(Path("page.md")) == f"words\n{page.BEGIN}\n{page.END}\n"


def test_ctrl_c_before_the_first_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "measure", stop)
    assert main(["bench", "--repeats", "1", "--json", "b.json", "-q"]) == 130
    assert capsys.readouterr().err == "uanref: interrupted: 0 of 3 were measured\n"
    assert not Path("b.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "fft"], "unknown case 'fft': expected all, or some of one, two, uan"),
        (["--case", "one,,two"], "expected entries separated by single commas"),
        (["--versions", "slow"], "unknown version 'slow'"),
        (["--threads", "0"], "expected a whole number >= 1"),
        (["--out", "s.png"], "add --sweep"),
        (["--from", "b.json"], "--from needs --page"),
        (["--page", "p.md", "--from", "b.json"], "b.json"),
        (["--page", "p.md", "--from", "b.json", "--sweep", "--case", "one"], "leave out --case, --sweep"),
        (["--page", "p.md"], "p.md"),
        (["--json", "no/b.json"], "there is no folder no"),
        (["--sweep", "--out", "no/s.png"], "there is no folder no"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_a_page_without_marks_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.md").write_text("words", encoding="utf-8")
    assert main(["bench", "--page", "p.md"]) == 2
    assert "lacks the two lines" in capsys.readouterr().err


@pytest.mark.parametrize("against", ["tensorflow", "numpy-ml"])
def test_a_peer_that_is_not_there(
    against: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    from uanref.bench.peers.numpy_ml import NumpyML

    def missing(self: object) -> None:
        raise ModuleNotFoundError("numpy_ml")

    monkeypatch.setattr(NumpyML, "imported", missing)
    assert main(["bench", "--case", "relu", "--against", against]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unknown peer 'tensorflow'" in err if against == "tensorflow" else 'pip install ".[peers]"' in err
