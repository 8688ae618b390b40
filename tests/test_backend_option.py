"""The option --backend and the fixtures that follow it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import cupysim, devices, requirements
from support.devices import Device

from uanref import backend


def test_the_host_stays_the_default(device: Device) -> None:
    assert device.kind in devices.KINDS
    assert device.backend == ("numpy" if device.kind == "numpy" else "cupy")
    usable, reason = backend.available(device.backend)
    assert usable, reason
    assert backend.current() == "numpy"


def test_an_accelerator_is_not_the_host(accelerator: Device) -> None:
    assert accelerator.backend == "cupy"


def test_crossings_are_counted(accelerator: Device) -> None:
    if not accelerator.counts:
        pytest.skip("a real device does not tell")
    cupy = backend.module("cupy")
    cupy.zeros(3)
    with accelerator.counting() as counts:
        moved = cupy.asarray([1.0, 2.0])
        assert (counts.to_device, counts.to_host) == (1, 0)
        assert float(moved.sum()) == 3.0
    assert counts.to_device == 1
    assert counts.synchronizations == 1


def test_what_cannot_count_says_so() -> None:
    with pytest.raises(RuntimeError, match="numpy counts nothing"), devices.opened("numpy") as host, host.counting():
        pass


def test_kernels_run_on_cuda_alone() -> None:
    assert {kind: Device(kind).has_kernels for kind in devices.KINDS} == {
        "numpy": False,
        "strict": False,
        "emulated": True,
        "cupy": True,
    }


@pytest.mark.parametrize(("driver", "last"), [(True, "cupy"), (False, "emulated")])
def test_the_default_is_what_fits_the_machine(driver: bool, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_driver", lambda: driver)
    assert devices.chosen(None) == ("numpy", "strict", last)


def test_kinds_are_chosen_in_their_order() -> None:
    assert devices.chosen("emulated, numpy") == ("numpy", "emulated")


@pytest.mark.parametrize(
    ("option", "driver", "says"),
    [
        ("torch", False, "unknown kind 'torch': give a comma list of numpy, strict, emulated, cupy"),
        ("numpy,", False, "unknown kind ''"),
        ("", False, "unknown kind ''"),
        ("cupy", False, "needs an NVIDIA driver and a GPU"),
        ("emulated,cupy", True, "run emulated and cupy one by one"),
    ],
)
def test_bad_values_are_refused(option: str, driver: bool, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_driver", lambda: driver)
    with pytest.raises(ValueError, match=says):
        devices.chosen(option)


def test_the_command_line_refuses_in_one_sentence() -> None:
    command = [sys.executable, "-m", "pytest", "--backend", "torch", "--collect-only", "-q", str(Path(__file__))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4  # pytest's code of a usage error
    assert "ERROR: --backend: unknown kind 'torch'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_emulator_is_installed_if_asked_for_and_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = []
    monkeypatch.setattr(cupysim, "install", lambda: installed.append(1))
    monkeypatch.setattr(cupysim, "missing", lambda: None)
    assert devices.prepare(("numpy", "strict")) is None
    assert installed == []
    assert devices.prepare(("emulated",)) is None
    assert installed == [1]
    monkeypatch.setattr(cupysim, "missing", lambda: "there is no compiler")
    assert devices.prepare(("emulated",)) == "there is no compiler"
    assert installed == [1]


def test_an_emulator_that_cannot_run_skips_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="there is no compiler"):
        requirements.skip("there is no compiler")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="on CI"):
        requirements.skip("there is no compiler")


@pytest.mark.usefixtures("no_driver")
def test_a_machine_without_a_driver_can_be_had_everywhere() -> None:
    requirements.require_cupy()
    usable, reason = backend.available("cupy")
    assert not usable
    assert "driver" in reason
