"""Putting the emulator in the place of CUDA, before CuPy is imported."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from . import bindings, compiler, cublas, driver, memory, runtime
from .environment import COMPILER, is_sanitized, missing
from .errors import Unavailable, refuse

_REFUSED = ("curand", "cusolver", "cusparse")
_OPTIONAL = ("cutensor", "nccl")
"""What CuPy does without where it is not installed."""
_installed: list[types.ModuleType] = []


def install() -> types.ModuleType:
    """Let CuPy run on the CPU, and return it. Call it before anything imports CuPy; later calls return it again.

    Raises:
        Unavailable: something is missing (see :func:`~.environment.missing`), or CuPy was imported before.
    """
    if _installed:
        return _installed[0]
    if reason := missing():
        raise Unavailable(reason)
    if "cupy" in sys.modules or "cupy_backends" in sys.modules:
        raise Unavailable("CuPy was imported before cupysim.install(): install first, in a fresh process")
    for name, ours in (("runtime", runtime), ("driver", driver)):
        module = importlib.import_module(f"cupy_backends.cuda.api.{name}")
        bindings.replace(module, ours.functions(module), ours.KEPT)
    libraries = importlib.import_module("cupy_backends.cuda.libs")
    for name in _OPTIONAL:
        sys.modules[f"cupy_backends.cuda.libs.{name}"] = None  # type: ignore[assignment]  # importing it fails
    for name in ("cublas", *_REFUSED):
        stand_in = cublas.module() if name == "cublas" else _absent(f"cupy_backends.cuda.libs.{name}")
        sys.modules[stand_in.__name__] = stand_in
        setattr(libraries, name, stand_in)
    for name in ("cufft", "jitify"):
        sys.modules[f"cupy.cuda.{name}"] = _absent(f"cupy.cuda.{name}")

    cupy = importlib.import_module("cupy")
    for name in ("cufft", "jitify"):
        setattr(cupy.cuda, name, sys.modules[f"cupy.cuda.{name}"])
    cupy.cuda.jitify.get_build_version = lambda: "not emulated"  # cupy.show_config() asks
    # CUB and cuTENSOR come as code for a device: reductions and products take CuPy's own kernels.
    cupy._core.set_routine_accelerators([])
    cupy._core.set_reduction_accelerators([])
    # These carry compiled code for a device, and reach the CUDA runtime past the replaced functions.
    for name in ("cupy.cuda.thrust", "cupy.cuda.cub"):
        bindings.refuse_all(importlib.import_module(name), kept=frozenset({"get_build_version"}))
    _refuse_bit_generators(cupy)
    _replace_compiler()
    if is_sanitized():
        cupy.cuda.set_allocator(None)  # an allocation for each array: the sanitizer watches the bytes around it
    _poison_fresh_arrays()
    _installed.append(cupy)
    return cupy


def _poison_fresh_arrays() -> None:
    """Fill what CuPy's memory pool hands out a second time, as fresh memory is filled."""
    from cupy.cuda import memory_hook

    class Poison(memory_hook.MemoryHook):  # type: ignore[misc]
        name = "cupysim"

        def malloc_postprocess(self, **about: int) -> None:
            if about["mem_ptr"]:  # 0 if there was no memory left
                memory.fill(about["mem_ptr"], memory.POISON, about["mem_size"])

    Poison().__enter__()  # for the life of the process


def _refuse_bit_generators(cupy: Any) -> None:
    """Let no bit generator be made: ``cupy.random.Generator`` would launch the kernels of cuRAND."""
    private = importlib.import_module("cupy.random._bit_generator")
    for name in ("XORWOW", "MRG32k3a", "Philox4x3210"):

        def refused(cls: type, *arguments: Any, **named: Any) -> Any:
            raise refuse(f"cupy.random.{cls.__name__}")

        substitute = type(name, (getattr(private, name),), {"__new__": refused})
        setattr(private, name, substitute)
        setattr(cupy.random, name, substitute)


def _replace_compiler() -> None:
    from cupy.cuda import compiler as cupys_compiler
    from cupy_backends.cuda.libs import nvrtc

    cupys_compiler._get_arch = lambda: "".join(map(str, runtime.COMPUTE_CAPABILITY))
    cupys_compiler._compile_module_with_cache = _compile
    nvrtc.getVersion = lambda: (12, 9)  # asked for before each compilation, and by cupy.show_config()


def _compile(
    source: str,
    options: tuple[str, ...] = (),
    *,
    arch: Any = None,
    extra_source: Any = None,
    backend: str = "nvrtc",
    enable_cooperative_groups: bool = False,
    name_expressions: Any = None,
    log_stream: Any = None,
    jitify: bool = False,
    to_ltoir: bool = False,
) -> Any:
    """Stand for CuPy's function of this name: source to a loaded module."""
    from cupy.cuda import compiler as cupys_compiler
    from cupy.cuda import function

    for asked, what in (
        (enable_cooperative_groups, "cooperative groups"),
        (jitify, "Jitify"),
        (to_ltoir, "link-time code"),
    ):
        if asked:
            raise refuse(what)
    names = tuple(name_expressions or ())
    try:
        library = compiler.build_kernels(source, options, names)
    except compiler.CompilationFailed as error:
        raise cupys_compiler.CompileException(str(error), source, "kernel.cu", options, COMPILER) from None
    module = function.Module()
    module.load(library.encode())
    if names:
        module._set_mapping({name: name for name in names})
    return module


class _Absent(types.ModuleType):
    """A library that the emulator has not: each of its names raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise refuse(f"{self.__name__.rpartition('.')[2]}.{name}")


def _absent(name: str) -> types.ModuleType:
    return _Absent(name)
