"""What a step of each norm costs: seconds and memory of a forward and a backward pass, one factor changed at a time.

Around a middle (K, channels, batch) first K changes, for those norms that have components, then the channels, then the
batch. The layer stands alone: no convolution dilutes its cost. Cells run one after another, as two that share a machine
would measure each other.

Parameters and what a layer keeps between the passes depend on nothing but the config. Times and peaks are measured,
with the faster versions where they serve; on a device a call ends when the device has done all its work. A seed draws
the inputs, and is one more measurement.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from uanref import backend, models
from uanref.backend import Array
from uanref.bench import device_timing, timing
from uanref.experiments import cost_report as report
from uanref.experiments import recipe
from uanref.experiments.experiment import Config, Experiment
from uanref.layers.base import Layer, choice

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in models.NORMS if name != "none"),
    ("uan", {"update": "em"}),
)
"""Norm and options."""
WITH_COMPONENTS = ("mn", "mode", "uan", "uan-learned", "uan-joint", "uan-public")

_SCALES: dict[str, dict[str, Any]] = {
    "tiny": {"seeds": 1, "repeats": 1, "pixels": 4, "components": (2, 4), "channels": (8, 16), "batch_size": (8, 16)},
    "small": {
        "seeds": 5,
        "repeats": 5,
        "pixels": 8,
        "components": (3, 1, 2, 8),
        "channels": (64, 16, 256),
        "batch_size": (64, 16, 256),
    },
    "paper": {
        "seeds": 5,
        "repeats": 10,
        "pixels": 16,
        "components": (3, 1, 2, 5, 8),
        "channels": (128, 64, 256, 512),
        "batch_size": (256, 64, 512, 1024),
    },
}
AXES = ("components", "channels", "batch_size")


def plan(scale: str, seeds: int | None) -> list[Config]:
    """Return the configs, see :class:`Experiment`: of each factor the first value is the middle."""
    chosen = _SCALES[choice("scale", scale, tuple(_SCALES))]
    middle = {axis: chosen[axis][0] for axis in AXES} | {name: chosen[name] for name in ("pixels", "repeats")}
    points = [middle] + [middle | {axis: value} for axis in AXES for value in chosen[axis][1:]]
    count = chosen["seeds"] if seeds is None else seeds
    return [
        {"norm": norm, "norm_options": options} | point | {"seed": seed}
        for seed, point, (norm, options) in itertools.product(range(count), points, METHODS)
        if norm in WITH_COMPONENTS or point["components"] == middle["components"]
    ]


def compute(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return parameters and kept bytes of a layer; and measured, the seconds of a step and the bytes at its peak."""
    layer, x, dy = _work(config)
    result = {"parameters": recipe.size(layer), "kept_bytes": kept_bytes(layer, x), "input_bytes": int(x.nbytes)}

    def step() -> tuple[Array, Array]:
        y = layer.forward(x)  # which the layers behind it would keep
        dx = layer.backward(dy)
        backend.synchronize()
        return y, dx

    timed = timing.measure(timing.Contest(step), config["repeats"])
    if backend.current() == "cupy":
        peak = max(device_timing.peaks(layer, x, dy, "definition" if backend.is_plain() else "fast"))
    else:
        peak = timing.peak_bytes(step)
    measured = {"step_seconds": timed.ours, "spread": timed.spread, "peak_bytes": peak, "threads": backend.threads()}
    return result, measured


def _work(config: Config) -> tuple[Layer, Array, Array]:
    """Return a layer in train mode, an input and a gradient, on the default backend."""
    rng = backend.module("numpy").random.default_rng(config["seed"])
    shape = (config["batch_size"], config["channels"], config["pixels"], config["pixels"])
    x, dy = (backend.to_device(rng.standard_normal(shape, dtype="float32")) for _ in range(2))
    components, options = config["components"], config["norm_options"]
    layer = models.make_norm(config["norm"], config["channels"], num_components=components, options=options, rng=rng)
    assert layer is not None  # "none" is not in the plan
    return layer, x, dy


def kept_bytes(layer: Layer, x: Array) -> int:
    """Return how many bytes the definition of ``layer`` keeps from a forward pass on ``x`` to the backward pass.

    Views count as what they look at, and each array once: x itself is among what most layers keep.
    """
    with backend.plain():
        layer.forward(x)
        owners = {id(owner): owner for array in _arrays(layer._pending[-1].cache) for owner in [_owner(array)]}
    layer.clear()
    return sum(int(owner.nbytes) for owner in owners.values())


def _arrays(kept: Any) -> Iterator[Array]:
    if isinstance(kept, tuple | list):
        for each in kept:
            yield from _arrays(each)
    elif hasattr(kept, "nbytes") and hasattr(kept, "dtype"):
        yield kept


def _owner(array: Array) -> Array:
    while (base := getattr(array, "base", None)) is not None and hasattr(base, "nbytes"):
        array = base
    return array


EXPERIMENT = Experiment(
    name="cost",
    question="What does a step of each norm cost in time and memory, against K, channels and batch?",
    plan=plan,
    compute=compute,
    tables=report.tables,
    pictures=report.pictures,
    verdicts=report.verdicts,
    jobs=1,
)
