"""``uanref bench --backend cupy``: array code beside the fused kernels, and beside the fastest copy of the same array.

**Time.** Launching a kernel only queues it, so passes are timed on the device: an event before and behind each of
:data:`CALLS` passes that follow each other without waiting, read when the last one is done. Where the device is done
before the host has launched the next kernel, the gap counts as well. A repeat gives the mean of its calls, the table
the median over the repeats. Array code and kernels take turns within a repeat.

**Bytes.** A normalization computes little and moves much: what bounds it is memory. Each pass is charged with what our
kernels move, in units of the size of x (:data:`CASES` says why), and the same for the array code, which moves more. So
"of copy", the share of the measured copy bandwidth, is what a pass makes of the memory, and 100 % in array code
would be as fast as 100 % in a kernel. ``least`` is what a kernel would move that kept the whole batch on the chip
between its two looks at it: x and y, or x, dy and dx.

**Memory.** What a forward and a backward pass hold at most besides their inputs, results included, as the memory pool
hands it out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from uanref import backend
from uanref.backend import Array
from uanref.bench.timing import WARM_UP
from uanref.experiments import info
from uanref.layers.base import Layer, count

CALLS = 10
MEGABYTE = 1e6
CODES = ("array", "fused")

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """A layer to be measured.

    Attributes:
        make: makes it on the default backend, in float32 and train mode.
        shape: of the input.
        what: what is measured, for a reader.
        moved: how many arrays of x's size our kernels move, forward and backward; None where that says little.
        least: the same with the batch kept on the chip.
    """

    make: Callable[[], Layer]
    shape: Shape
    what: str
    moved: tuple[int, int] | None = None
    least: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    """One pass in one code.

    Attributes:
        case: its name.
        what: what was measured.
        direction: ``"forward"`` or ``"backward"``.
        code: ``"array"`` or ``"fused"``.
        ms: milliseconds of a pass.
        speedup: array / fused, the median over the repeats; of fused rows alone.
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
    code: str
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


def _batch_norm(channels: int) -> Layer:
    from uanref.norms.batch import BatchNorm

    return BatchNorm(channels)


def _uan(channels: int, statistics: str) -> Layer:
    from uanref.norms.uan import UAN

    return UAN(channels, 3, posterior="channel", statistics=statistics)


def _conv(channels: int, out_channels: int) -> Layer:
    from uanref.layers.conv import Conv2d

    return Conv2d(channels, out_channels, 3, padding=1)


NORM_SHAPE = (256, 64, 32, 32)

# Statistics of the batch: forward reads x for the moments, then x again to write y; backward reads x and dy for its
# sums, then both again to write dx. Learned statistics need no first look.
CASES = {
    "batchnorm": Case(lambda: _batch_norm(64), NORM_SHAPE, "BatchNorm", (3, 5), (2, 3)),
    "uan": Case(lambda: _uan(64, "batch"), NORM_SHAPE, "UAN, K = 3, channel, batch", (3, 5), (2, 3)),
    "uan-learned": Case(lambda: _uan(64, "learned"), NORM_SHAPE, "UAN, K = 3, channel, learned", (2, 3), (2, 3)),
    "conv-16-32": Case(lambda: _conv(16, 32), (64, 16, 32, 32), "Conv2d 3x3, 16 to 32 channels"),
    "conv-64-64": Case(lambda: _conv(64, 64), (64, 64, 16, 16), "Conv2d 3x3, 64 to 64 channels"),
}


# --- running it -----------------------------------------------------------------------------------


def run(repeats: int = 7, only: str | None = None) -> list[Row]:
    """Measure all cases, or the one named ``only``.

    Args:
        repeats: how often array code and kernels take turns, >= 1.
        only: a key of :data:`CASES`.

    Raises:
        ValueError: unknown case, or ``repeats`` below 1.
        BackendUnavailable: CuPy cannot run here.
        MemoryError: the GPU is too small.
    """
    count("repeats", repeats)
    if only is not None and only not in CASES:
        raise ValueError(f"unknown case {only!r} on cupy: expected one of {', '.join(CASES)}")
    gpu = info.device()["GPU"]
    with backend.using("cupy"):
        measured = [_measured(name, case, repeats, gpu) for name, case in CASES.items() if only in (None, name)]
    return [row for rows in measured for row in rows]


