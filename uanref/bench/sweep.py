"""``uanref bench --sweep``: does the cost grow linearly in N, H x W, C and K, or is there a cliff?

Each layer is measured at sizes that double along one axis, the others fixed. The cost per element should fall, as what
a call costs whatever its size spreads over more elements, and then stay. Batch 1, images of 7 x 7, one channel and 1000
channels are among the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uanref.bench import ours, suite, work
from uanref.bench.timing import ROUNDS, calls_for, seconds, warm_up
from uanref.bench.work import Stage, Work
from uanref.layers.base import count

CLIFF = 2.5
"""A cost per element that grows by more from one size to the next is a cliff."""
LEAST_SECONDS = 0.005

LAYERS = ("conv", "bn", "uan", "pool")
BASE = {"N": 16, "H": 14, "W": 14, "C": 16, "K": 3, "O": 16}
AXES: dict[str, tuple[tuple[int, ...], ...]] = {
    "N": tuple((2**i,) for i in range(9)),  # 1 to 256
    "HxW": tuple((7 * 2 ** (i // 2), 7 * 2 ** ((i + 1) // 2)) for i in range(8)),  # 7 x 7 to 56 x 112
    "C": (*((2**i,) for i in range(10)), (1000,)),
    "K": tuple((2**i,) for i in range(5)),
    "O": tuple((2**i,) for i in range(9)),
}
"""The sizes along each axis; O are a convolution's output channels."""


@dataclass(frozen=True)
class Point:
    """One size of one layer.

    Attributes:
        layer: ``"conv"`` (3 x 3), ``"bn"``, ``"uan"`` or ``"pool"`` (2 x 2).
        axis: along which the size doubles.
        size: there, for a reader.
        shape: of the input.
        elements: numbers in the input; times K for a UAN, times the output channels for a convolution.
        ms: milliseconds of a forward and a backward pass, the least over the repeats: what disturbs adds.
        ns: nanoseconds per element.
        cliff: ``ns`` is more than :data:`CLIFF` times that of the size before.
    """

    layer: str
    axis: str
    size: str
    shape: tuple[int, ...]
    elements: int
    ms: float
    ns: float
    cliff: bool


def axes(layer: str) -> list[str]:
    """Return the axes along which a layer is measured."""
    return ["N", "HxW", "C", *{"uan": ["K"], "conv": ["O"]}.get(layer, [])]


def run(repeats: int = 7, threads: int | None = None, layers: Sequence[str] | None = None) -> Iterator[Point]:
    """Measure, and yield each point when it is done.

    Args:
        repeats: samples of each point, >= 1.
        threads: that may be used; as many as there are for None.
        layers: some of :data:`LAYERS`, all for None.

    Raises:
        ValueError: ``repeats`` or ``threads`` below 1.
    """
    from uanref import backend

    count("repeats", repeats)
    if threads is not None:
        count("threads", threads)
    number = threads or backend.threads()
    return (
        point
        for layer in layers or LAYERS
        for axis in axes(layer)
        for point in line(layer, axis, AXES[axis], repeats, number)
    )


def line(layer: str, axis: str, sizes: Sequence[tuple[int, ...]], repeats: int, threads: int) -> Iterator[Point]:
    """Yield the points of one layer along one axis."""
    before = math.inf
    for size in sizes:
        given = BASE | dict(zip(("H", "W") if axis == "HxW" else (axis,), size, strict=True))
        what = _work(layer, given)
        elements = math.prod(what.shape) * {"uan": given["K"], "conv": given["O"]}.get(layer, 1)
        ns = math.inf
        with suite.using_threads(threads):
            for _ in range(ROUNDS):  # again, where it looks like a cliff
                ns = min(ns, 1e9 * _seconds(what, repeats) / elements)
                if ns <= CLIFF * before:
                    break
        ms = ns * elements / 1e6
        yield Point(layer, axis, " x ".join(map(str, size)), what.shape, elements, ms, ns, ns > CLIFF * before)
        before = ns


def points_as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as plain dictionaries, for ``json.dump``."""
    return [asdict(point) | {"shape": list(point.shape)} for point in points]


def _work(layer: str, given: dict[str, int]) -> Work:
    stage = {
        "conv": Stage("conv", given["C"], given["O"], 3),
        "bn": Stage("bn", given["C"]),
        "uan": Stage("uan", given["C"], components=given["K"]),
        "pool": Stage("pool"),
    }[layer]
    return Work((given["N"], given["C"], given["H"], given["W"]), (stage,))


def _seconds(what: Work, repeats: int) -> float:
    made = ours.layers(what)
    task = ours.task(made, what, work.material(what, ours.weights(made, what)))
    warm_up(task)
    calls = calls_for(task, LEAST_SECONDS)
    return min(seconds(task, calls) for _ in range(repeats))
