"""``uanref bench --backend cupy``: what is counted, and that it runs on the emulated device. Never how fast."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console
from support.devices import Device

from uanref import backend
from uanref.bench import device, device_cases, device_report, device_timing
from uanref.cli import main
from uanref.verify.versions import VERSIONS

SMALL = (2, 3, 32, 33)
BYTES = 4 * 2 * 3 * 32 * 33


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "batchnorm": lambda: device_cases._batch_norm(3),
        "uan": lambda: device_cases._uan(3, "batch"),
        "uan-learned": lambda: device_cases._uan(3, "learned"),
        "conv-16-32": lambda: device_cases._conv(3, 4),
    }
    cases = {
        name: dataclasses.replace(device_cases.CASES[name], make=make, shape=SMALL)  # type: ignore[arg-type]
        for name, make in made.items()
    }
    monkeypatch.setattr(device_cases, "CASES", cases)
    monkeypatch.setattr(device_timing, "CALLS", 2)


def row(**changes: object) -> device.Row:
    fields = {
        "case": "batchnorm",
        "what": "BatchNorm, (256, 64, 32, 32)",
        "direction": "backward",
        "version": "fast",
        "ms": 1234.5678,
        "speedup": 123.45,
        "moved_bytes": 100,
        "least_bytes": 60,
        "gb_per_s": 3210.9,
        "of_copy": 0.987,
        "least_of_copy": 0.5,
        "peak_mb": 2345.6,
        "copy_gb_per_s": 3300.0,
        "device": "a card",
    }
    return device.Row(**(fields | changes))  # type: ignore[arg-type]


def printed(rows: list[device.Row]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(device_report.report(rows))
    return console.file.getvalue().splitlines()


def test_the_suite_measures_what_was_promised() -> None:
    norms = {name: case for name, case in device_cases.CASES.items() if case.moved is not None}
    assert {name: (case.moved, case.least) for name, case in norms.items()} == {
        "batchnorm": ((3, 5), (2, 3)),
        "uan": ((3, 5), (2, 3)),
        "uan-learned": ((2, 3), (2, 3)),
    }
    assert all(case.shape == (256, 64, 32, 32) for case in norms.values())


@pytest.mark.slow
def test_rows(small: None, emulated: Device) -> None:
    rows = device.run(repeats=1)
    assert [(row.case, row.direction, row.version) for row in rows] == [
        (name, direction, version)
        for name in device_cases.CASES
        for direction in ("forward", "backward")
        for version in VERSIONS
    ]
    for row in rows:
        assert row.ms > 0
        assert (row.speedup is None) == (row.version == "definition")
        assert row.copy_gb_per_s > 0
        y_bytes = BYTES if row.case != "conv-16-32" else BYTES * 4 // 3
        assert row.peak_mb >= (y_bytes - 4096) / 1e6  # at least the output; small old buffers go
        if row.moved_bytes is not None:
            i = ("forward", "backward").index(row.direction)
            assert row.moved_bytes == device_cases.CASES[row.case].moved[i] * BYTES  # type: ignore[index]
            assert row.gb_per_s == pytest.approx(row.moved_bytes / row.ms / 1e6)
            assert row.of_copy == pytest.approx(row.gb_per_s / row.copy_gb_per_s)
            assert row.least_of_copy / row.of_copy == pytest.approx(row.least_bytes / row.moved_bytes)  # type: ignore[operator]
    # The kernels keep nothing of K times the size of x.
    peaks = {row.version: row.peak_mb for row in rows if (row.case, row.direction) == ("uan", "forward")}
    assert peaks["fast"] < peaks["definition"]
    assert all("%" in line for line in printed(rows) if line.startswith("batchnorm") and "ward" in line)


@pytest.mark.slow
def test_the_command(small: None, emulated: Device, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    arguments = ["bench", "--backend", "cupy", "--only", "batchnorm", "--repeats", "1", "--json", str(path)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "a copy of x reaches" in " ".join(out.split())
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [row["version"] for row in rows] == ["definition", "fast", "definition", "fast"]
    assert main([*arguments, "--versions", "fast"]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["version"], row["speedup"]) for row in rows] == [("fast", None), ("fast", None)]
    assert all(row["case"] == "batchnorm" and row["device"] for row in rows)


@pytest.mark.smoke
def test_the_peak_of_a_pass_is_what_it_held_at_most(emulated: Device) -> None:
    class Holds:
        """Forward holds 3 blocks at its highest and leaves one, backward adds 2."""

        def forward(self, x: np.ndarray) -> np.ndarray:
            cupy = backend.module("cupy")
            first, second, third = (cupy.empty(1024) for _ in range(3))
            self.kept = third
            return [first, second, third][-1]

        def backward(self, dy: np.ndarray) -> np.ndarray:
            cupy = backend.module("cupy")
            first = cupy.empty(1024)
            return first + self.kept

    x = backend.to_device(np.ones(3), "cupy")
    assert device_timing.peaks(Holds(), x, x, "definition") == (3 * 8192, 3 * 8192)  # type: ignore[arg-type]


def test_the_report_fits_80_columns() -> None:
    rows = [row(case=name, version=version) for name in device_cases.CASES for version in VERSIONS]
    rows.append(row(case="conv-16-32", moved_bytes=None, least_bytes=None, gb_per_s=None, of_copy=None, speedup=None))
    lines = printed(rows)
    assert max(map(len, lines)) <= 80
    numbers = next(line for line in lines if line.startswith("uan-learned"))
    assert all(text in numbers for text in ("backward", "1234.568", "123.5", "3 (3)", "3211", "99 %", "2345.6"))
    text = " ".join(" ".join(lines).split())
    assert "On a card." in text
    assert "a copy of x reaches 3300 GB/s" in text


def test_an_unknown_case_names_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown case 'fft' on cupy: expected one of batchnorm, uan, uan-learned"):
        device.run(only="fft")
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        device.run(repeats=0)
    with pytest.raises(ValueError, match="unknown version 'array'"):
        device.run(versions=["array"])
