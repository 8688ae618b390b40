"""What the emulator does not have is refused by name, and what it needs but does not find is said in one sentence."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import cupysim
from support.cupysim import bindings, driver, environment, memory, runtime


@pytest.fixture
def cp(emulated: object) -> Any:
    import cupy

    return cupy


# --- entry points ---------------------------------------------------------------------------------


def entries(name: str) -> dict[str, bindings.Signature]:
    """The C functions of CuPy's ``runtime`` or ``driver`` that are not emulated."""
    ours = {"runtime": runtime, "driver": driver}[name]
    module = importlib.import_module(f"cupy_backends.cuda.api.{name}")
    emulated = ours.functions(module)
    texts = {n: bindings._text(c) for n, c in module.__pyx_capi__.items()}
    found = {n: bindings.Signature.parse(n, text) for n, text in texts.items() if "(" in text}
    return {n: s for n, s in found.items() if n not in emulated and n not in ours.KEPT and s.is_expressible}


@pytest.mark.usefixtures("cp")
@pytest.mark.parametrize("name", ["runtime", "driver"])
def test_every_other_entry_point_refuses_python(name: str) -> None:
    module = importlib.import_module(f"cupy_backends.cuda.api.{name}")
    refused = entries(name)
    assert len(refused) > 10
    for function in refused:
        with pytest.raises(cupysim.NotEmulated, match=rf"cupy\.cuda\.{name}\.{function} is not emulated"):
            getattr(module, function)()


@pytest.mark.usefixtures("cp")
@pytest.mark.parametrize("name", ["runtime", "driver"])
def test_every_other_entry_point_refuses_compiled_code(name: str) -> None:
    """Called through its address, as CuPy's modules do, each sets the exception and returns what Cython looks for."""
    module = importlib.import_module(f"cupy_backends.cuda.api.{name}")
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kinds = {
        "int": ctypes.c_int,
        "intptr_t": ctypes.c_ssize_t,
        "size_t": ctypes.c_size_t,
        "uintmax_t": ctypes.c_size_t,
        "unsigned int": ctypes.c_uint,
        "float": ctypes.c_float,
    }
    for function, signature in entries(name).items():
        capsule = module.__pyx_capi__[function]
        call = ctypes.PYFUNCTYPE(
            ctypes.c_void_p if bindings._is_object(signature.result) else kinds[bindings._number(signature.result)],
            *(
                ctypes.py_object
                if bindings._is_object(kind)
                else ctypes.c_void_p
                if "__pyx_opt_args" in kind
                else kinds[bindings._number(kind)]
                for kind in signature.parameters
            ),
        )(address(capsule, bindings._text(capsule).encode()))
        arguments = [None if bindings._is_object(kind) or "opt_args" in kind else 0 for kind in signature.parameters]
        with pytest.raises(cupysim.NotEmulated, match=rf"{name}\.{function} is not emulated"):
            call(*arguments)


@pytest.mark.usefixtures("cp")
def test_what_stays_with_cupy_is_known() -> None:
    """Only functions that take or return structures, all of textures, are neither replaced nor named as kept."""
    left = {}
    for name, ours in (("runtime", runtime), ("driver", driver)):
        module = importlib.import_module(f"cupy_backends.cuda.api.{name}")
        texts = {n: bindings._text(c) for n, c in module.__pyx_capi__.items()}
        signatures = [bindings.Signature.parse(n, text) for n, text in texts.items() if "(" in text]
        left[name] = {s.name for s in signatures if not s.is_expressible and s.name not in ours.KEPT}
    assert left == {"runtime": {"getTextureObjectResourceDesc", "getTextureObjectTextureDesc"}, "driver": set()}


ABSENT: dict[str, tuple[Callable[[Any], object], str]] = {
    "random numbers": (lambda cp: cp.random.rand(3), r"curand\.\w+"),
    "generators": (lambda cp: cp.random.default_rng(0), r"cupy\.random\.XORWOW"),
    "bit generators": (lambda cp: cp.random.Philox4x3210(1), r"cupy\.random\.Philox4x3210"),
    "sort": (lambda cp: cp.sort(cp.zeros(3)), r"thrust\.sort"),
    "argsort": (lambda cp: cp.zeros(3).argsort(), r"thrust\.argsort"),
    "unique": (lambda cp: cp.unique(cp.zeros(3)), r"thrust\.sort"),
    "Fourier transforms": (lambda cp: cp.fft.fft(cp.zeros(4)), r"cufft\.\w+"),
    "singular values": (lambda cp: cp.linalg.svd(cp.eye(3)), r"cusolver\.\w+"),
    "inverse": (lambda cp: cp.linalg.inv(cp.eye(3)), r"cusolver\.\w+"),
    "other parts of cuBLAS": (lambda cp: importlib.import_module("cupy.cublas").nrm2(cp.zeros(3)), r"cublas\.dnrm2"),
    "managed memory": (lambda cp: cp.cuda.malloc_managed(8), r"runtime\.mallocManaged"),
    "asynchronous pools": (lambda cp: cp.cuda.MemoryAsyncPool(), r"runtime\.deviceGet\w+Pool"),
    "graphs": (lambda cp: cp.cuda.Stream().begin_capture(), r"runtime\.streamBeginCapture"),
    "textures": (lambda cp: cp.cuda.texture.CUDAarray(FLOATS(cp), 4), r"runtime\.malloc\w*Array"),
    "other devices": (lambda cp: cp.cuda.runtime.deviceEnablePeerAccess(1), r"runtime\.deviceEnablePeerAccess"),
    "cooperative groups": (
        lambda cp: cp.RawKernel('extern "C" __global__ void f() {}', "f", enable_cooperative_groups=True)(
            (1,), (1,), ()
        ),
        "cooperative groups",
    ),
}


