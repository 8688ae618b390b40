"""Slip by slip through the kernels: noticed where the device differs from the definitions, listed, or survived.

The device is the emulator. Each slip runs in a forked process of its own: one that writes past the end of an array, or
that never ends, takes nothing else down.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import re
import signal
import types
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mutation import cuda_cases
from mutation.cuda_cases import DeviceCase, forget_kernels
from mutation.cuda_memory import GuardedMemory
from mutation.cuda_operators import Slip, functions, slips, tokenize
from mutation.gate import Outcome, Verdict, check_list, load_equivalent
from mutation.targets import ROOT, Target
from uanref import backend, kernels
from uanref.backend import Array
from uanref.kernels import cuda
from uanref.kernels.cuda import launch

PLACE = "kernels/cuda"
FOLDER = ROOT / PLACE
EQUIVALENT = Path(__file__).with_name("cuda_equivalent.toml")
CHUNK = 8  # slips that a process takes at a time
VARIANTS = {
    "mixture_transform": "mixture_launch",
    "softmax_cross_entropy": "losses",
}  # where a source's constants stand
EVERY = 8  # one slip in so many is examined by the tests: about 250
SECONDS = 5  # of processor time for one case, which takes a fraction of one

T, R = TypeVar("T"), TypeVar("R")
Module = tuple[str, str, tuple[tuple[str, int], ...]]
"""A compilation: file, type, constants."""


def files() -> list[str]:
    """Return the files with CUDA code: sources, and what is put before them."""
    return sorted(path.name for path in FOLDER.glob("*.cu*"))


@functools.cache
def _text(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


@functools.cache
def slips_of(file: str) -> list[Slip]:
    """Return every slip of one file."""
    return slips(_text(file))


def functions_of(file: str) -> list[str]:
    """Return the names of the functions that a file defines."""
    return [name for name, _, _ in functions(tokenize(_text(file)))]


@functools.cache
def catalogue() -> list[DeviceCase]:
    """Return the cases, the same list in every process."""
    return cuda_cases.cases()


# --- a slip in place --------------------------------------------------------------------------------


@contextlib.contextmanager
def planted(file: str, changed: str) -> Iterator[None]:
    """Let kernels be compiled from ``changed`` instead of the text of ``file`` inside this block."""
    original = launch.source

    def source(name: str) -> str:
        return original(name).replace(_text(file), changed)

    forget_kernels()
    launch.source = source
    try:
        yield
    finally:
        launch.source = original
        forget_kernels()


class Noted(NamedTuple):
    """What was asked for: modules, and kernels as (file, name)."""

    modules: set[Module]
    kernels: set[tuple[str, str]]


@contextlib.contextmanager
def noting() -> Iterator[Noted]:
    """Note what is compiled and launched inside this block."""
    found = Noted(set(), set())
    original = launch._module

    def module(file: str, dtype_char: str, **constants: int) -> Any:
        def get_function(name: str) -> Any:
            found.kernels.add((file, name))
            return compiled.get_function(name)

        found.modules.add((file, dtype_char, tuple(constants.items())))
        compiled = original(file, dtype_char, **constants)
        return types.SimpleNamespace(get_function=get_function)

    module.cache_clear = original.cache_clear  # type: ignore[attr-defined]
    launch.kernel.cache_clear()
    launch._module = module
    try:
        yield found
    finally:
        launch._module = original
        launch.kernel.cache_clear()


# --- the plan ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What judges which slip.

    Attributes:
        modules: what each case compiles, by its number; cases without a kernel are left out.
        kernels: what any of them launches.
        errors: cases that fail without any slip.
    """

    modules: dict[int, set[Module]]
    kernels: set[tuple[str, str]]
    errors: list[str]

    def judges(self, file: str) -> list[int]:
        """Return the cases that run the code of a file: small ones first, long rows and several parts at the end."""
        return sorted((i for i in self.modules if self.of(file, i)), key=lambda i: (catalogue()[i].size, i))

    def of(self, file: str, i: int) -> set[Module]:
        """Return what case ``i`` compiles with the text of ``file`` in it."""
        return {module for module in self.modules[i] if not file.endswith(".cu") or file == f"{module[0]}.cu"}


