"""What is missing for the cupy backend: one sentence with a command for each way to fail, simulated by fake modules."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Callable

import numpy as np
import pytest

from uanref import backend, diagnosis
from uanref.diagnosis import facts
from uanref.diagnosis.commands import WHEELS

LIBRARY = "libcublas.so.12: cannot open shared object file: No such file or directory"
TOO_OLD = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"
WHEEL12, WHEEL13 = 'pip install "cupy-cuda12x[ctk]"', 'pip install "cupy-cuda13x[ctk]"'


class FakeArray:
    """What a fake CuPy's arrays are: of no use but to be told from NumPy's."""


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it."""


def raising(error: Exception) -> Callable[..., object]:
    def fail(*args: object, **kwargs: object) -> object:
        raise error

    return fail


def fake_cupy(
    monkeypatch: pytest.MonkeyPatch,
    *,
    cuda: int = 12,
    count: Callable[..., object] = lambda: 1,
    ones: Callable[..., object] = lambda shape, dtype: np.ones(shape, dtype),
    nvrtc: Callable[..., object] = lambda: (12, 9),
    capability: str = "90",
    version: str = "14.2.0",
) -> None:
    cupy = types.ModuleType("cupy")
    cupy.__version__, cupy.ndarray, cupy.ones = version, FakeArray, ones
    runtime = types.SimpleNamespace(getDeviceCount=count, runtimeGetVersion=lambda: 1000 * cuda + 90)
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=lambda: types.SimpleNamespace(compute_capability=capability),
        nvrtc=types.SimpleNamespace(getVersion=nvrtc),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", types.ModuleType("cublas"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(facts, "installed", lambda: [WHEELS[cuda]])
    has_driver(monkeypatch, (12, 8))


def has_driver(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int] | None) -> None:
    monkeypatch.setattr(facts, "driver_cuda", lambda: version)


def reason() -> str:
    """What the backend answers: not usable, in one line, everywhere the same."""
    usable, text = backend.available("cupy")
    assert not usable
    assert "\n" not in text
    with pytest.raises(backend.BackendUnavailable) as caught:
        backend.require("cupy")
    assert str(caught.value) == text
    return text


def missing() -> dict[str, str]:
    """The pieces that ``uanref info`` lists as missing."""
    return {piece.name: piece.text for piece in diagnosis.pieces() if not piece.ok}


def test_nothing_is_missing_where_all_works(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch)
    assert backend.available("cupy") == (True, "CuPy 14.2.0 with 1 GPU")
    assert missing() == {}
    assert [piece.name for piece in diagnosis.pieces()] == ["package", "driver", "GPU", "cuBLAS", "NVRTC"]


# --- the package ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ((12, 8), [WHEEL12, "CUDA 12.8"]),
        ((13, 0), [WHEEL13, "CUDA 13.0"]),
        ((11, 4), ["too old (CUDA 11.4): update it", WHEEL12, WHEEL13]),
        (None, ["no NVIDIA driver is found", WHEEL12, WHEEL13]),
    ],
)
def test_no_package(driver: tuple[int, int] | None, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    has_driver(monkeypatch, driver)
    text = reason()
    assert text.startswith("CuPy is not installed")
    assert all(word in text for word in words), text
    if driver == (12, 8):
        assert WHEEL13 not in text
    assert missing() == {"package": text}


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "cupy":
                raise ImportError("Failed to import CuPy.\n" + 80 * "=") from OSError("undefined symbol:\n cudaX")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(facts, "installed", lambda: ["cupy-cuda12x"])
    text = reason()
    assert "cannot be imported (undefined symbol: cudaX)" in text
    assert text.endswith('pip install --force-reinstall "cupy-cuda12x[ctk]"')


@pytest.mark.parametrize(("driver", "wheel"), [((12, 4), WHEEL12), ((13, 1), WHEEL13), (None, WHEEL12)])
def test_several_packages_at_once(driver: tuple[int, int] | None, wheel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch)
    has_driver(monkeypatch, driver)
    monkeypatch.setattr(facts, "installed", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    assert missing() == {
        "packages": "2 packages of CuPy are installed and spoil each other: "
        f"pip uninstall -y cupy-cuda12x cupy-cuda13x and then {wheel}"
    }


def test_an_old_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, version="13.6.0")
    assert missing() == {
        "version": 'CuPy 13.6.0 is older than 14.2, the oldest tested: pip install -U "cupy-cuda12x[ctk]>=14.2"'
    }


def test_installed_packages_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["cupy-cuda12x", "CuPy", "cupyx-tools", "numpy", "cupy_not", None, "cupy-rocm-7-0"]
    found = [types.SimpleNamespace(metadata={"Name": name}) for name in names]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    assert facts.installed() == ["cupy", "cupy-cuda12x", "cupy-rocm-7-0"]


# --- the driver and the GPU -----------------------------------------------------------------------


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, count=raising(CUDARuntimeError(TOO_OLD)))
    has_driver(monkeypatch, None)
    assert "CuPy 14.2.0 is installed but no NVIDIA driver is: install one (Ubuntu: sudo ubuntu-drivers" in reason()
    assert missing() == {"driver": reason()}


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        ((11, 4), 12, ["supports CUDA 11.4, CuPy needs 12: update the driver"]),
        ((12, 8), 13, ["supports CUDA 12.8, CuPy needs 13", f"pip uninstall -y cupy-cuda13x and then {WHEEL12}"]),
    ],
)
def test_a_driver_too_old(
    driver: tuple[int, int], cuda: int, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cupy(monkeypatch, cuda=cuda, count=raising(CUDARuntimeError(TOO_OLD)))
    has_driver(monkeypatch, driver)
    text = reason()
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("cudaErrorSystemDriverMismatch: driver and runtime", "restart the machine"),
        ("cudaErrorUnknown: unknown\n error", "does not answer (cudaErrorUnknown: unknown error): see what nvidia-smi"),
    ],
)
def test_a_driver_in_trouble(error: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, count=raising(CUDARuntimeError(error)))
    assert words in reason()


