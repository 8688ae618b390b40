"""``uanref check --backend cupy``: what it covers, that it passes on the emulated device, and that a mistake shows."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from rich.console import Console
from support import strictcp
from support.devices import Device

from uanref import backend
from uanref.cli import main
from uanref.kernels.cuda import launch
from uanref.layers.activation import Tanh
from uanref.layers.base import Layer
from uanref.verify import check_device, computations, device_report
from uanref.verify.catalogue import Case, cases
from uanref.verify.outputs import difference

NAMES = [case.name for case in computations.computations()]


LABELS = ("float64 definition", "float64 fast", "float32 definition", "float32 fast")


def by_label(*errors: float | None) -> dict[str, float | None]:
    return dict(zip(LABELS, errors, strict=True))


def row(**changes: object) -> check_device.DeviceRow:
    fields = {"name": "UAN", "errors": by_label(1.2e-16, None, 3.4e-7, None), "ok": True, "details": ""}
    return check_device.DeviceRow(**(fields | changes))  # type: ignore[arg-type]


def table(rows: list[check_device.DeviceRow], width: int = 80, plain: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(device_report.table(rows, plain))
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def run(*given: Case, seed: int = 0) -> list[check_device.DeviceRow]:
    made = [
        computations.Computation(case.name, lambda *where, case=case: computations._layer(case, *where))
        for case in given
    ]
    return check_device.run(made, seed)


# --- the catalogue --------------------------------------------------------------------------------


def test_everything_is_in_the_catalogue() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {case.name for case in cases()} <= set(NAMES)
    for name in ("StreamingNorm", "weighted_mean", "SGD", "Adam", "AdamW", "training step, cnn"):
        assert any(case.startswith(name) for case in NAMES), name
    # What has a kernel is also checked on more samples than one block takes.
    for case in computations._large():
        if "Norm" in case.name and case.name != "ModeNorm, large":
            assert np.prod(case.shape) / case.shape[1] > launch.CHUNK


@pytest.mark.parametrize("case", computations.computations(), ids=NAMES)
def test_the_host_alone_is_within_the_float32_tolerance_of_itself(case: computations.Computation) -> None:
    expected = case.compute("numpy", "float64", 0)
    found = case.compute("numpy", "float32", 0)
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.isfinite(expected[name]).all(), name
        assert difference(found[name], expected[name]) <= 1e-3, name


# --- running it -----------------------------------------------------------------------------------


def test_definitions_alone_on_the_strict_double(strict_cupy: strictcp.Device) -> None:
    finished: list[str] = []
    small = [case for case in computations.computations() if "large" not in case.name]
    with backend.plain():
        rows = check_device.run(small, 0, finished.append)
    assert all(row.ok for row in rows), "\n".join(row.details for row in rows if not row.ok)
    assert [row.name for row in rows] == finished == [case.name for case in small]
    assert all(list(row.errors) == ["float64 definition", "float32 definition"] for row in rows)
    assert all(row.errors["float64 definition"] <= check_device.FLOAT64 for row in rows)  # type: ignore[operator]


@pytest.mark.smoke
def test_faster_versions_have_a_column_where_there_are_any(emulated: Device) -> None:
    chosen = [case for case in computations.computations() if case.name in ("Tanh", "SGD, three steps")]
    tanh, sgd = check_device.run(chosen)
    assert tanh.ok, tanh.details
    assert sgd.ok, sgd.details
    assert {label for label, error in tanh.errors.items() if error is None} == {"float64 fast", "float32 fast"}
    assert list(sgd.errors) == list(tanh.errors) == list(LABELS)
    assert None not in sgd.errors.values()
    (fast,) = check_device.run([case for case in chosen if case.name == "Tanh"], versions=["fast"])
    assert fast.errors == {"float64 fast": None, "float32 fast": None}


@pytest.mark.slow
def test_what_parity_does_not_cover_passes(emulated: Device) -> None:
    """Large arrays, neighbours, optimizers, training steps; the small layers are in tests/device/test_device_parity."""
    small = {case.name for case in cases()}
    rows = check_device.run([case for case in computations.computations() if case.name not in small])
    assert all(row.ok for row in rows), "\n".join(row.details for row in rows if not row.ok)
    fast = {row.name for row in rows if row.errors["float64 fast"] is not None}
    for name in ("BatchNorm", "UAN channel batch", "UAN channel learned", "Conv2d 3x3", "SoftmaxCrossEntropy"):
        assert f"{name}, large" in fast
    assert {"Adam, three steps", "AdamW, three steps", "training step, cnn with uan"} <= fast


class Drifts(Tanh):
    """Right on the host."""

    error = 1e-9

    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x) * (1.0 if backend.name_of(x) == "numpy" else 1.0 + self.error)


class Breaks(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        if backend.name_of(x) == "cupy":
            raise ZeroDivisionError("planted")
        return super().forward(x)


class LosesItself(Tanh):
    """Another output than y is not a number: it must not hide behind y."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * (1.0 if backend.name_of(dy) == "numpy" else float("nan"))


