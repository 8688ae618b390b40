"""The cases of ``uanref bench --backend cupy``, and what a pass of each must move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from uanref.layers.base import Layer

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
