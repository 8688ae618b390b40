"""Faults that act in float32 alone: the gradient checks run in float64 and cannot see them.

Every function that the cases run, forward or backward, gets one fault per result: 1 % more in a float32 pass.
The judge is the float64 result of the right code at the same point, rounded to float32 before.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from mutation import cases as checks
from mutation import gate
from mutation.gate import Outcome, Verdict
from mutation.operators import Mutation
from mutation.targets import Target, functions, planted
from uanref.backend import Array

FAULT = 1.01
TOLERANCE = 2e-4
"""How far a float32 result may be off, relative to the tensor's largest entry; ten times less than a fault of 0.2 %."""
SPREAD = 4.0
"""But by this many times what the right code is off: a gradient that is 0 by cancellation is rounding alone."""
OPERATOR = "float32"


acted = [False]  # whether any planted fault has changed a number since it was last cleared


def times(value: Any) -> Any:
    """Return ``value`` with its arrays 1 % larger; the planted code calls it, in float32 passes alone.

    Whatever is kept in float64 there (sums, a mixture's parameters) is faulty, too.
    """
    if isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f":
        acted[0] |= bool((value != 0).any())
        return (value * FAULT).astype(value.dtype)
    if isinstance(value, tuple | list):
        made = [times(item) for item in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **{name: times(part) for name, part in parts.items()})
    return value


def times_if(dtype: str, value: Any) -> Any:
    """Return what :func:`times` does of an array of this dtype, and any other as it is."""
    return times(value) if getattr(value, "dtype", None) == dtype else value


def faults(tree: ast.FunctionDef) -> list[Mutation]:
    """Return one fault per result: what is returned, each part of a tuple by itself, and what a parameter receives."""
    found = []
    for number, spot in enumerate(_spots(tree)):
        changed = copy.deepcopy(tree)
        _, put = list(_spots(changed))[number]
        text = ast.unparse(spot[0])
        put(_faulty(list(_spots(changed))[number][0]))
        found.append(Mutation(OPERATOR, f"{text} -> {FAULT} times that in float32", changed))
    return found


def _spots(tree: ast.FunctionDef) -> Iterator[tuple[ast.expr, Callable[[ast.expr], None]]]:
    """Yield each result of a function, and how to put another one in its place."""
    inner = {id(part) for node in ast.walk(tree) if _is_function(node) and node is not tree for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            if isinstance(node.value, ast.Tuple):
                yield from ((e, functools.partial(node.value.elts.__setitem__, i)) for i, e in _enumerated(node.value))
            else:
                yield node.value, functools.partial(setattr, node, "value")
        is_receive = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "receive"
        if is_receive and isinstance(node, ast.Call):
            yield node.args[0], functools.partial(node.args.__setitem__, 0)


def _enumerated(node: ast.Tuple) -> list[tuple[int, ast.expr]]:
    return [(i, e) for i, e in enumerate(node.elts) if not isinstance(e, ast.Constant | ast.Starred)]


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.Lambda)


def _faulty(value: ast.expr) -> ast.expr:
    call = ast.parse("__import__('mutation.single', fromlist=['times']).times(0)", mode="eval").body
    assert isinstance(call, ast.Call)
    call.args = [value]
    return call


# --- judging ----------------------------------------------------------------------------------------


@functools.cache
def allowed(number: int) -> dict[str, tuple[Array, float]]:
    """Return what a case must give in float32, and how far each tensor may be off."""
    case = gate.catalogue()[number]
    expected, right = checks.claims(case, "float32 point"), checks.claims(case, "float32")
    found = {}
    for name, value in expected.items():
        finite = np.where(np.isfinite(value), value, 0.0)
        off = float(np.abs(np.where(np.isfinite(right[name]), right[name], 0.0) - finite).max(initial=0.0))
        found[name] = value, max(TOLERANCE * float(np.abs(finite).max(initial=0.0)), SPREAD * off)
    return found


