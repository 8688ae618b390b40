"""``uanref info`` and the header of a bug report."""

from __future__ import annotations

import io
import sys
import types

import pytest
from rich.console import Console

from uanref import backend, diagnosis, kernels, machine
from uanref.cli import main
from uanref.verify import info


def printed(width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(info.table())
    return " ".join(console.file.getvalue().split())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A CuPy that knows one GPU and nothing else."""
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceProperties=lambda i: {"name": b"NVIDIA A Card"},
        memGetInfo=lambda: (3 * 2**30, 4 * 2**30),
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 12090,
    )
    cupy = types.SimpleNamespace(
        __version__="14.2.0",
        cuda=types.SimpleNamespace(
            runtime=runtime,
            Device=lambda: types.SimpleNamespace(compute_capability="120"),
            nvrtc=types.SimpleNamespace(getVersion=lambda: (12, 9)),
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)  # type: ignore[arg-type]
    monkeypatch.setattr(diagnosis, "installed", lambda: ["cupy-cuda12x"])
    monkeypatch.setattr(machine, "_driver_release", lambda: "570.86.15")
    return cupy


def test_what_is_told_of_a_gpu(card: types.SimpleNamespace) -> None:
    assert machine.device() == {
        "GPU": "NVIDIA A Card",
        "memory": "4.0 GiB, 3.0 GiB free",
        "compute capability": "12.0",
        "driver": "570.86.15, CUDA 13.1",
        "CuPy": "14.2.0 (cupy-cuda12x)",
        "CUDA runtime": "12.9",
        "NVRTC": "12.9",
    }


def test_a_fact_that_cannot_be_had_is_a_gap(card: types.SimpleNamespace) -> None:
    del card.cuda.runtime.memGetInfo
    found = machine.device()
    assert found["memory"] == "unknown"
    assert found["GPU"] == "NVIDIA A Card"


def test_a_usable_gpu_is_shown_and_what_works_is_not(
    card: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [diagnosis.Piece("NVRTC", True, "found, 12.9"), diagnosis.Piece("packages", False, "2 packages: repair")]
    monkeypatch.setattr(diagnosis, "pieces", lambda: pieces)
    monkeypatch.setattr(backend, "available", lambda name: (True, f"{name} works"))
    text = printed()
    for part in (
        "backend cupy usable: cupy works",
        "GPU NVIDIA A Card",
        "compute capability 12.0",
        "packages 2 packages",
    ):
        assert part in text
    assert "found, 12.9" not in text


def test_every_missing_piece_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [
        diagnosis.Piece("package", True, "CuPy 14.2.0"),
        diagnosis.Piece("driver", False, "no driver: get one"),
        diagnosis.Piece("cuBLAS", False, "no cuBLAS: get it"),
    ]
    monkeypatch.setattr(diagnosis, "pieces", lambda: pieces)
    monkeypatch.setattr(backend, "available", lambda name: (name == "numpy", "no driver: get one"))
    text = printed()
    assert "backend cupy not usable: no driver: get one package CuPy 14.2.0 cuBLAS no cuBLAS: get it" in text
    assert text.count("no driver: get one") == 2  # this stand-in says it of numpy too


@pytest.mark.usefixtures("no_driver")
def test_the_command_without_a_driver(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "not usable: " in out
    assert any(command in " ".join(out.split()) for command in ("pip install", "ubuntu-drivers install"))


def test_which_versions_serve() -> None:
    with backend.plain(False):
        found = info.faster_versions()
    assert list(found) == ["faster versions", "  numpy", "  cupy"]
    assert found["faster versions"].startswith("on; ")
    accelerated = kernels.definitions()
    total = len(accelerated)
    cpu, cuda = (
        sum(any(f".{room}." in version.__module__ for version in versions) for versions in served)
        for room in ("cpu", "cuda")
        if (served := [kernels.versions(d.__module__, d.__name__, "cupy") for d in accelerated.values()])
    )
    assert 0 < cpu < total
    assert 0 < cuda < total
    assert found["  numpy"] == f"for {cpu} of {total} definitions: {cpu} in kernels/cpu"
    assert found["  cupy"] == f"for {total} of {total} definitions: {cuda} in kernels/cuda, {cpu} in kernels/cpu"
    with backend.plain():
        assert "faster versions off: every definition runs as it is written" in printed()


def test_the_header_of_a_report(card: types.SimpleNamespace) -> None:
    assert "GPU" not in info.report("numpy")
    report = info.report("cupy")
    assert list(report)[:2] == ["uanref", "python"]
    assert {"numpy", "scipy", "platform", "GPU", "driver", "CuPy", "CUDA runtime"} <= set(report)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 12.3.0", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build", "560.35.03"),
        ("nothing of the kind", ""),
    ],
)
def test_the_drivers_release(text: str, release: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "version"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(machine, "Path", lambda name: path)
    assert machine._driver_release() == release
    path.unlink()
    assert machine._driver_release() == ""
