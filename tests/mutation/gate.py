"""Slip by slip: killed by a gradient check, listed as equivalent, or survived."""

from __future__ import annotations

import functools
import multiprocessing
import os
import tomllib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mutation import cases as checks
from mutation.cases import Case, TooLong
from mutation.operators import Mutation, mutations
from mutation.targets import Target, calls, functions, planted
from uanref.backend import Array

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
CHUNK = 20  # slips that a process takes at a time


@dataclass(frozen=True)
class Outcome:
    """What became of one slip.

    Attributes:
        target: the function that it was planted in.
        operator: its kind.
        text: ``"before -> after"``.
        status: ``"failed"`` (a gradient check said so), ``"raised"``, ``"hung"``, ``"survived"``, or ``"forward"``:
            in forward code that keeps a part of the gradient, a slip that changes the output and does not count.
        by: the case that killed it.
    """

    target: Target
    operator: str
    text: str
    status: str
    by: str = ""

    @property
    def id(self) -> str:
        """What names it in the list of equivalent slips."""
        return f"{self.target}: {self.text}"


@dataclass
class Verdict:
    """What the gate says.

    Attributes:
        outcomes: one per slip that counts.
        equivalent: reviewed slips that change no gradient, id to reason.
        errors: what is wrong besides survivors, in sentences.
    """

    outcomes: list[Outcome]
    equivalent: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def survivors(self) -> list[Outcome]:
        """Slips that no check noticed and that nobody has reviewed."""
        return [o for o in self.outcomes if o.status == "survived" and o.id not in self.equivalent]

    @property
    def ok(self) -> bool:
        """True if nothing survived and nothing is wrong with the list."""
        return not self.survivors and not self.errors

    def __str__(self) -> str:
        killed = sum(outcome.status != "survived" for outcome in self.outcomes)
        listed = len(self.outcomes) - killed - len(self.survivors)
        head = (
            f"{len(self.outcomes)} slips: {killed} killed, {listed} equivalent, {len(self.survivors)} survived, "
            f"{len(self.errors)} errors"
        )
        return "\n".join([head, *(f"survived: {o.id}" for o in self.survivors), *(f"error: {e}" for e in self.errors)])


