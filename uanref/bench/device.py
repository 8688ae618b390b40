"""``uanref bench --backend cupy``: definitions beside their faster versions, and beside the fastest copy of the array.

**Time.** Launching a kernel only queues it, so passes are timed on the device: an event before and behind each of
``CALLS`` passes that follow each other without waiting, read when the last one is done. Where the device is done
before the host has launched the next kernel, the gap counts as well. A repeat gives the mean of its calls, the table
the median over the repeats. The versions take turns within a repeat. (:mod:`uanref.bench.device_timing`)

**Bytes.** A normalization computes little and moves much: what bounds it is memory. Each pass is charged with what our
kernels move, in units of the size of x (:mod:`uanref.bench.device_cases` says why), and the same for the definition,
which moves more. So "of copy", the share of the measured copy bandwidth, is what a pass makes of the memory, and 100 %
of the definition would be as fast as 100 % in a kernel. ``least`` is what a kernel would move that kept the whole batch
on the chip between its two looks at it: x and y, or x, dy and dx.

**Memory.** What a forward and a backward pass hold at most besides their inputs, results included, as the memory pool
hands it out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uanref import backend, machine
from uanref.bench import device_cases, device_timing
from uanref.bench.device_cases import Case
from uanref.bench.timing import WARM_UP
from uanref.layers.base import count
from uanref.verify.versions import wanted

MEGABYTE = 1e6


@dataclass(frozen=True)
class Row:
    """One pass in one version.

    Attributes:
        case: its name.
        what: what was measured.
        direction: ``"forward"`` or ``"backward"``.
        version: ``"definition"`` or ``"fast"``, see :mod:`uanref.verify.versions`.
        ms: milliseconds of a pass.
        speedup: definition / fast, the median over the repeats; of fast rows alone, where both were measured.
        moved_bytes: what the kernels move in a pass; None where that says little.
        least_bytes: what they would move with the batch kept on the chip.
        gb_per_s: ``moved_bytes`` by the time.
        of_copy: that as a fraction of the copy's.
        least_of_copy: ``least_bytes`` by the time, as a fraction of the copy's.
        peak_mb: 10^6 bytes held at most, inputs left out.
        copy_gb_per_s: bandwidth of a copy of the case's input, read and written bytes.
        device: the GPU.
    """

    case: str
    what: str
    direction: str
    version: str
    ms: float
    speedup: float | None
    moved_bytes: int | None
    least_bytes: int | None
    gb_per_s: float | None
    of_copy: float | None
    least_of_copy: float | None
    peak_mb: float
    copy_gb_per_s: float
    device: str


def run(repeats: int = 7, only: str | None = None, versions: Sequence[str] | None = None) -> list[Row]:
    """Measure all cases, or the one named ``only``.

    Args:
        repeats: how often the versions take turns, >= 1.
        only: a key of :data:`uanref.bench.device_cases.CASES`.
        versions: ``"definition"``, ``"fast"`` or both, see :mod:`uanref.verify.versions`.

    Raises:
        ValueError: unknown case or version, or ``repeats`` below 1.
        BackendUnavailable: CuPy cannot run here.
        MemoryError: the GPU is too small.
    """
    count("repeats", repeats)
    if only is not None and only not in device_cases.CASES:
        raise ValueError(f"unknown case {only!r} on cupy: expected one of {', '.join(device_cases.CASES)}")
    found = wanted(versions)
    gpu = machine.device()["GPU"]
    with backend.using("cupy"):
        measured = [
            _measured(name, case, repeats, found, gpu)
            for name, case in device_cases.CASES.items()
            if only in (None, name)
        ]
    return [row for rows in measured for row in rows]


def _measured(name: str, case: Case, repeats: int, versions: Sequence[str], gpu: str) -> list[Row]:
    draw = np.random.default_rng(0)
    x = backend.to_device(draw.standard_normal(size=case.shape).astype("float32"))
    layer = case.make()
    with backend.inference():
        y_shape = layer.forward(x).shape
    dy = backend.to_device(draw.standard_normal(size=tuple(y_shape)).astype("float32"))

    copy = device_timing.copy_seconds(x, repeats)
    peaks = {version: device_timing.peaks(layer, x, dy, version) for version in versions}  # compiles the kernels too
    for version in versions:
        device_timing.seconds(layer, x, dy, version, WARM_UP)
    times: dict[str, list[tuple[float, float]]] = {version: [] for version in versions}
    for repeat in range(repeats):
        for version in versions if repeat % 2 == 0 else reversed(versions):
            times[version].append(device_timing.seconds(layer, x, dy, version, device_timing.CALLS))

    bandwidth = 2 * x.nbytes / copy
    rows = []
    for i, direction in enumerate(("forward", "backward")):
        moved = None if case.moved is None else case.moved[i] * int(x.nbytes)
        least = None if case.least is None else case.least[i] * int(x.nbytes)
        speedup = None
        if len(versions) == 2:
            pairs = zip(times["definition"], times["fast"], strict=True)
            speedup = statistics.median(definition[i] / fast[i] for definition, fast in pairs)
        for version in versions:
            seconds = statistics.median(time[i] for time in times[version])
            row = Row(
                case=name,
                what=f"{case.what}, {backend.shape_text(case.shape)}",
                direction=direction,
                version=version,
                ms=1e3 * seconds,
                speedup=speedup if version == "fast" else None,
                moved_bytes=moved,
                least_bytes=least,
                gb_per_s=None if moved is None else moved / seconds / 1e9,
                of_copy=None if moved is None else moved / seconds / bandwidth,
                least_of_copy=None if least is None else least / seconds / bandwidth,
                peak_mb=peaks[version][i] / MEGABYTE,
                copy_gb_per_s=bandwidth / 1e9,
                device=gpu,
            )
            rows.append(row)
    return rows
