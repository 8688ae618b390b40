"""On CI a skip needs a listed reason, and enough tests must pass; the run fails otherwise, also with xdist."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import browser, ledger

TESTS = Path(__file__).parent
# The settings of the real run, for tests that lie elsewhere.
SETTINGS = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("settings", {str(TESTS / "conftest.py")!r})
settings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(settings)
pytest_addoption, pytest_configure = settings.pytest_addoption, settings.pytest_configure
"""
LISTED = next(iter(ledger.ALLOWED))
WAYS = [[], ["-n", "2"]] if importlib.util.find_spec("xdist") else [[]]


def run(folder, *options, ci="true", **files):
    """Run pytest on files of these texts, and return its exit code and what it printed."""
    (folder / "conftest.py").write_text(SETTINGS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text("import pytest\n" + text, encoding="utf-8")
    environment = {**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--backend", "numpy", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


HOLES = {
    "called": "def test_it():\n    pytest.skip('called')\n",
    "marked": "@pytest.mark.skipif(True, reason='marked')\ndef test_it():\n    pass\n",
    "in a fixture": "@pytest.fixture\ndef it():\n    pytest.skip('in a fixture')\ndef test_it(it):\n    pass\n",
    "whole file": "pytest.skip('whole file', allow_module_level=True)\n",
    "no module": "pytest.importorskip('nowhere', reason='no module')\ndef test_it():\n    pass\n",
    "to fail": "@pytest.mark.xfail(reason='to fail')\ndef test_it():\n    assert False\n",
    "one of them": f"def test_it():\n    pytest.skip({LISTED!r})\ndef test_two():\n    pytest.skip('one of them')\n",
    "empty parameter set": "@pytest.mark.parametrize('x', [])\ndef test_it(x):\n    pass\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_skip_with_another_reason_fails_the_run(way, tmp_path):
    files = {f"hole{i}": text for i, text in enumerate(HOLES.values())}
    code, out = run(tmp_path, *way, **files, good="def test_good():\n    pass\n")
    assert code == 1, out
    failed = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == len(HOLES), out
    for reason in HOLES:
        assert sum(reason in line for line in failed) == 1, out
    assert f"1 skipped, which leaves no hole: {LISTED}" in out


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_skip_with_a_listed_reason_does_not(way, tmp_path):
    code, out = run(tmp_path, *way, some=f"def test_good():\n    pass\ndef test_it():\n    pytest.skip({LISTED!r})\n")
    assert code == 0, out


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_too_few_fail_the_whole_run(way, tmp_path):
    good = "@pytest.mark.parametrize('i', range(20))\ndef test_good(i):\n    pass\n"
    code, out = run(tmp_path, "--whole", *way, good=good)
    assert code == 1
    assert f"20 tests passed, and at least {ledger.LEAST_PASSED} have to" in out


@pytest.mark.slow
def test_nobody_else_is_held_to_it(tmp_path):
    code, out = run(tmp_path, "--whole", ci="", hole=HOLES["called"])
    assert code == 0, out


def test_without_chromium_a_page_is_not_passed_over(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Chromium"):
        browser.require_browser()
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="apt install chromium chromium-driver"):
        browser.require_browser()