@pytest.mark.parametrize("count", [raising(CUDARuntimeError(NO_DEVICE)), lambda: 0], ids=["error", "zero"])
@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, "no NVIDIA GPU is visible: nvidia-smi -L must list one"),
        ("", "because CUDA_VISIBLE_DEVICES is '': unset CUDA_VISIBLE_DEVICES"),
        ("7", "because CUDA_VISIBLE_DEVICES is '7'"),
    ],
)
def test_no_gpu_is_visible(
    visible: str | None, words: str, count: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cupy(monkeypatch, count=count)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert words in reason()
    assert missing() == {"GPU": reason()}


# --- the libraries and the first product ------------------------------------------------------------


@pytest.mark.parametrize(("cuda", "command"), [(12, WHEEL12), (13, WHEEL13)])
@pytest.mark.parametrize(
    ("library", "error"),
    [
        ("cuBLAS", ImportError(LIBRARY)),
        ("NVRTC", RuntimeError("CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open")),
    ],
)
def test_a_library_is_missing(
    library: str, error: Exception, cuda: int, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cupy(monkeypatch, cuda=cuda, ones=raising(error))
    text = reason()
    assert text.startswith(f"CuPy 14.2.0 is installed but {library} is missing (")
    assert text.endswith(command)


def test_all_missing_libraries_are_told_at_once_without_a_driver_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, count=raising(CUDARuntimeError(TOO_OLD)), nvrtc=raising(RuntimeError("no libnvrtc")))
    has_driver(monkeypatch, None)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", None)
    assert list(missing()) == ["driver", "cuBLAS", "NVRTC"]
    assert all(missing()[name].endswith(WHEEL12) for name in ("cuBLAS", "NVRTC"))


@pytest.mark.parametrize(
    ("cuda", "capability", "words"),
    [
        (13, "61", f"6.1 is too old for CUDA 13, which needs 7.5: pip uninstall -y cupy-cuda13x and then {WHEEL12}"),
        (12, "37", "3.7 is too old for CUDA 12, which needs 5.0: another GPU is needed"),
    ],
)
def test_a_gpu_too_old(cuda: int, capability: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("nvrtc: error: invalid value for --gpu-architecture (-arch)")
    fake_cupy(monkeypatch, cuda=cuda, capability=capability, ones=raising(error))
    assert words in reason()
    assert missing() == {"first product": reason()}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Out of memory allocating 512 bytes"), "full or taken by another program"),
        (CUDARuntimeError("cudaErrorDevicesUnavailable: busy"), "full or taken by another program"),
        (RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION: ..."), "older than the CUDA libraries"),
        (RuntimeError("cannot open source file 'cuda_fp16.h'"), f"a first matrix product failed (cannot open source "
         f"file 'cuda_fp16.h'): install the CUDA libraries with: {WHEEL12}"),
        (RuntimeError("x" * 1000), "x..."),
        (RuntimeError(), "(RuntimeError)"),
    ],
)  # fmt: skip
def test_a_first_product_that_fails(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cupy(monkeypatch, ones=raising(error))
    assert words in reason()
    assert len(reason()) < 450


def test_the_driver_is_asked_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def __init__(self, name: str) -> None:
            assert "cuda" in name

        def cuDriverGetVersion(self, version: object) -> int:
            version._obj.value = 12080  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(facts.ctypes, "CDLL", Driver)
    assert facts.driver_cuda() == (12, 8)
    monkeypatch.setattr(facts.ctypes, "CDLL", raising(OSError("libcuda.so.1: cannot open")))
    assert facts.driver_cuda() is None