def FLOATS(cp: Any) -> Any:
    return cp.cuda.texture.ChannelFormatDescriptor(32, 0, 0, 0, cp.cuda.runtime.cudaChannelFormatKindFloat)


@pytest.mark.parametrize("what", ABSENT)
def test_what_is_absent_says_so(cp: Any, what: str) -> None:
    ask, name = ABSENT[what]
    with pytest.raises(cupysim.NotEmulated, match=rf"{name} is not emulated"):
        ask(cp)


def test_optional_libraries_are_as_if_not_installed(cp: Any) -> None:
    for name in ("cutensor", "nccl"):
        with pytest.raises(ImportError):
            importlib.import_module(f"cupy_backends.cuda.libs.{name}")


# --- the device -----------------------------------------------------------------------------------


def test_the_device_tells_what_it_is(cp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    device = cp.cuda.Device()
    assert cp.cuda.runtime.getDeviceCount() == 1
    assert cp.is_available()
    assert device.compute_capability == "90"
    assert device.attributes["WarpSize"] == 32
    assert b"cupysim" in cp.cuda.runtime.getDeviceProperties(0)["name"]
    assert cp.cuda.get_local_runtime_version() == cp.cuda.runtime.runtimeGetVersion()
    cp.show_config()
    assert "cupysim: CUDA on the CPU" in capsys.readouterr().out
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="InvalidDevice"):
        cp.cuda.Device(1).use()


def test_more_memory_than_there_is(cp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(cp.cuda.memory.OutOfMemoryError, match="Out of memory allocating"):
        cp.empty(10**15)
    cp.get_default_memory_pool().free_all_blocks()
    before, total = cp.cuda.Device().mem_info
    kept = cp.zeros(1 << 20)
    assert cp.cuda.Device().mem_info == (before - kept.nbytes, total)
    monkeypatch.setenv("CUPYSIM_MEMORY", str(memory.used() + 1000))
    with pytest.raises(cp.cuda.memory.OutOfMemoryError):
        cp.zeros(1000)
    monkeypatch.setenv("CUPYSIM_MEMORY", str(memory.used() + 10_000))
    assert cp.zeros(1000).sum() == 0
    del kept


# --- what is missing ------------------------------------------------------------------------------


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine where nothing is missing."""
    monkeypatch.setattr(environment, "installed_cupy", lambda: ("cupy-cuda12x", "14.2.0"))
    monkeypatch.setattr(environment, "cuda_headers_found", lambda: True)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(environment.sys, "platform", "linux")
    return monkeypatch


def test_nothing_is_missing(complete: pytest.MonkeyPatch) -> None:
    assert environment.missing() is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("installed_cupy", lambda: None, r'CuPy is not installed: pip install "\.\[emulate\]"'),
        (
            "installed_cupy",
            lambda: ("cupy-cuda13x", "13.6.0"),
            r'fits CuPy 14\.2\.0 alone, not cupy-cuda13x 13\.6\.0: pip uninstall cupy-cuda13x, then pip install "\.',
        ),
        ("shutil.which", lambda name: None, r"the compiler g\+\+ was not found on PATH: install it"),
        ("cuda_headers_found", lambda: False, r"CUDA's headers were not found: pip install \"\.\[emulate\]\""),
        ("sys.platform", "win32", "runs on Linux"),
    ],
)
def test_what_is_missing_is_one_sentence(complete: pytest.MonkeyPatch, name: str, value: object, sentence: str) -> None:
    complete.setattr(f"support.cupysim.environment.{name}", value)
    reason = environment.missing()
    assert reason is not None
    assert re.search(sentence, reason)
    assert "\n" not in reason
    complete.setattr(cupysim.installation, "_installed", [])
    with pytest.raises(cupysim.Unavailable, match=sentence):
        cupysim.install()


def test_the_installed_version_is_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"cupy-cuda13x": "14.2.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert environment.installed_cupy() == ("cupy-cuda13x", "14.2.0")
    versions.clear()
    assert environment.installed_cupy() is None


def test_cupy_must_not_be_imported_before(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(cupysim.installation, "_installed", [])
    complete.setitem(sys.modules, "cupy", object())
    with pytest.raises(cupysim.Unavailable, match=r"CuPy was imported before cupysim\.install\(\): install first"):
        cupysim.install()


@pytest.mark.usefixtures("cp")
def test_install_returns_the_same_module_again() -> None:
    assert cupysim.install() is sys.modules["cupy"]
