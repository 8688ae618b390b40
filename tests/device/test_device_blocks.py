"""No reduction over more than 10^6 elements leaves most of a device idle: it launches at least 128 blocks.

CuPy starts one block per result of a sum over the last axis, and one per 32 results of a sum over another: the
sum of 64 columns over their rows runs on 2 blocks, whatever the number of rows.

In two parts. The strict double notes which reductions the array code of ``kernels/cpu`` asks for, which runs there, on
which shapes and strides, and the emulator tells how many blocks the real CuPy launches for each. The CUDA kernels run
on the emulator themselves. This holds for faster versions: a definition may leave a device idle.
(CuPy may hand a reduction to CUB, where that is installed, which is no worse; the emulator has none.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import strictcp
from support.devices import Device, opened

from uanref import backend
from uanref.gradcheck import LossLayer
from uanref.layers.base import Layer
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.optimizers import clip_grad_norm

LARGE, BLOCKS = 10**6, 128
IMAGES, SAMPLES = (65, 16, 32, 32), (20_000, 64)


class Square(Layer):
    """A parameter of the input's shape, whose large gradient is clipped: stands for any large weight."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__("float32")
        self.weight = self._new(np.ones(shape))

    def forward(self, x: Any) -> Any:
        y = self.weight.value * x
        self._keep(y, x)
        return y

    def backward(self, dy: Any) -> Any:
        (x,) = self._take(dy)
        self.weight.receive(dy * x)
        clip_grad_norm({"weight": self.weight}, 1.0)
        return dy * self.weight.value


def labels(samples: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, samples)


LARGE_CASES: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
    "BatchNorm": (lambda: BatchNorm(16), IMAGES),
    "BatchNorm, rank 2": (lambda: BatchNorm(64), SAMPLES),
    "LayerNorm": (lambda: LayerNorm(16), IMAGES),
    "LayerNorm, few samples": (lambda: LayerNorm(64), (8, 64, 48, 48)),
    "LayerNorm, rank 2": (lambda: LayerNorm(300), (4096, 300)),
    "GroupNorm": (lambda: GroupNorm(8, 64), (20, 64, 32, 32)),
    "InstanceNorm": (lambda: InstanceNorm(64), (20, 64, 32, 32)),
    "InstanceNorm, few large images": (lambda: InstanceNorm(8), (2, 8, 300, 300)),
    "UAN": (lambda: UAN(16), IMAGES),
    "UAN, rank 2": (lambda: UAN(64), SAMPLES),
    "UAN, learned statistics": (lambda: UAN(16, statistics="learned"), IMAGES),
    "UAN, joint": (lambda: UAN(16, posterior="joint"), IMAGES),
    "UANPublic": (lambda: UANPublic(16, 3), IMAGES),
    "UANPublic, generation 2": (lambda: UANPublic(16, 3, generation=2).eval(), IMAGES),
    "MixtureNorm": (lambda: MixtureNorm(16), IMAGES),
    "ModeNorm": (lambda: ModeNorm(16), IMAGES),
    "Conv2d": (lambda: Conv2d(3, 16, 3, padding=1), (65, 3, 32, 32)),
    "Linear": (lambda: Linear(16, 64), (20_000, 16)),
    "MaxPool2d": (lambda: MaxPool2d(2), IMAGES),
    "AvgPool2d": (lambda: AvgPool2d(2), IMAGES),
    "GlobalAvgPool2d": (lambda: GlobalAvgPool2d(), IMAGES),
    "SoftmaxCrossEntropy": (lambda: LossLayer(SoftmaxCrossEntropy(), labels(2048, 600)), (2048, 600)),
    "SoftmaxCrossEntropy, few classes": (lambda: LossLayer(SoftmaxCrossEntropy(), labels(120_000, 10)), (120_000, 10)),
    "MSE": (lambda: LossLayer(MSE(), np.ones((1100, 1000), dtype="float32")), (1100, 1000)),
    "clip_grad_norm": (lambda: Square((1100, 1000)), (1100, 1000)),
}

# --- array code -----------------------------------------------------------------------------------