def make_plan(numbers: list[int]) -> Plan:
    """Run some cases on the device, in a process with the emulator; those that would ask for kernels."""
    plan = Plan({}, set(), [])
    for i in numbers:
        if not _asks_for_kernels(i):
            continue
        with noting() as noted:
            try:
                fault = _fault(i)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        if fault and noted.modules:  # what fails by itself is no judge
            plan.errors.append(f"{catalogue()[i].name} without any slip: {fault}")
        elif noted.modules:
            plan.modules[i] = noted.modules
            plan.kernels.update(noted.kernels)
    return plan


def _asks_for_kernels(i: int) -> bool:
    """Tell from a run on the host whether a case runs a definition that has a version in CUDA."""
    asked: list[str] = []

    def versions(module: str, name: str, where: str) -> tuple[Callable[..., Any], ...]:
        asked.extend(v.__module__ for v in original(module, name, "cupy") if v.__module__.startswith(cuda.__name__))
        return ()

    original = kernels.versions
    kernels.versions = versions  # type: ignore[assignment]
    try:
        catalogue()[i].compute("numpy")
    finally:
        kernels.versions = original
    return bool(asked)


def _fault(i: int) -> str:
    """Run a case on the device and tell what is wrong, if anything."""
    error = cuda_cases.worst(catalogue()[i].run("cupy"), _expected(i))
    if not error <= cuda_cases.TOLERANCE:
        return f"device and definitions differ by {error:.1e}"
    if not _memory().intact():
        return "something was written outside of an array"
    return ""


def gaps(plan: Plan, chosen: Iterable[str]) -> list[str]:
    """Return what the cases leave out of some files: kernels that none launches, constants that no module declares."""
    errors = []
    for file in chosen:
        if not file.endswith(".cu"):
            continue
        name = file.removesuffix(".cu")
        owner = VARIANTS.get(name, "")
        declared = importlib.import_module(f"{cuda.__name__}.{owner}").VARIANTS if owner else ({},)
        compiled = {module[2] for modules in plan.modules.values() for module in modules if module[0] == name}
        for constants in sorted(compiled):
            if dict(constants) not in declared:
                errors.append(f"{file} is compiled with {dict(constants)}, which no VARIANTS declare")
        for kernel in re.findall(r"__global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\(", _text(file)):
            if (name, kernel) not in plan.kernels:
                errors.append(f"no case launches {kernel} of {file}")
    return errors


@functools.cache
def _expected(i: int) -> dict[str, Array]:
    return catalogue()[i].run("numpy")


# --- one slip ---------------------------------------------------------------------------------------


