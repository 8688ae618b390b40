"""Comparisons that are killed, run out of disk, lose their folder or cannot draw: what is left of them.

Seeded; every test prints how many cases it tried, how many were handled and how many were not. The long ones take
turns: a third of their cases a commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from support import turns

import uanref

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc, to find processes that stay"),
]

TOTAL = 6
SMALL = ["--model", "mlp", "--epochs", "2", "--seeds", "3", "--norms", "none,bn"]
SCRIPT = "import sys\nfrom uanref.cli import main\nsys.exit(main())\n"
STARTED = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "uanref.backend" and not os.path.exists("started"):
            open("started", "w").close()
sys.meta_path.insert(0, Finder())
"""


class Comparison:
    """One process tree, known by a mark in its environment."""

    def __init__(self, folder, *arguments, script=False, before=(), **environment):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site" / "sitecustomize.py").write_text(STARTED, encoding="utf-8")
        (folder / "site" / "uanref").write_text(SCRIPT, encoding="utf-8")
        self.mark = uuid.uuid4().hex
        path = os.pathsep.join([str(folder / "site"), str(Path(uanref.__file__).parents[1])])
        program = [sys.executable, str(folder / "site" / "uanref")] if script else [sys.executable, "-m", "uanref"]
        self.process = subprocess.Popen(
            [*before, *program, "compare", *SMALL, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "UANREF_ATTACK": self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.out, self.err = "", ""
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in ("out", "err")]
        for reader in self._readers:
            reader.start()

    def _read(self, name):
        for line in {"out": self.process.stdout, "err": self.process.stderr}[name]:
            setattr(self, name, getattr(self, name) + line)

    def wait(self):
        try:
            code = self.process.wait(120)
        finally:
            for pid in self.alive() if self.process.poll() is None else []:
                os.kill(pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(10)
        return code

    def alive(self):
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"UANREF_ATTACK={self.mark}".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def workers(self):
        return [pid for pid in self.alive() if pid != self.process.pid]

    def until(self, condition, seconds=60.0):
        end = time.monotonic() + seconds
        while self.process.poll() is None and not condition() and time.monotonic() < end:
            time.sleep(0.005)

    def finished(self):
        return self.err.count(f" of {TOTAL} runs: ")


def faults_of(comparison, code, allowed, killed=False, complete=False):
    """Return what is wrong after a comparison ended."""
    folder, faults = comparison.folder / "r", []
    if code not in allowed:
        faults.append(f"exit code {code}, allowed {allowed}")
    if "Traceback" in comparison.err or "Exception ignored" in comparison.err:
        faults.append("a traceback")
    end = time.monotonic() + 3
    while (alive := comparison.alive()) and time.monotonic() < end:
        time.sleep(0.02)
    if alive:
        faults.append(f"processes {alive} are alive")
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
    faults += half_written(folder)
    cells = len(list((folder / "cells").glob("*.json")))
    if cells < comparison.finished():
        faults.append(f"{comparison.finished()} runs finished, {cells} cells")
    if not killed:
        faults += left_over(folder) + unsaid(comparison, folder, cells)
    if complete and cells != TOTAL:
        faults.append(f"{cells} cells of {TOTAL}")
    return [f"{fault}: {comparison.err[-600:]}" for fault in faults]


def half_written(folder):
    faults = []
    for path in folder.rglob("*") if folder.exists() else []:
        if path.name.startswith(".") or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    [arrays[name] for name in arrays.files]
            elif path.suffix == ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        except Exception as error:
            faults.append(f"{path.name} is half a file ({error})")
    return faults


def left_over(folder):
    found = [str(path.relative_to(folder)) for path in folder.rglob(".*")] if folder.exists() else []
    return [f"{found} were left"] if found else []


def unsaid(comparison, folder, cells):
    results = folder / "results.json"
    faults = []
    if cells and not results.exists():
        faults.append("cells without results")
    if results.exists():
        content = json.loads(results.read_text(encoding="utf-8"))
        if len(content["runs"]) != cells:
            faults.append(f"{len(content['runs'])} results, {cells} cells")
        if len(content["runs"]) != TOTAL and not content.get("note"):
            faults.append("results that lack runs and do not say so")
        if "test accuracy (%)" not in comparison.out:
            faults.append("no table")
    return faults


def report(what, tried, faults):
    print(f"\n{what}: tried {tried}, handled {tried - len(faults)}, faults {len(faults)}")
    assert faults == []


@pytest.fixture(scope="module")
def seconds(tmp_path_factory):
    """How long a comparison takes that nobody disturbs, from the first import on."""
    comparison = Comparison(tmp_path_factory.mktemp("whole"), "--out", "r", "--jobs", "2")
    comparison.until((comparison.folder / "started").exists)
    start = time.monotonic()
    assert comparison.wait() == 0, comparison.err
    return time.monotonic() - start


def test_signals_at_any_moment(tmp_path, seconds):
    faults, tried, counts = [], turns.part(range(24), 3), {}
    for i in tried:
        rng = random.Random(i)
        number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        whom = rng.choice(["parent", "group"])
        comparison = Comparison(
            tmp_path / str(i), "--out", "r", "--jobs", str(rng.choice([1, 2, 2])), script=rng.random() < 0.5
        )
        comparison.until((comparison.folder / "started").exists)
        time.sleep(rng.uniform(0.0, seconds))
        running = comparison.process.poll() is None
        if running:
            (os.killpg if whom == "group" else os.kill)(comparison.process.pid, number)
        code = comparison.wait()
        allowed = {2: (130,), 15: (143,), 9: (-9,)}[number] if running else (0,)
        if "Written to" in comparison.out:  # the signal came when all was done
            allowed += (0,)
        found = faults_of(comparison, code, allowed, killed=number == signal.SIGKILL)
        if number == signal.SIGKILL and i % 2 == 0 and not (comparison.folder / "r" / "results.json").exists():
            again = Comparison(comparison.folder, "--out", "r", "--jobs", "2")  # goes on with the cells
            found += faults_of(again, again.wait(), (0,), complete=True)
        counts[code] = counts.get(code, 0) + 1
        faults += [(i, number.name, whom, *found)] if found else []
    print(f"\nexit codes: {counts}", end="")
    report("signals", len(tried), faults)


def test_signals_while_the_results_are_written_and_drawn(tmp_path):
    faults, tried, codes = [], turns.part(range(12), 3), []

    def trained(folder):
        comparison = Comparison(folder, "--out", "r", "--jobs", "2")
        comparison.until(lambda: comparison.finished() == TOTAL)
        return comparison

    undisturbed, start = trained(tmp_path / "undisturbed"), time.monotonic()
    assert undisturbed.wait() == 0, undisturbed.err
    rest = time.monotonic() - start
    for i in tried:
        rng = random.Random(i)
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        comparison = trained(tmp_path / str(i))
        time.sleep(rng.uniform(0.0, 0.8 * rest))
        running = comparison.process.poll() is None
        if running:
            comparison.process.send_signal(number)
        codes.append(comparison.wait())
        allowed = {2: (130,), 15: (143,)}[number] if running else (0,)
        if "Written to" in comparison.out:
            allowed += (0,)
        found = faults_of(comparison, codes[-1], allowed, complete=True)
        faults += [(i, number.name, *found)] if found else []
    assert any(codes), codes  # else nothing was tried
    report("signals at the end", len(tried), faults)


def test_a_worker_is_killed(tmp_path):
    faults, tried, hits = [], turns.part(range(9), 3), 0

    def with_workers(folder):
        comparison = Comparison(folder, "--out", "r", "--jobs", "2", "--epochs", "10")
        comparison.until(lambda: len(comparison.workers()) == 2)
        return comparison

    undisturbed, start = with_workers(tmp_path / "undisturbed"), time.monotonic()
    undisturbed.until(lambda: not undisturbed.workers())
    lifetime = time.monotonic() - start
    assert undisturbed.wait() == 0, undisturbed.err
    for i in tried:
        rng = random.Random(i)
        comparison = with_workers(tmp_path / str(i))
        time.sleep(rng.uniform(0.0, 0.8 * lifetime))
        if pids := comparison.workers():
            hits += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(pids), rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
        found = faults_of(comparison, comparison.wait(), (0,), complete=True)
        faults += [(i, *found)] if found else []
    assert hits >= 1
    report("killed workers", len(tried), faults)


def test_every_worker_is_killed_again_and_again(tmp_path):
    comparison = Comparison(tmp_path, "--out", "r", "--jobs", "2", "--epochs", "40")
    end = time.monotonic() + 60
    while comparison.process.poll() is None and time.monotonic() < end:
        for pid in comparison.workers() if comparison.finished() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
    found = faults_of(comparison, comparison.wait(), (1,))
    if not re.search(
        r"[1-5] of 6 runs failed: \w+, lr 0.01, seed \d: its process was killed by signal 9", comparison.err
    ):
        found.append("the lost runs are not named")
    report("all workers killed", 1, found)


def test_files_that_cannot_grow(tmp_path):
    """As on a full disk: each file may have so many blocks of 512 or 1024 bytes, and no more."""
    faults, limits = [], (0, 1, 4, 8, 40, 200)
    for limit in limits:
        folder = tmp_path / str(limit)
        comparison = Comparison(
            folder,
            *("--out", "r", "--jobs", "2"),
            before=["sh", "-c", f'ulimit -f {limit}; exec "$@"', "sh"],
            MPLCONFIGDIR=str(tmp_path / "cache"),
            PYTHONDONTWRITEBYTECODE="1",
        )
        code = comparison.wait()
        found = [fault for fault in faults_of(comparison, code, (0, 1, 2)) if "runs finished" not in fault]
        found = [fault for fault in found if "results" not in fault]
        if "test accuracy (%)" not in comparison.out and code != 2:
            found.append("no table")
        if code == 0 and not (folder / "r" / "curves.png").exists():
            found.append("pictures are missing and nobody says so")
        faults += [(limit, code, *found)] if found else []
    report("files that cannot grow", len(limits), faults)


def test_the_folder_is_removed(tmp_path, seconds):
    rng, faults, tried = random.Random(3), [], 5
    for i in range(tried):
        comparison = Comparison(tmp_path / str(i), "--out", "r", "--jobs", "2")
        comparison.until(lambda one=comparison: one.finished() >= 1)
        time.sleep(rng.uniform(0.0, 0.5 * seconds))
        done = comparison.process.poll() is not None
        shutil.rmtree(comparison.folder / "r", ignore_errors=True)
        code = comparison.wait()
        if done:
            continue
        found = [fault for fault in faults_of(comparison, code, (0, 1)) if "cells" not in fault]
        if "test accuracy (%)" not in comparison.out:
            found.append("no table")
        faults += [(i, code, *found)] if found else []
    report("removed folders", tried, faults)


def test_matplotlib_cannot_draw(tmp_path):
    (tmp_path / "rc").write_text("text.usetex: True\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "matplotlib.py").write_text("raise ImportError('broken')", encoding="utf-8")
    cases = {
        "backend": {"MPLBACKEND": "nonsense"},
        "usetex": {"MATPLOTLIBRC": str(tmp_path / "rc"), "PATH": str(tmp_path / "bin")},
        "import": {"broken": "yes"},
    }
    faults = []
    for name, environment in cases.items():
        folder = tmp_path / name
        if environment.pop("broken", ""):
            (folder / "site").mkdir(parents=True)
            shutil.copy(tmp_path / "broken" / "matplotlib.py", folder / "site")
        comparison = Comparison(folder, "--out", "r", "--jobs", "2", **environment)
        found = faults_of(comparison, comparison.wait(), (1,), complete=True)
        said = comparison.err.find("Matplotlib cannot draw here")
        if not 0 <= said < comparison.err.find("1 of 6 runs"):
            found.append("not said before training: " + comparison.err)
        if list((folder / "r").glob("*.png")):
            found.append("pictures")
        faults += [(name, *found)] if found else []
    report("broken Matplotlibs", len(cases), faults)


def test_two_processes_and_one_folder(tmp_path):
    faults, tried = [], 3
    for i in range(tried):
        both = [Comparison(tmp_path / str(i), "--out", "r", "--jobs", "1") for _ in range(2)]
        codes = [comparison.wait() for comparison in both]
        found = []
        for comparison, code in zip(both, codes, strict=True):
            found += half_written(comparison.folder / "r") + left_over(comparison.folder / "r")
            if code == 2 and not re.fullmatch(r"uanref: --out r (is where another|already holds).*\n", comparison.err):
                found.append(comparison.err)
        if sorted(codes) != [0, 2]:
            found.append(f"exit codes {codes}")
        faults += [(i, *found)] if found else []
    both = [Comparison(tmp_path / "names", "--jobs", "1") for _ in range(3)]
    codes = [comparison.wait() for comparison in both]
    folders = list((tmp_path / "names" / "runs").iterdir())
    if codes != [0, 0, 0] or len(folders) != 3 or not all((folder / "results.json").exists() for folder in folders):
        faults.append(("default names", codes, folders))
    report("shared folders", tried + 1, faults)


def test_an_interrupted_force_mixes_nothing(tmp_path, seconds):
    rng, faults, tried = random.Random(4), [], 5
    whole = Comparison(tmp_path / "old", "--out", "r", "--jobs", "2", "--lr", "0.001")
    assert whole.wait() == 0
    for i in range(tried):
        shutil.copytree(tmp_path / "old", tmp_path / str(i), ignore=shutil.ignore_patterns("started"))
        comparison = Comparison(tmp_path / str(i), "--out", "r", "--jobs", "2", "--force")
        comparison.until((comparison.folder / "started").exists)
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        if running := comparison.process.poll() is None:
            comparison.process.kill()
        found = faults_of(comparison, comparison.wait(), (-9,) if running else (0,), killed=True)
        cells = [json.loads(path.read_text()) for path in (comparison.folder / "r" / "cells").glob("*.json")]
        rates = {cell["config"]["lr"] for cell in cells}
        with contextlib.suppress(FileNotFoundError):
            results = json.loads((comparison.folder / "r" / "results.json").read_text())
            rates |= {run["lr"] for run in results["runs"]}
        if len(rates) > 1:
            found.append(f"learning rates {rates}")
        faults += [(i, *found)] if found else []
    report("interrupted --force", tried, faults)


def test_files_in_the_working_folder_have_the_names_of_modules(tmp_path):
    names = ("random", "numpy", "queue", "pickle", "struct", "threading", "scipy", "typing", "uuid", "secrets")
    faults = []
    for script in (True, False):
        folder = tmp_path / str(script)
        folder.mkdir()
        for name in names if script else [name for name in names if name not in ("threading", "typing")]:
            (folder / f"{name}.py").write_text("raise SystemError('not the one that was meant')", encoding="utf-8")
        comparison = Comparison(folder, "--out", "r", "--jobs", "2", script=script)
        found = faults_of(comparison, comparison.wait(), (0,), complete=True)
        faults += [(script, *found)] if found else []
    report("names of modules", 2, faults)