# --- the plan ---------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What will be planted, and which cases run through it.

    Attributes:
        targets: each with the numbers of its cases in :func:`mutation.cases.cases`, small inputs first.
        errors: backward functions without a case.
        forward, backward: every function that a pass runs, with the numbers of the cases.
    """

    targets: dict[Target, list[int]]
    errors: list[str]
    forward: dict[Target, list[int]] = field(default_factory=dict)
    backward: dict[Target, list[int]] = field(default_factory=dict)


@functools.cache
def catalogue() -> list[Case]:
    """Return the cases, the same list in every process."""
    return checks.cases()


@functools.cache
def plan() -> Plan:
    """Find the backward code by running every case: what runs in backward passes and never in a forward pass."""
    forward: dict[Target, list[int]] = {}
    backward: dict[Target, list[int]] = {}
    errors = []
    order = sorted(range(len(catalogue())), key=lambda i: (catalogue()[i].x.size, i))
    for i in order:
        case = catalogue()[i]
        for found, called in zip((forward, backward), _calls(case), strict=True):
            # A definition is judged where definitions run, a version where versions do.
            for target in called if case.way == "plain" else filter(lambda target: target.is_version, called):
                found.setdefault(target, []).append(i)
    targets: dict[Target, list[int]] = {}
    for target in functions():
        if target.kept_by_forward:
            targets[target] = forward.get(target, [])
        elif target in backward and (target.is_named_backward or target not in forward):
            targets[target] = backward[target]
        elif target.is_named_backward:
            errors.append(f"no case of uanref.verify.catalogue runs {target}: give the catalogue one")
    return Plan(targets, errors, forward, backward)


def _calls(case: Case) -> tuple[set[Target], set[Target]]:
    """Return which functions a forward pass and a backward pass of this case call."""
    with checks.surroundings(case):
        layer = case.make()
        shape = layer.forward(case.x.copy()).shape
        layer.clear()
        checks.forget()
        forward = calls(lambda: layer.forward(case.x.copy()))
        dy = np.random.default_rng(checks.SEED).standard_normal(shape)
        checks.forget()
        return forward, calls(lambda: layer.backward(dy))


@functools.cache
def slips(target: Target, on_device: bool = False) -> list[Mutation]:
    """Return every slip of one function, ``on_device`` also those that only show there."""
    return mutations(target.tree, on_device)


# --- one slip ---------------------------------------------------------------------------------------


def examine(target: Target, mutation: Mutation, numbers: list[int]) -> tuple[str, int]:
    """Plant a slip and run its cases until one notices.

    Returns:
        The status, see :class:`Outcome`, and the number of the last case.
    """
    i = numbers[0]
    for number in numbers:
        _original(number)  # outside the block that plants; a case that breaks by itself is an error, no kill
    try:
        with planted(target, mutation.tree):
            if target.kept_by_forward and not all(_same_output(number) for number in numbers):
                return "forward", i
        for i in numbers:
            # A check differentiates the forward pass numerically, which no slip changes: where the slip leaves
            # every gradient as it was to the bit, the check would say what it says without the slip.
            expected = _original(i)
            with planted(target, mutation.tree):
                if _same(checks.claims(catalogue()[i]), expected):
                    continue
                if not checks.passes(catalogue()[i]):
                    return "failed", i
    except TooLong:
        return "hung", i
    except Exception:  # a slip may break the code in any way
        return "raised", i
    return "survived", i


@functools.cache
def _original(number: int) -> dict[str, Array]:
    return checks.claims(catalogue()[number])


def _same(found: dict[str, Array], expected: dict[str, Array]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


def _same_output(number: int) -> bool:
    case = catalogue()[number]
    return bool(np.array_equal(checks.outputs(case), _plain_outputs(number)))


@functools.cache
def _plain_outputs(number: int) -> Array:
    return checks.outputs(catalogue()[number])


def examine_all(target: Target, numbers: list[int], chosen: Iterable[int]) -> list[Outcome]:
    """Examine some slips of one function. The case that killed one goes first for the next."""
    order, outcomes = list(numbers), []
    for number in numbers if target.kept_by_forward else []:
        _plain_outputs(number)
    for k in chosen:
        mutation = slips(target)[k]
        status, i = examine(target, mutation, order)
        if status != "survived":
            order.remove(i)
            order.insert(0, i)
        by = "" if status == "survived" else catalogue()[i].name
        outcomes.append(Outcome(target, mutation.operator, mutation.text, status, by))
    return outcomes


# --- all of them ------------------------------------------------------------------------------------


def run(only: str = "", processes: int = 1, every: int = 1, turn: int = 0) -> Verdict:
    """Examine the slips of every backward function.

    Args:
        only: of the functions whose file and name contain this.
        processes: how many work at a time.
        every: examine each ``every``-th slip alone, for a sample.
        turn: beginning with this one, below ``every``.
    """
    found = plan()
    work = []
    position = 0
    for target, numbers in found.targets.items():
        chosen = []
        for k in range(len(slips(target)) if only in str(target) else 0):
            if position % every == turn:
                chosen.append(k)
            position += 1
        work += [(target, numbers, chosen[start : start + CHUNK]) for start in range(0, len(chosen), CHUNK)]
    if processes == 1:
        parts = [examine_all(*part) for part in work]
    else:
        # Fresh processes: a fork would inherit locks of threads that it does not have.
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(examine_all, *zip(*work, strict=True)))
    outcomes = [outcome for part in parts for outcome in part if outcome.status != "forward"]
    equivalent = load_equivalent()
    whole = every == 1
    in_scope = listed_for(found.targets, equivalent, only)
    errors = [error for error in found.errors if only in error]
    if whole:
        used = sorted({i for target, numbers in found.targets.items() if only in str(target) for i in numbers})
        errors += [f"{catalogue()[i].name} fails without any slip" for i in used if not checks.passes(catalogue()[i])]
    return Verdict(outcomes, equivalent, errors + check_list(outcomes, in_scope, whole))


def usable_cores() -> int:
    """Return how many processes this one may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the reviewed list ------------------------------------------------------------------------------


def load_equivalent(path: Path = EQUIVALENT) -> dict[str, str]:
    """Read a reviewed list: id of the slip to the reason why it changes nothing."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    listed: dict[str, str] = {}
    for entry in entries:
        reason = " ".join(entry["reason"].split())
        if not reason:
            raise ValueError(f"{path.name} lists slips without a reason: {entry['slips']}")
        for slip in entry["slips"]:
            if slip in listed:
                raise ValueError(f"{path.name} lists {slip!r} twice")
            listed[slip] = reason
    return listed


def listed_for(
    targets: Iterable[Target], equivalent: dict[str, str], only: str = "", single: bool = False
) -> dict[str, str]:
    """Return the part of a list that concerns some functions; faults in float32 alone with ``single``, their gate's."""
    names = {str(target) for target in targets if only in str(target)}
    return {
        slip: reason
        for slip, reason in equivalent.items()
        if ": ".join(slip.split(": ", 2)[:2]) in names and (single or not slip.endswith(" in float32"))
    }


def check_list(outcomes: list[Outcome], listed: dict[str, str], whole: bool) -> list[str]:
    """Return what is wrong with the list: a slip that is in fact killed, or (of a whole run) that does not exist."""
    status = {outcome.id: outcome.status for outcome in outcomes}
    errors = [
        f"listed as equivalent but killed ({status[i]}): {i}" for i in listed if status.get(i, "survived") != "survived"
    ]
    return errors + [
        f"listed as equivalent but there is no such slip: {i}" for i in listed if whole and i not in status
    ]
