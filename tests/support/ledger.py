"""The ledger of a run on CI: no test is skipped but for a reason that is written here, and enough of them passed.

Elsewhere a test is skipped where what it needs is missing. On CI nothing is missing, so that a skip for another
reason, or many tests that were not even collected, is a hole that nobody would see: the run fails.
"""

from __future__ import annotations

from collections import Counter

import pytest

ALLOWED = {
    "the strict double runs no kernels": "it is there to refuse what CuPy refuses; the emulator runs the kernels",
    "served on a device alone": "the version is a kernel; on the host there is the definition alone",
    "holds for faster versions alone": "the test's other run, with versions, is the one that counts",
    "only the emulator counts launches": "so they are counted there",
    "a real device does not count launches": "so they are counted on the emulator",
    "a real device does not tell": "so the emulator is asked",
    "no evidence is committed yet": "then there is no page that could differ from its cells",
    "a slope that is 0 in float32 alone": "in that precision there is nothing to compare",
}
"""Reasons for a skip that leave no hole, and why not."""

LEAST_PASSED = 14_000
"""How many tests of the whole run pass at least; a bit under what there is, to be raised as tests are added."""


class Ledger:
    """A pytest plugin for the process that gets all reports, those of xdist's workers included.

    Args:
        least: the number of tests that must pass; 0 for a part of the tests.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self.passed = 0
        self.unlisted: dict[str, list[str]] = {}
        self.listed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped:
            return
        if hasattr(report, "wasxfail"):
            reason = f"expected to fail: {report.wasxfail}"
        else:  # path, line, and the reason behind pytest's word
            reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
            reason = reason.removeprefix("Skipped: ")
        if reason in ALLOWED:
            self.listed[reason] += 1
        else:
            self.unlisted.setdefault(reason, []).append(report.nodeid)

    def faults(self) -> list[str]:
        """Return what is wrong with the run, a sentence each."""
        told = [
            f"{len(tests)} skipped for a reason not listed in tests/support/ledger.py: {reason} (first: {tests[0]})"
            for reason, tests in self.unlisted.items()
        ]
        if self.passed < self.least:
            told.append(f"{self.passed} tests passed, and at least {self.least} have to: tests are missing")
        return told

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.faults() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("skips and passes, as CI holds them")
        for reason, number in sorted(self.listed.items()):
            terminalreporter.line(f"{number} skipped, which leaves no hole: {reason} ({ALLOWED[reason]})")
        terminalreporter.line(f"{self.passed} passed, at least {self.least} have to")
        for fault in self.faults():
            terminalreporter.line(f"FAILED {fault}", red=True)
