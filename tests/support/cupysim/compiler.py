"""From CUDA source to a shared library of this machine, with a cache on disk.

A source becomes C++ by three small changes: our headers come first, ``extern __shared__`` arrays become pointers to
the block's dynamic shared memory, and each kernel gets a function that runs it over a grid.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import counters
from .environment import COMPILER, CUPY_VERSION, INCLUDE, cache_folder, compiler_version, extra_flags

# -ffp-contract=off: a product and a sum round twice, as NumPy's do.
# -fno-gnu-unique: shared memory of equally named functions in two libraries stays two variables.
# -fdata-sections: a section for each variable, so that the linker can collect those in shared memory.
# -fpermissive: what NVRTC lets pass in CuPy's own headers.
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-w", "-fpermissive", "-ffp-contract=off", "-fno-gnu-unique", "-fdata-sections")
LAUNCHER = "cupysim_run_"


class CompilationFailed(Exception):
    """The compiler refused a source; the message is the compiler's."""


def build_kernels(source: str, options: Iterable[str], name_expressions: Iterable[str] | None) -> str:
    """Compile CUDA source unless the cache has it; return the library's path.

    Args:
        source: CUDA C++, as NVRTC gets it.
        options: NVRTC's; macros and include folders count, what tunes code for a device does not.
        name_expressions: instances of templates, such as ``add<float>``; without them all ``extern "C"`` kernels.
    """
    names = list(name_expressions) if name_expressions else kernel_names(source)
    with_cupy = "#include <cupy/" in source
    header = "cupysim/kernel_with_cupy.h" if with_cupy else "cupysim/kernel.h"
    launchers = [
        f'extern "C" void {launcher(name)}(cupysim::Launch* l) {{ cupysim::Grid<{name}>::run(l); }}' for name in names
    ]
    text = "\n".join([f'#include "{header}"', '#line 1 "kernel.cu"', _with_dynamic_shared(source), *launchers, ""])
    return str(_build(text, _host_options(options), header, counted=True))


def build_library(name: str, source: str) -> ctypes.PyDLL:
    """Compile plain C++ (or take it from the cache) and load it."""
    return ctypes.PyDLL(str(_build(f"// {name}\n{source}", [], None, counted=False)))


def launcher(name: str) -> str:
    """Return the name of the C function that runs kernel ``name``."""
    return LAUNCHER + hashlib.sha256(name.encode()).hexdigest()[:16]


def kernel_names(source: str) -> list[str]:
    """Return the kernels with C linkage: ``extern "C" __global__ void f(...)``, alone or inside ``extern "C" { }``."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.S)
    bounds = r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"
    kernel = rf"__global__\s+{bounds}void\s+{bounds}(\w+)\s*\("
    names = re.findall(rf'extern\s+"C"\s+(?:static\s+)?{kernel}', code)
    for block in re.finditer(r'extern\s+"C"\s*\{', code):
        names += re.findall(kernel, code[block.end() : _closing_brace(code, block.end())])
    return list(dict.fromkeys(names))


def _closing_brace(code: str, start: int) -> int:
    depth = 1
    for match in re.compile(r"[{}]").finditer(code, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    return len(code)


def _with_dynamic_shared(source: str) -> str:
    """``extern __shared__ float x[];`` -> a pointer to the block's dynamic shared memory."""
    return re.sub(
        r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s+)?(\w[\w\s:<>]*?)\s+(\w+)\s*\[\s*\]\s*;",
        r"static \1* const \2 = reinterpret_cast<\1*>(cupysim::dynamic_shared);",
        source,
    )


def _host_options(options: Iterable[str]) -> list[str]:
    """Macros and include folders; the folders of CUDA's own headers are left out, ours stand for them."""
    kept = [option for option in options if option.startswith(("-D", "-U", "-I"))]
    return [o for o in kept if "_cccl" not in o and not (o.startswith("-I") and _is_toolkit(o[2:]))]


@functools.cache
def _is_toolkit(folder: str) -> bool:
    return (Path(folder) / "cuda_runtime.h").exists()


def _build(source: str, options: list[str], header: str | None, *, counted: bool) -> Path:
    flags = [*FLAGS, *extra_flags()]
    key = _digest(source, *options, *flags, _shim_digest(), compiler_version())
    library = cache_folder() / f"{key}.so"
    if library.exists():
        return library
    includes = [f"-I{INCLUDE}", *options]
    if header is not None:
        # The folder with the precompiled header comes first; without one the compiler reads the plain header.
        includes.insert(0, f"-I{_precompiled(header, flags, [o for o in options if o.startswith('-I')])}")
    if counted:
        counters.happened("compilations")
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        file, made = Path(scratch) / "kernel.cpp", Path(scratch) / "kernel.so"
        file.write_text(source, encoding="utf-8")
        linking = ["-shared", f"-Wl,-T,{INCLUDE / 'cupysim' / 'shared.ld'}"]
        _run([COMPILER, *flags, *linking, *includes, str(file), "-o", str(made)])
        os.replace(made, library)  # whole or not at all, whoever else builds the same
    return library


def _precompiled(header: str, flags: list[str], includes: list[str]) -> Path:
    """Return the folder that holds ``header`` precompiled for these flags."""
    key = _digest(header, *flags, *includes, _shim_digest(), compiler_version())
    folder = cache_folder() / f"headers-{key}"
    target = folder / f"{header}.gch"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            made = Path(scratch) / "header.gch"
            command = [COMPILER, *flags, "-x", "c++-header", f"-I{INCLUDE}", *includes, str(INCLUDE / header)]
            _run([*command, "-o", str(made)])
            os.replace(made, target)
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompilationFailed(done.stderr[:4000])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


@functools.cache
def _shim_digest() -> str:
    """Digest of all that stands behind a source: our headers, and the version of CuPy's."""
    files = sorted(path for path in INCLUDE.rglob("*") if path.is_file())
    return _digest(
        CUPY_VERSION, *(f"{path.relative_to(INCLUDE)}\0{path.read_text(encoding='utf-8')}" for path in files)
    )