def examine(plan: Plan, file: str, changed: str, order: list[int]) -> tuple[str, int]:
    """Plant a slip in a process of its own and run cases until one notices.

    Returns:
        The status, as of :class:`mutation.gate.Outcome`, or ``"refused"`` by the compiler; the number of the last case.
    """
    for i in order:
        _expected(i)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of BLAS do not come along, and are not needed
        child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            _judge(plan, file, changed, order, writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = [json.loads(line) for line in pipe.read().splitlines()]
    _, ended = os.waitpid(child, 0)
    status, i = said[-1] if said else ("begun", order[0])
    if status == "begun":  # and not finished
        status = "hung" if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGVTALRM else "raised"
    return status, i


def _judge(plan: Plan, file: str, changed: str, order: list[int], writer: int) -> None:
    """Write lines ``[status, case]`` into the pipe; the last one counts."""
    from support import cupysim

    def say(status: str, i: int) -> None:
        os.write(writer, json.dumps([status, i]).encode() + b"\n")

    # A kernel that never ends gives no signal handler a chance: the default action ends the process.
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    with planted(file, changed):
        for reverse in (False, True):
            with cupysim.threads_reversed() if reverse else contextlib.nullcontext():
                for i in order:
                    try:
                        for name, char, constants in plan.of(file, i):
                            launch._module(name, char, **dict(constants)).compile()
                    except Exception:
                        return say("refused", i)
                    say("begun", i)
                    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
                    fault = _fault(i)
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                    if fault:
                        return say("failed", i)
    say("survived", order[-1])


def examine_all(plan: Plan, file: str, chosen: list[int]) -> list[Outcome]:
    """Examine some slips of one file. The case that noticed one goes first for the next."""
    order, outcomes = plan.judges(file), []
    for k in chosen:
        slip = slips_of(file)[k]
        status, i = examine(plan, file, slip.source, order)
        if status not in ("survived", "refused"):
            order.remove(i)
            order.insert(0, i)
        by = "" if status == "survived" else catalogue()[i].name
        outcomes.append(Outcome(Target(f"{PLACE}/{file}", slip.function), slip.operator, slip.text, status, by))
    return outcomes


# --- all of them ------------------------------------------------------------------------------------


def sample(only: str = "", every: int = EVERY, turn: int = 0, names: set[str] | None = None) -> dict[str, list[int]]:
    """Choose slips: per file the positions in :func:`slips_of`.

    Each slip has its turn by its name, so that a change elsewhere does not exchange the sample.

    Args:
        only: of the slips whose file, function and text contain this.
        every: one slip in ``every`` is chosen.
        turn: which ones, below ``every``.
        names: if given, these slips and no others.
    """
    chosen: dict[str, list[int]] = {}
    for file in files():
        for k, slip in enumerate(slips_of(file)):
            name = f"{PLACE}/{file}: {slip.function}: {slip.text}"
            is_due = zlib.crc32(name.encode()) % every == turn if names is None else name in names
            if only in name and is_due:
                chosen.setdefault(file, []).append(k)
    return chosen


def survivors(output: str) -> set[str]:
    """Return the names of the slips that survived an earlier run, listed as equivalent or not, from its output."""
    return set(re.findall(r"^survived +\w+ +(.+?) +\[\]$", output, flags=re.MULTILINE))


def run(
    only: str = "",
    processes: int = 1,
    every: int = EVERY,
    turn: int = 0,
    note: Callable[[Outcome], None] = lambda outcome: None,
    names: set[str] | None = None,
) -> Verdict:
    """Examine a sample of the kernels' slips.

    Args:
        processes: how many work at a time.
        note: is told each outcome.
        only, every, turn, names: which slips, as in :func:`sample`; ``every=1`` for all.
    """
    chosen = sample(only, every, turn, names)
    with _processes(processes) as pool:
        numbers = range(len(catalogue()))
        shares = list(pool.map(make_plan, [list(numbers[i::processes]) for i in range(processes)]))
        plan = Plan(
            {i: modules for share in shares for i, modules in share.modules.items()},
            set().union(*(share.kernels for share in shares)),
            [error for share in shares for error in share.errors],
        )
        without = [file for file in chosen if not plan.judges(file)]
        work = [
            (plan, file, numbers[start : start + CHUNK])
            for file, numbers in chosen.items()
            if file not in without
            for start in range(0, len(numbers), CHUNK)
        ]
        outcomes = []
        for part in pool.map(examine_all, *zip(*work, strict=True)) if work else []:
            for outcome in part:
                note(outcome)
                outcomes.append(outcome)
    equivalent = load_equivalent(EQUIVALENT)
    errors = [*plan.errors, *gaps(plan, chosen), *(f"no case runs {file}" for file in without), *stale(equivalent)]
    outcomes = [outcome for outcome in outcomes if outcome.status != "refused"]
    return Verdict(outcomes, equivalent, errors + check_list(outcomes, equivalent, whole=False))


def _processes(count: int) -> ProcessPoolExecutor:
    """Return fresh processes with the emulator, which must be there before anything imports CuPy."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_install)


def in_a_process(task: Callable[[T], R], argument: T) -> R:
    """Return ``task(argument)``, computed where the emulator is."""
    with _processes(1) as pool:
        return pool.submit(task, argument).result()


def stale(equivalent: dict[str, str]) -> list[str]:
    """Return which listed slips do not exist (any more)."""
    names = {f"{PLACE}/{file}: {slip.function}: {slip.text}" for file in files() for slip in slips_of(file)}
    return [f"listed as equivalent but there is no such slip: {name}" for name in equivalent if name not in names]


def _install() -> None:
    """Prepare a process: the emulator, memory that tells, results in one order."""
    from support import cupysim

    cupysim.install()
    _memory()
    backend._threads = 1


@functools.cache
def _memory() -> GuardedMemory:
    return GuardedMemory(backend.module("cupy"))
