"""The cases that ``uanref bench`` measures on the host, each with the ratio to a peer that is its goal.

Goals are for the faster versions; definitions are there to be read and have none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from uanref.bench.work import Stage, Work


@dataclass(frozen=True)
class Case:
    """One line of the table, before it is measured: it has work, a command for a fresh process, or a training.

    Attributes:
        what: is measured, for a reader.
        work: forward and backward passes.
        command: arguments of Python.
        training: a network and its norm, trained with what ``uanref replay`` needs recorded, and without.
        beside: our own work to compare with, instead of a peer's.
        goals: the ratio that is wanted at most, by peer.
        threads: of both sides; None: as many as may be used.
        peak_limit_mb: extra memory of the fast version at most; None: measured for information.
    """

    what: str
    work: Work | None = None
    command: tuple[str, ...] = ()
    training: tuple[str, str] | None = None
    beside: Work | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    threads: int | None = None
    peak_limit_mb: float | None = None


def _norm(norm: str, features: int) -> list[Stage]:
    if norm == "none":
        return []
    return [Stage("bn", features) if norm == "bn" else Stage("uan", features)]


def _digits(norm: str) -> Work:
    """``models.build("cnn", norm)`` for 8 x 8 images, layer by layer."""
    stages: list[Stage] = []
    for place, (inputs, outputs) in enumerate(((1, 16), (16, 32), (32, 64))):
        stages += [Stage("conv", inputs, outputs, bias=norm == "none"), *_norm(norm, outputs), Stage("relu")]
        stages += [Stage("pool")] if place < 2 else []
    return Work((64, 1, 8, 8), (*stages, Stage("global_pool"), Stage("linear", 64, 10)), "step")


def _mlp(norm: str) -> Work:
    stages: list[Stage] = []
    for inputs in (784, 512):
        stages += [Stage("linear", inputs, 512, bias=norm == "none"), *_norm(norm, 512), Stage("relu")]
    return Work((64, 784), (*stages, Stage("linear", 512, 10)), "step")


def _cnn(norm: str) -> Work:
    stages: list[Stage] = []
    for inputs, outputs, kernel in ((3, 64, 5), (64, 128, 5), (128, 128, 5), (128, 256, 3)):
        stages += [Stage("conv", inputs, outputs, kernel, bias=norm == "none"), *_norm(norm, outputs)]
        stages += [Stage("relu"), Stage("pool")]
    return Work((64, 3, 32, 32), (*stages, Stage("flatten"), Stage("linear", 1024, 10)), "step")


def _steps() -> dict[str, Case]:
    found = {}
    for norm, goal in (("none", 1.0), ("bn", 1.0), ("uan", 0.6)):
        what = f"training step, cnn of the experiments, norm {norm}, (64, 1, 8, 8), one thread"
        found[f"digits-{norm}"] = Case(what, _digits(norm), goals={"torch": goal}, threads=1)
    for norm, goal in (("none", 0.6), ("bn", 0.6), ("uan", 0.4)):
        what = f"training step, mlp 784-512-512-10, norm {norm}, batch 64"
        found[f"mlp-{norm}"] = Case(what, _mlp(norm), goals={"torch": goal})
    for norm, goal in (("bn", 1.2), ("uan", 0.4)):
        what = f"training step, 5x5 convolutions 64, 128, 128, then 3x3 256, norm {norm}, (64, 3, 32, 32)"
        found[f"cnn-{norm}"] = Case(what, _cnn(norm), goals={"torch": goal})
    return found


def _conv(shape: tuple[int, int, int, int], outputs: int, kernel: int, goal: float) -> Case:
    channels = "channel" if shape[1] == 1 else "channels"
    what = f"Conv2d {kernel}x{kernel}, {shape[1]} {channels} to {outputs}, {shape}"
    return Case(what, Work(shape, (Stage("conv", shape[1], outputs, kernel),)), goals={"torch": goal})


def _layer(name: str, stage: Stage, shape: tuple[int, ...], goals: Mapping[str, float]) -> Case:
    return Case(f"{name}, {shape}", Work(shape, (stage,)), goals=goals)


BIG, SMALL, VECTORS = (64, 64, 32, 32), (64, 16, 8, 8), (256, 512)
UAN = "UAN, K = 3, channel, batch"
BESIDE_BATCH_NORM = "our BatchNorm"
IMPORT_NUMPY = ("-c", "import numpy")
UNRECORDED = "the same, unrecorded"

CASES: dict[str, Case] = {
    **_steps(),
    "conv-16-32": _conv((64, 16, 32, 32), 32, 3, 0.9),
    "conv-64-64": _conv((64, 64, 16, 16), 64, 3, 0.9),
    "conv5-3-32": _conv((64, 3, 32, 32), 32, 5, 1.1),
    "conv5-64-128": _conv((64, 64, 16, 16), 128, 5, 1.2),
    "conv-1-16": _conv((128, 1, 28, 28), 16, 3, 0.4),
    "conv-16-16": _conv(SMALL, 16, 3, 1.1),
    "maxpool": _layer("MaxPool2d 2x2", Stage("pool"), (64, 32, 32, 32), {"torch": 0.9}),
    "relu": _layer("ReLU", Stage("relu"), BIG, {"torch": 1.1}),
    "gelu": _layer("GELU", Stage("gelu"), BIG, {"torch": 1.5}),
    "batchnorm-8x8": _layer("BatchNorm", Stage("bn", 16), SMALL, {"torch": 1.2}),
    "batchnorm-512": _layer("BatchNorm", Stage("bn", 512), VECTORS, {"torch": 1.0}),
    "batchnorm": _layer("BatchNorm", Stage("bn", 64), BIG, {"torch": 0.9}),
    "uan-8x8": _layer(UAN, Stage("uan", 16), SMALL, {"torch": 0.6}),
    "uan-512": _layer(UAN, Stage("uan", 512), VECTORS, {"torch": 0.5}),
    "uan": Case(
        f"{UAN}, {BIG}",
        Work(BIG, (Stage("uan", 64),)),
        goals={"torch": 0.12, "torch-compile": 0.5},
        peak_limit_mb=3 * math.prod(BIG) * 4 / 1e6,  # one float32 array of (K, N, C, H, W)
    ),
    "uan-batchnorm": Case("UAN as above", Work(BIG, (Stage("uan", 64),)), beside=Work(BIG, (Stage("bn", 64),))),
    "cross-entropy": Case("softmax cross-entropy, (1024, 1000)", Work((1024, 1000), (), "loss"), goals={"torch": 1.2}),
    "recording": Case(
        "30 epochs on digits, cnn with BatchNorm, recorded for uanref replay, one thread",
        training=("cnn", "bn"),  # as compare trains by default
        goals={UNRECORDED: 1.03},
        threads=1,
    ),
    "recording-mlp": Case(
        "the same of mlp, the shortest of all trainings, of which it is the largest part",
        training=("mlp", "bn"),
        goals={UNRECORDED: 1.03},
        threads=1,
    ),
    "import": Case("import uanref in a fresh process", command=("-c", "import uanref")),
    "help": Case("uanref --help in a fresh process", command=("-m", "uanref", "--help")),
}


def chosen(names: tuple[str, ...] | None) -> dict[str, Case]:
    """Return the cases of these names in the order of :data:`CASES`; all of them for None or ``"all"``.

    Raises:
        ValueError: an unknown name; the message has the known ones.
    """
    for name in names or ():
        if name not in CASES and name != "all":
            raise ValueError(f"unknown case {name!r}: expected all, or some of {', '.join(CASES)}")
    return {name: case for name, case in CASES.items() if names is None or {name, "all"} & set(names)}