REDUCTIONS = ("sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "prod", "any", "all")


class Reduction(NamedTuple):
    """One reduction, as it was asked for."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    axis: Any


def note_reductions(monkeypatch: pytest.MonkeyPatch) -> list[Reduction]:
    """Make the strict double note every reduction of a large array."""
    noted: list[Reduction] = []
    checked = strictcp._checked

    def noting(ours: Any, theirs: Any, name: str) -> Any:
        call = checked(ours, theirs, name)
        if name not in REDUCTIONS:
            return call
        owner = getattr(ours, "__self__", None)

        @functools.wraps(call)
        def reduce(*args: Any, **kwargs: Any) -> Any:
            is_method = isinstance(owner, np.ndarray)
            array, rest = (owner, args) if is_method else (args[0]._host, args[1:])
            if array.size > LARGE:
                axis = kwargs.get("axis", rest[0] if rest else None)
                noted.append(Reduction(name, array.shape, array.strides, array.dtype.char, axis))
            return call(*args, **kwargs)

        return reduce

    monkeypatch.setattr(strictcp, "_checked", noting)
    return noted


@functools.cache
def blocks_of(reduction: Reduction) -> int:
    """Let the emulated CuPy do the reduction; return the number of blocks that it launches."""
    cupy = backend.module("cupy")
    extent = sum((n - 1) * stride for n, stride in zip(reduction.shape, reduction.strides, strict=True))
    memory = cupy.cuda.alloc(extent + np.dtype(reduction.dtype).itemsize)
    array = cupy.ndarray(reduction.shape, reduction.dtype, strides=reduction.strides, memptr=memory)
    with Device("emulated").counting() as counts:
        getattr(array, reduction.name)(axis=reduction.axis)
    assert len(counts.launches) == 1, f"{reduction} is no single launch: {counts.launches}"
    return counts.launches[0].blocks


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_CASES)
def test_large_reductions_of_array_code_use_the_device(
    name: str, emulated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape = LARGE_CASES[name]
    noted = note_reductions(monkeypatch)
    with opened("strict"):
        draw = np.random.default_rng(0)
        layer = make().to("cupy")
        y = layer.forward(backend.to_device(draw.standard_normal(shape).astype("float32"), "cupy"))
        layer.backward(backend.to_device(draw.standard_normal(y.shape).astype("float32"), "cupy"))
    few = {reduction: blocks for reduction in noted if (blocks := blocks_of(reduction)) < BLOCKS}
    assert not few


@pytest.mark.slow
def test_the_trap_is_seen(emulated: Device) -> None:
    """What this file looks for is there to be found, and so is a way around it."""
    assert blocks_of(Reduction("sum", (20_000, 64), (256, 4), "f", 0)) == 2
    assert blocks_of(Reduction("sum", (16, 64, 32, 32), (262144, 4096, 128, 4), "f", (0, 2, 3))) == 64
    assert blocks_of(Reduction("sum", (16, 64, 1024), (262144, 4096, 4), "f", 2)) == 1024


# --- kernels --------------------------------------------------------------------------------------

# The package's kernels that work on parameters and on partial sums, which are few.
SMALL = (
    "merge",
    "cross_entropy_mean",
    "constrained",
    "softplus",
    "moved_moments",
    "inverse_std",
    "em_step",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "BatchNorm",
        "BatchNorm, rank 2",
        "UAN",
        "UAN, rank 2",
        "UAN, learned statistics",
        "SoftmaxCrossEntropy",
        "SoftmaxCrossEntropy, few classes",
    ],
)
def test_kernels_over_large_arrays_use_the_device(name: str, emulated: Device) -> None:
    make, shape = LARGE_CASES[name]
    draw = np.random.default_rng(0)
    layer = make().to("cupy")
    x = backend.to_device(draw.standard_normal(shape).astype("float32"), "cupy")
    layer.forward(x)
    with emulated.counting() as counts:
        y = layer.forward(x)
        dy = backend.to_device(draw.standard_normal(y.shape).astype("float32"), "cupy")
        layer.backward(dy)
    assert math.prod(shape) > LARGE
    ours = [launch for launch in counts.launches if not launch.name.startswith("cupy_")]
    assert ours, "no kernel of the package was launched"
    few = {launch.name: launch.blocks for launch in ours if launch.blocks < BLOCKS}
    assert not [kernel for kernel in few if not any(small in kernel for small in SMALL)], few