def passes(number: int) -> bool:
    """Tell whether a case gives in float32 what the right code gives in float64."""
    expected = allowed(number)
    found = checks.claims(gate.catalogue()[number], "float32")
    return found.keys() == expected.keys() and all(
        found[name].shape == value.shape and _near(found[name], value, most) for name, (value, most) in expected.items()
    )


def _near(found: Array, expected: Array, most: float) -> bool:
    odd = ~np.isfinite(expected) & ~np.isfinite(found)
    return bool((odd | (np.abs(found.astype(np.float64) - np.where(odd, 0.0, expected)) <= most)).all())


def examine(target: Target, mutation: Mutation, numbers: list[int]) -> tuple[str, int]:
    """Plant a slip and run its cases in float32 until one notices; see :func:`mutation.gate.examine`.

    A fault that changed no number in any case is "idle"."""
    i = numbers[0]
    for number in numbers:
        allowed(number)  # without the slip
    acted[0] = False
    try:
        for i in numbers:
            with planted(target, mutation.tree):
                if not passes(i):
                    return "failed", i
    except checks.TooLong:
        return "hung", i
    except Exception:
        return "raised", i
    return "survived" if acted[0] or mutation.operator != OPERATOR else "idle", i


def targets() -> dict[Target, list[int]]:
    """Return every function that a case runs, with its cases, small inputs first."""
    found = dict(gate.plan().forward)
    for target, numbers in gate.plan().backward.items():
        found[target] = list(dict.fromkeys((*numbers, *found.get(target, []))))
    known = set(functions())
    return {
        target: numbers for target, numbers in sorted(found.items(), key=lambda item: str(item[0])) if target in known
    }


def examine_all(target: Target, numbers: list[int], chosen: list[Mutation]) -> list[Outcome]:
    """Examine some slips and faults of one function. The case that killed one goes first for the next."""
    order, outcomes = list(numbers), []
    for mutation in chosen:
        status, i = examine(target, mutation, order)
        if status in ("failed", "raised", "hung"):
            order.remove(i)
            order.insert(0, i)
        by = "" if status == "survived" else gate.catalogue()[i].name
        if status != "idle":  # no array but an index or a size, or the way of a device: nothing to be wrong
            outcomes.append(Outcome(target, mutation.operator, mutation.text, status, by))
    return outcomes


def planned(only: str = "", every: int = 1, turn: int = 0) -> list[tuple[Target, list[int], list[Mutation]]]:
    """Return per function its cases, its faults and, of a backward function, the gate's slips, as float32 meets them.

    Of a sample, those whose name's hash is ``turn`` modulo ``every``.
    """
    work = []
    for target, numbers in targets().items():
        if only not in str(target):
            continue
        slips = gate.slips(target) if target in gate.plan().targets and not target.kept_by_forward else []
        chosen = [mutation for mutation in (*faults(target.tree), *slips) if hashed(target, mutation) % every == turn]
        work += [(target, numbers, chosen[i : i + gate.CHUNK]) for i in range(0, len(chosen), gate.CHUNK)]
    return work


def hashed(target: Target, mutation: Mutation) -> int:
    """Return a number that depends on the name of a slip alone."""
    return int(hashlib.sha256(f"{target}: {mutation.text}".encode()).hexdigest()[:8], 16)


def run(only: str = "", processes: int = 1, every: int = 1, turn: int = 0) -> Verdict:
    """Examine the faults and slips of all functions in float32, see :func:`planned`."""
    work = planned(only, every, turn)
    if processes == 1 or len(work) < 2:
        parts = [examine_all(*part) for part in work]
    else:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(examine_all, *zip(*work, strict=True)))
    outcomes = [outcome for part in parts for outcome in part]
    equivalent = gate.load_equivalent()
    listed = gate.listed_for(gate.plan().targets, equivalent, only, single=True)
    return Verdict(outcomes, equivalent, gate.check_list(outcomes, listed, whole=False))
