"""NVIDIA's run-time compiler, without CuPy and without a driver: what a device would be given for a CUDA source.

CuPy hands its sources to the same library with the same options and loads the machine code that comes back. Here the
machine code is thrown away; what the assembler inside the library says about registers and memory is what counts.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

# What CuPy adds to the options of a RawModule (cupy.cuda.compiler, 14.2.0), but for the architecture.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")


class Unavailable(RuntimeError):
    """The compiler cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Usage:
    """What one kernel takes on the device.

    Attributes:
        registers: of a thread.
        stack: bytes of a thread's stack frame, its called functions included: memory, where registers were hoped for.
        spills: bytes that are stored to and loaded from memory because the registers did not suffice.
        shared: bytes of static shared memory of a block.
    """

    registers: int
    stack: int
    spills: int
    shared: int


@dataclass(frozen=True)
class Compilation:
    """What came of a source.

    Attributes:
        ok: whether there is machine code.
        complaints: every line of the log that is no report of the assembler: errors and warnings.
        kernels: what each kernel takes, by name.
    """

    ok: bool
    complaints: list[str]
    kernels: dict[str, Usage]


def missing() -> str | None:
    """Return in one sentence why the compiler cannot run here; None if it can."""
    try:
        _library()
    except Unavailable as error:
        return str(error)
    return None


def compile_for(arch: int, source: str, options: tuple[str, ...]) -> Compilation:
    """Compile a source as CuPy would on a card of compute capability ``arch`` (75 for 7.5).

    Raises:
        Unavailable: the library is missing.
    """
    library = _library()
    full = (*options, *CUPY_OPTIONS, f"-arch=sm_{arch}", "--ptxas-options=-v")
    program = ctypes.c_void_p()
    _demand(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        status = library.nvrtcCompileProgram(program, len(full), (ctypes.c_char_p * len(full))(*map(str.encode, full)))
        size = ctypes.c_size_t()
        _demand(library.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _demand(library.nvrtcGetProgramLog(program, log))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    lines = log.value.decode(errors="replace").splitlines()
    return Compilation(status == 0, [line for line in lines if line.strip() and not _is_report(line)], _usages(lines))


def _is_report(line: str) -> bool:
    return re.match(r"ptxas\s+(info\s+:|\.)", line) is not None


def _usages(lines: list[str]) -> dict[str, Usage]:
    """Read the assembler's report.

    Each kernel's part begins with "Compiling entry function"; functions that were not inlined follow within it, each
    with a stack frame of its own.
    """
    found: dict[str, Usage] = {}
    for part in "\n".join(lines).split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        cumulative = re.search(r"(\d+) bytes cumulative stack", part)
        shared = re.search(r"(\d+) bytes smem", part)
        if not frames or registers is None:
            raise AssertionError(f"the assembler's report reads differently than expected:\n{part}")
        found[name] = Usage(
            registers=int(registers[1]),
            stack=max(*(int(frame[0]) for frame in frames), int(cumulative[1]) if cumulative else 0),
            spills=sum(int(stores) + int(loads) for _, stores, loads in frames),
            shared=int(shared[1]) if shared else 0,
        )
    return found


def _demand(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"NVRTC returned error {status}")


@functools.cache
def _library() -> ctypes.CDLL:
    """Load the library from its wheel, or from where the system's loader looks."""
    package = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in package.submodule_search_locations or ()] if package else []
    candidates = [str(path) for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*"))]
    reasons = []
    for candidate in (*candidates, "libnvrtc.so.12", "libnvrtc.so"):
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            reasons.append(str(error))
    raise Unavailable(f'NVIDIA\'s run-time compiler cannot be loaded ({reasons[0]}): pip install ".[emulate]"')