class BreaksAtHome(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("planted")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Drifts, "float64 definition: more than 1e-10 apart: y 1.0"),
        (Breaks, "float32 definition: ZeroDivisionError: planted"),
        (LosesItself, "dx nan"),
        (BreaksAtHome, "on the host: ZeroDivisionError: planted"),
    ],
)
def test_a_mistake_fails_alone(layer: type[Layer], words: str, strict_cupy: strictcp.Device) -> None:
    with backend.plain():
        wrong, right = run(Case("Wrong", layer, (3, 4), True), Case("Right", Tanh, (3, 4), True))
    assert not wrong.ok
    assert words in wrong.details
    assert right.ok
    assert any("FAIL" in line for line in table([wrong, right]))
    assert device_report.legend([wrong, right]).startswith("2 checked, 1 failed.")


def test_a_mistake_in_float32_alone_fails(strict_cupy: strictcp.Device) -> None:
    class DriftsIn32(Drifts):
        def forward(self, x: np.ndarray) -> np.ndarray:
            self.error = 3e-4 if x.dtype == np.float32 else 0.0
            return super().forward(x)

    with backend.plain():
        (found,) = run(Case("Drifts", DriftsIn32, (3, 4), True))
    assert not found.ok
    assert "float32 definition: more than 1e-04 apart: y 3.0" in found.details
    assert "float64" not in found.details


def test_without_a_device_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "available", lambda name: (name == "numpy", "no GPU here"))
    with pytest.raises(backend.BackendUnavailable, match="no GPU here"):
        check_device.run([])


# --- showing it -----------------------------------------------------------------------------------


def test_the_table_fits_80_columns() -> None:
    rows = [row(name=name, errors=by_label(1e-16, 1e-16, 1e-7, float("nan"))) for name in NAMES]
    lines = table(rows)
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(name) for line in lines) for name in NAMES), "a name was cut or broken"


def test_as_markdown() -> None:
    lines = table([row(), row(name="BatchNorm", ok=False)], width=200, plain=True)
    assert lines[0].split("|")[1:-1] == [
        " case      ",
        *(f" {label} " for label in LABELS),
        " status ",
    ]
    assert set(lines[1]) == set("|-")
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["UAN", "1.2e-16", "-", "3.4e-07", "-", "ok"]
    assert "FAIL" in lines[3]


def test_the_command_prints_a_bug_report(strict_cupy: strictcp.Device, capsys: pytest.CaptureFixture[str]) -> None:
    with backend.plain():
        assert main(["check", "--backend", "cupy", "--only", "tanh"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ("uanref", "numpy", "platform", "GPU", "driver", "CuPy", "CUDA runtime"):
        assert f"\n- {name}: " in "\n" + out
    assert f"- python: {sys.version.split()[0]}" in out
    assert "| Tanh " in out
    assert "1 checked, all passed. Largest difference from the definition on NumPy" in out


def test_the_command_fails_with_the_details(
    strict_cupy: strictcp.Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computations, "cases", lambda: [Case("Drifts", Drifts, (3, 4), True)])
    with backend.plain():
        assert main(["check", "--backend", "cupy", "--only", "drifts"]) == 1
    out, err = capsys.readouterr()
    assert "| Drifts " in out
    assert "float64 definition: more than 1e-10 apart: y 1.0" in out
    assert err == "uanref: 1 of 1 checks failed\n"


def test_nothing_is_printed_before_an_option_is_refused(
    strict_cupy: strictcp.Device, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--backend", "cupy", "--only", "Swish"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("uanref: no case has 'Swish' in its name: try one of ")