def _measured(name: str, case: Case, repeats: int, gpu: str) -> list[Row]:
    draw = np.random.default_rng(0)
    x = backend.to_device(draw.standard_normal(size=case.shape).astype("float32"))
    layer = case.make()
    with backend.inference():
        y_shape = layer.forward(x).shape
    dy = backend.to_device(draw.standard_normal(size=tuple(y_shape)).astype("float32"))

    copy = _copy_seconds(x, repeats)
    peaks = {code: _peaks(layer, x, dy, code) for code in CODES}  # compiles the kernels too
    for code in CODES:
        _seconds(layer, x, dy, code, WARM_UP)
    times: dict[str, list[tuple[float, float]]] = {code: [] for code in CODES}
    for repeat in range(repeats):
        for code in CODES if repeat % 2 == 0 else reversed(CODES):
            times[code].append(_seconds(layer, x, dy, code, CALLS))

    bandwidth = 2 * x.nbytes / copy
    rows = []
    for i, direction in enumerate(("forward", "backward")):
        moved = None if case.moved is None else case.moved[i] * int(x.nbytes)
        least = None if case.least is None else case.least[i] * int(x.nbytes)
        pairs = zip(times["array"], times["fused"], strict=True)
        speedup = statistics.median(array[i] / fused[i] for array, fused in pairs)
        for code in CODES:
            seconds = statistics.median(time[i] for time in times[code])
            row = Row(
                case=name,
                what=f"{case.what}, {backend.shape_text(case.shape)}",
                direction=direction,
                code=code,
                ms=1e3 * seconds,
                speedup=speedup if code == "fused" else None,
                moved_bytes=moved,
                least_bytes=least,
                gb_per_s=None if moved is None else moved / seconds / 1e9,
                of_copy=None if moved is None else moved / seconds / bandwidth,
                least_of_copy=None if least is None else least / seconds / bandwidth,
                peak_mb=peaks[code][i] / MEGABYTE,
                copy_gb_per_s=bandwidth / 1e9,
                device=gpu,
            )
            rows.append(row)
    return rows


def _seconds(layer: Layer, x: Array, dy: Array, code: str, calls: int) -> tuple[float, float]:
    """Return the mean seconds of a forward and of a backward pass on the device, over ``calls`` calls in a row."""
    cuda = backend.module("cupy").cuda
    marks = [[cuda.Event() for _ in range(3)] for _ in range(calls)]
    with backend.fused(code == "fused"):
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


def _copy_seconds(x: Array, repeats: int) -> float:
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


def _peaks(layer: Layer, x: Array, dy: Array, code: str) -> tuple[int, int]:
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

    with backend.fused(code == "fused"), Held() as held:
        y = layer.forward(x)
        forward = held.most
        held.most = held.now
        dx = layer.backward(dy)
    del y, dx
    return forward, held.most


# --- showing it -----------------------------------------------------------------------------------


def report(rows: list[Row]) -> Group:
    """Lay the rows out for a terminal of 80 columns: the numbers, and below them what they mean."""
    cases = {row.case: row for row in rows}
    legend = Table.grid(padding=(0, 2, 0, 0))
    legend.add_column(no_wrap=True)
    legend.add_column(overflow="fold")
    for name, row in cases.items():
        legend.add_row(name, Text(f"{row.what}, float32; a copy of x reaches {row.copy_gb_per_s:.0f} GB/s"))
    notes = (
        f"On {rows[0].device}. Array: backend.fused(False). Times by events on the device, {CALLS} passes in a row.",
        'GB/s: what our kernels move in a pass, "arrays" times the size of x, by the time, in array code too; '
        "of copy: as a share of the copy. In brackets what a kernel would move that kept the batch on the chip.",
        "Peak: held at most besides x and dy, in 10^6 bytes; in a backward pass with what forward left.",
    )
    return Group(table(rows), "", legend, *(Text(note) for note in notes))


def table(rows: list[Row]) -> Table:
    """Return the numbers."""
    made = Table(title="a pass in train mode, median of repeats", show_edge=False, pad_edge=False, padding=(0, 0))
    for heading in ("case", "pass", "code"):
        made.add_column(heading, no_wrap=True)
    for heading in ("ms", "array/\nfused", "arrays", "GB/s", "of\ncopy", "peak\nMB"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.case,
            row.direction,
            row.code,
            f"{row.ms:.3f}",
            "" if row.speedup is None else f"{row.speedup:.1f}",
            "-" if row.moved_bytes is None else _arrays(row),
            "-" if row.gb_per_s is None else f"{row.gb_per_s:.0f}",
            "-" if row.of_copy is None else f"{100 * row.of_copy:.0f} %",
            f"{row.peak_mb:.1f}",
        )
    return made


def rows_as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain dictionaries, for ``json.dump``."""
    return [asdict(row) for row in rows]


def _arrays(row: Row) -> str:
    case = CASES[row.case]
    i = ("forward", "backward").index(row.direction)
    return f"{case.moved[i]} ({case.least[i]})" if case.moved and case.least else "-"
