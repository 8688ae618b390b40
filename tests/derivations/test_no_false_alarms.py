"""No proof turns red without a slip, at any size of any derivation; and with one it does, at the smallest sizes too.

Every run takes another part of :data:`ALL` traces, chosen by the commit; ``UANREF_TRACES=0:10000`` takes all of them.
"""

from __future__ import annotations

import dataclasses
import math
import os

import numpy as np
import pytest
from support.derivation_cases import PROVEN, TOLERANCE, name_of

from uanref.derivations import Derivation, find
from uanref.derivations.mistakes import mistakes, plant

ALL, PART = 10_000, 50
MOST = 300  # entries of a value
LENGTHS, OFTEN = (1, 2, 3, 4, 5, 6, 7, 8), (0.2, 0.2, 0.12, 0.12, 0.12, 0.08, 0.08, 0.08)


def drawn(number: int, of: Derivation | None = None) -> tuple[Derivation, dict[str, int], int]:
    """The derivation (in turns, or ``of``), the sizes and the seed of one trace: small sizes are the most frequent."""
    rng = np.random.default_rng([7, number])
    derivation = PROVEN[number % len(PROVEN)] if of is None else of
    while True:
        sizes = {axis: int(rng.choice(LENGTHS, p=OFTEN)) for axis in derivation.sizes}
        for image, kernel in (("h", "u"), ("k", "v")):
            if kernel in sizes:
                sizes[kernel] = min(sizes[kernel], sizes[image])
        lengths = derivation.with_derived_sizes(sizes)
        if all(math.prod(lengths[axis] for axis in node.axes) <= MOST for node in derivation.nodes):
            return derivation, sizes, int(rng.integers(2**31))


def alarm(number: int, of: Derivation | None = None) -> str:
    """What a trace without any slip says; empty if all its proofs hold."""
    derivation, sizes, seed = drawn(number, of)
    trace = derivation.trace(derivation.example(seed, **sizes), seed=seed)
    red = {name: node.error for name, node in trace.nodes.items() if node.error is not None}
    red = {name: error for name, error in red.items() if not error <= TOLERANCE}
    return f"{number}: {derivation.name} {sizes} seed {seed}: {red}" if red else ""


def numbers() -> range:
    if asked := os.environ.get("UANREF_TRACES"):
        first, last = map(int, asked.split(":"))
        return range(first, last)
    turn = int(os.environ.get("GITHUB_SHA", "0")[:8], 16) % (ALL // PART)
    return range(turn * PART, (turn + 1) * PART)


def test_no_trace_is_red_without_a_slip():
    alarms = [told for number in numbers() if (told := alarm(number))]
    assert not alarms, "\n".join(alarms)


# Traces that were red before the proofs knew of tiny weights: a component that has hardly any of one or two samples.
@pytest.mark.parametrize("name", ["uan", "uan-shared"])
@pytest.mark.parametrize("number", [78, 88, 358, 388, 638, 788])
def test_a_component_without_samples_raises_no_alarm(number, name):
    assert alarm(number, find(name)) == ""


# --- and slips are seen -----------------------------------------------------------------------------

SMALL = [dict.fromkeys("mnciohwuvks", 1), dict.fromkeys("mnciohwuvks", 2), {"m": 1, "k": 3}, {"m": 2, "k": 4}]


def unseen(derivation: Derivation, sizes: dict[str, int], seed: int) -> tuple[list[str], int]:
    """Which slips move their gradient by more than a proof allows and turn nothing red; and how many do move it."""
    sizes = {axis: length for axis, length in sizes.items() if axis in derivation.sizes}
    inputs = derivation.example(seed, **sizes)
    right = derivation.trace(inputs, seed=seed)
    found, moving = [], 0
    for mistake in mistakes(derivation):
        wrong = plant(derivation, mistake, inputs, right.upstream, numerical=False)
        before, after = right[mistake.input].gradient, wrong[mistake.input].gradient
        scale = max(np.abs(before).max(), np.abs(after).max(), 1e-3)
        if np.abs(after - before).max() <= 10 * TOLERANCE * scale:
            continue  # at these sizes nothing changes: a sum over one sample is its mean
        moving += 1
        judged = dataclasses.replace(
            wrong[mistake.input], numerical=right[mistake.input].numerical, doubt=right[mistake.input].doubt
        )
        if judged.error is not None and judged.error <= TOLERANCE:
            found.append(mistake.id)
    return found, moving


@pytest.mark.parametrize("sizes", SMALL, ids=range(len(SMALL)))
@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
def test_every_slip_is_seen_at_the_smallest_sizes(derivation, sizes):
    for seed in range(3):
        found, moving = unseen(derivation, sizes, seed)
        assert moving > 0
        assert not found, (seed, found)


def test_doubt_is_rare_and_small_where_it_matters():
    """On the examples nothing is excused."""
    for derivation in PROVEN:
        for node in derivation.trace().nodes.values():
            if node.doubt is not None:
                scale = np.abs(node.gradient).max()
                assert (node.doubt <= TOLERANCE * max(scale, 1e-3)).mean() > 0.9, (derivation.name, node.name)
