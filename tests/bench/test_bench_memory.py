"""Peak memory as the system sees it: a known allocation is found, the command's table and page, its refusals."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import requirements

from uanref.bench import cases, memory, peers
from uanref.bench.cases import Case
from uanref.bench.memory import Peak
from uanref.bench.work import Stage, Work
from uanref.cli import bench_memory, main

LINUX = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc, which Linux alone has")
RISEN = """
import numpy as np
from uanref.bench import memory
def task():
    kept = np.ones(5_000_000, "float32")
    (kept + 1.0) * 2.0
    return kept
for _ in range(2):
    rose = memory.risen(task)
print(rose)
"""


@LINUX
def test_results_and_what_is_thrown_away_count_at_their_highest():
    done = subprocess.run([sys.executable, "-c", RISEN], capture_output=True, text=True, check=True)
    # 20 MB stay; a sum and a product stand beside them for a moment.
    assert int(done.stdout) == pytest.approx(60e6, rel=0.03)


@LINUX
def test_our_side_of_a_case_in_a_process():
    rose = memory._in_a_process("relu", "ours", 1)
    # y, dx and what backward keeps; x and dy, 17 MB each, are there before.
    array = 4 * 64 * 64 * 32 * 32
    assert 2 * array <= rose <= 4 * array


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    norm = Work((2, 3, 4, 4), (Stage("bn", 3),))
    monkeypatch.setattr(cases, "CASES", {"one": Case("norm", norm), "start": Case("a start", command=("-c", ""))})
    monkeypatch.setattr(peers, "find", lambda names: ([], []))
    sizes = {"ours": 3_000_000, "torch": 4_000_000}
    monkeypatch.setattr(memory, "_in_a_process", lambda case, side, threads: sizes[side])
    monkeypatch.chdir(tmp_path)


@LINUX
@pytest.mark.usefixtures("known")
def test_the_table_and_the_page(capsys):
    begin, end = bench_memory.MARKS
    Path("page.md").write_text(f"words\n{begin}\nold\n{end}\n", encoding="utf-8")
    assert main(["bench", "--memory", "--threads", "2", "--page", "page.md", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines() if line.startswith("one")] == [
        ["one", "│", "3.0", "│", "4.0", "│", "0.75", "│", "2"]
    ]
    made = Path("page.md").read_text(encoding="utf-8")
    assert "| `one` | 3.0 | 4.0 | 0.75 | 2 |" in made
    assert "$ uanref bench --memory --threads 2 --page page.md -q" in made
    assert "old" not in made


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--case", "start"], "start: PyTorch does none of them"),
        (["--case", "none"], "unknown case"),
        (["--sweep"], "leave out --sweep"),
        (["--json", "x.json"], "leave out --json"),
        (["--page", "missing.md"], "missing.md"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, sentence, capsys):
    assert main(["bench", "--memory", *arguments]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("known")
def test_elsewhere_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(memory.platform, "system", lambda: "Darwin")
    assert main(["bench", "--memory"]) == 2
    assert "Linux alone has" in capsys.readouterr().err


@LINUX
def test_a_process_that_fails_is_one_sentence():
    with pytest.raises(
        RuntimeError, match=r"the process that measures no-such-case, ours, ended with code 1: KeyError"
    ):
        memory._in_a_process("no-such-case", "ours", 1)


@LINUX
@pytest.mark.slow
def test_pytorchs_side():
    requirements.require("torch", extra="oracle")
    array = 4 * 64 * 64 * 32 * 32
    assert 2 * array <= memory._in_a_process("relu", "torch", 1) <= 4 * array


def test_a_ratio_beside_nothing():
    assert Peak("a", 1, 2.0, 4.0).ratio == 0.5
    assert Peak("a", 1, 2.0, 0.0).ratio == np.inf
