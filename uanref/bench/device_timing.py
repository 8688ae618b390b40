"""Time and memory of a pass on a GPU, and the time of a copy: :mod:`uanref.bench.device` tells how and why."""

from __future__ import annotations

import statistics
from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer
from uanref.verify.versions import running

CALLS = 10


def seconds(layer: Layer, x: Array, dy: Array, version: str, calls: int) -> tuple[float, float]:
    """Return the mean seconds of a forward and of a backward pass on the device, over ``calls`` calls in a row."""
    cuda = backend.module("cupy").cuda
    marks = [[cuda.Event() for _ in range(3)] for _ in range(calls)]
    with running(version):
        for before, between, after in marks:
            before.record()
            layer.forward(x)
            between.record()
            layer.backward(dy)
            after.record()
    marks[-1][-1].synchronize()

    def mean(first: int) -> float:
        return statistics.mean(float(cuda.get_elapsed_time(mark[first], mark[first + 1])) for mark in marks) / 1e3

    return mean(0), mean(1)


def copy_seconds(x: Array, repeats: int) -> float:
    """Return the seconds that the device takes to copy ``x``: the median over the repeats of the mean of CALLS."""
    cupy = backend.module("cupy")
    target: Any = cupy.empty_like(x)
    times = []
    for repeat in range(repeats + 1):
        before, after = cupy.cuda.Event(), cupy.cuda.Event()
        before.record()
        for _ in range(CALLS):
            target.data.copy_from_device_async(x.data, x.nbytes)
        after.record()
        after.synchronize()
        if repeat > 0:  # the first one warms up
            times.append(float(cupy.cuda.get_elapsed_time(before, after)) / 1e3 / CALLS)
    return statistics.median(times)


def peaks(layer: Layer, x: Array, dy: Array, version: str) -> tuple[int, int]:
    """Return the bytes held at most in a forward pass, and in a backward pass together with what forward left."""
    hook: Any = backend.module("cupy").cuda.MemoryHook

    class Held(hook):  # type: ignore[misc]
        name = "uanref peak memory"
        now = most = 0

        def malloc_postprocess(self, **given: int) -> None:
            self.now += given["mem_size"]
            self.most = max(self.most, self.now)

        def free_postprocess(self, **given: int) -> None:
            self.now -= given["mem_size"]

    with running(version), Held() as held:
        y = layer.forward(x)
        forward = held.most
        held.most = held.now
        dx = layer.backward(dy)
    del y, dx
    return forward, held.most
