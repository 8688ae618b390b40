"""``uanref check --backend cupy``: everything that the device computes, against NumPy in float64.

Each case runs once on the host in float64 and up to four times on the device: in float64 and float32, in array code
(``backend.fused(False)``) and with the fused kernels. All runs start from numbers that float32 holds exactly, so that
only rounding may differ:

- float64: another order of the same sums, at most :data:`FLOAT64` of a tensor's largest entry;
- float32: at most :data:`FLOAT32`, or :data:`SLACK` times what NumPy itself loses in float32 on that case. (Some
  results are small differences of large numbers: dx of a normalization of two samples.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.box import HEAVY_HEAD, MARKDOWN
from rich.table import Table

from uanref import backend, models
from uanref.backend import Array
from uanref.experiments import info
from uanref.experiments.check import Case, cases, difference, outputs, spread, status, summary
from uanref.gradcheck import LossLayer
from uanref.kernels import launch
from uanref.layers.activation import GELU, ReLU
from uanref.layers.base import Layer, Parameter
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, MaxPool2d
from uanref.losses import SoftmaxCrossEntropy
from uanref.neighbours.inverse_probability import weighted_mean
from uanref.neighbours.streaming import StreamingNorm
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.training.optimizers import SGD, Adam, AdamW, Optimizer

FLOAT64, FLOAT32, SLACK = 1e-10, 1e-4, 10.0

CODES = tuple((dtype, fused) for dtype in ("float64", "float32") for fused in (False, True))
"""How the device computes a case, one column each: dtype, and whether with the fused kernels."""


class Computation(NamedTuple):
    """Something to be computed on any backend.

    Attributes:
        name: what it is.
        compute: takes the backend's name, the dtype and the seed; returns results as host arrays by name.
    """

    name: str
    compute: Callable[[str, str, int], dict[str, Array]]


@dataclass(frozen=True)
class DeviceRow:
    """The outcome of one case.

    Attributes:
        name: the case.
        errors: the largest difference from NumPy in float64, in units of the tensor's largest entry, for each of
            :data:`CODES`; None for fused kernels where the case launches none.
        ok: whether it passed.
        details: every tensor's difference; the reason if the case broke off.
    """

    name: str
    errors: tuple[float | None, ...]
    ok: bool
    details: str


# --- the catalogue --------------------------------------------------------------------------------


def computations() -> list[Computation]:
    """Return the catalogue of ``uanref check``, arrays that keep many blocks busy, and what has no gradient."""
    layers = [*cases(), *_large()]
    return [Computation(case.name, partial(_layer, case)) for case in layers] + [
        Computation("StreamingNorm", _streaming),
        Computation("weighted_mean", _weighted_mean),
        Computation("SGD, three steps", partial(_steps, lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True))),
        Computation("Adam, three steps", partial(_steps, lambda p: Adam(p, 0.01))),
        Computation("AdamW, three steps", partial(_steps, lambda p: AdamW(p, 0.01, weight_decay=0.1))),
        Computation("training step, mlp with bn", partial(_training_step, "mlp", "bn")),
        Computation("training step, cnn with uan", partial(_training_step, "cnn", "uan")),
    ]


def _large() -> list[Case]:
    """Layers on arrays of many blocks and of odd sizes: (8, 5, 41, 43) has 14,104 samples a channel."""
    image = (8, 5, 41, 43)

    def uan(**options: Any) -> Layer:
        return UAN(5, 3, dtype="float64", **options)

    made: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
        "Linear": (lambda: Linear(300, 70), (130, 300)),
        "Conv2d 3x3": (lambda: Conv2d(5, 6, 3, padding=1), image),
        "Conv2d stride 2": (lambda: Conv2d(5, 6, 3, stride=2, padding=1), image),
        "MaxPool2d": (lambda: MaxPool2d(2), image),
        "AvgPool2d": (lambda: AvgPool2d(3, stride=2, padding=1), image),
        "ReLU": (ReLU, image),
        "GELU": (GELU, image),
        "BatchNorm": (lambda: BatchNorm(5, dtype="float64"), image),
        "BatchNorm rank 2": (lambda: BatchNorm(3, dtype="float64"), (5000, 3)),
        "GroupNorm": (lambda: GroupNorm(5, 5, dtype="float64"), image),
        "MixtureNorm": (lambda: MixtureNorm(5, 2, dtype="float64"), image),
        "ModeNorm": (lambda: ModeNorm(5, 2, dtype="float64"), (128, 5, 11, 7)),
        "UANPublic": (lambda: UANPublic(5, 3, dtype="float64"), image),
        "UAN channel batch": (lambda: uan(posterior="channel", statistics="batch"), image),
        "UAN channel learned": (lambda: uan(posterior="channel", statistics="learned"), image),
        "UAN joint batch": (lambda: uan(posterior="joint", statistics="batch"), image),
        "SoftmaxCrossEntropy": (lambda: LossLayer(SoftmaxCrossEntropy(0.1), np.arange(600) % 1001), (600, 1001)),
    }
    return [
        Case(f"{name}, large", lambda make=make: spread(make()), shape, False)  # type: ignore[misc]
        for name, (make, shape) in made.items()
    ]


def _layer(case: Case, where: str, dtype: str, seed: int) -> dict[str, Array]:
    layer = case.make().to("float32").to(dtype).to(where)
    return outputs(layer, _drawn(case.shape, where, dtype, seed), seed)


def _streaming(where: str, dtype: str, seed: int) -> dict[str, Array]:
    stream = _drawn((40, 3), where, dtype, seed)
    with backend.using(where):
        norm = StreamingNorm(3, 7, dtype=dtype)
    return {"y": backend.to_host(norm.run(stream))}


def _weighted_mean(where: str, dtype: str, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed + 1)
    observed, probability = rng.random(50) < 0.7, rng.uniform(0.2, 1.0, 50)
    y = 3.0 + _drawn((50,), where, dtype, seed)
    found = weighted_mean(y, backend.to_device(observed, where), backend.to_device(probability, where))
    return {name: np.array([value]) for name, value in vars(found).items()}


def _steps(make: Callable[[dict[str, Parameter]], Optimizer], where: str, dtype: str, seed: int) -> dict[str, Array]:
    parameter = Parameter(_drawn((7, 300), where, dtype, seed))
    optimizer = make({"weight": parameter})
    for step in range(3):
        parameter.grad = _drawn((7, 300), where, dtype, seed + 1 + step)
        optimizer.step()
    return {"weight": backend.to_host(parameter.value)}


def _training_step(network: str, norm: str, where: str, dtype: str, seed: int) -> dict[str, Array]:
    model = models.build(network, norm, image_shape=(1, 8, 8), num_classes=10, seed=seed).to(dtype).to(where)
    loss, optimizer = SoftmaxCrossEntropy(), SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    x, labels = _drawn((16, 1, 8, 8), where, dtype, seed), backend.to_device(np.arange(16) % 10, where)
    value = loss.forward(model.forward(x), labels)
    model.backward(loss.backward())
    optimizer.step()
    return {"loss": backend.to_host(value).reshape(1)} | model.state_dict()


def _drawn(shape: tuple[int, ...], where: str, dtype: str, seed: int) -> Array:
    """Draw on the host numbers that float32 holds, so that every dtype starts from the same ones."""
    host = np.random.default_rng(seed).standard_normal(shape).astype("float32").astype(dtype)
    return backend.to_device(host, where)


# --- running it -----------------------------------------------------------------------------------


def run(
    selected: Sequence[Computation], seed: int = 0, finished: Callable[[str], None] = lambda name: None
) -> list[DeviceRow]:
    """Compare the device with the host. Under ``backend.fused(False)`` the fused kernels are left out.

    Args:
        selected: of :func:`computations`.
        seed: of inputs and upstream gradients.
        finished: called with the name of every case that is done.

    Returns:
        One row per case. A case that raises is a row that failed.

    Raises:
        BackendUnavailable: CuPy cannot run here.
    """
    backend.require("cupy")
    rows = []
    for case in selected:
        rows.append(_outcome(case, seed))
        finished(case.name)
    return rows


def _outcome(case: Computation, seed: int) -> DeviceRow:
    errors: list[float | None] = []
    lines: list[str] = []
    ok = True
    try:
        expected = case.compute("numpy", "float64", seed)
        lost = _worst(_differences(case.compute("numpy", "float32", seed), expected))
    except Exception as error:
        return DeviceRow(case.name, (None,) * len(CODES), False, f"{case.name} on the host: {_named(error)}")
    for dtype, fused in CODES:
        allowed = FLOAT64 if dtype == "float64" else max(FLOAT32, SLACK * lost)
        label = f"{dtype} {'fused' if fused else 'array'}"
        try:
            found = _on_device(case, dtype, fused, seed)
            differences = None if found is None else _differences(found, expected)
        except Exception as error:  # one broken case must not hide the others
            errors.append(float("nan"))
            lines.append(f"{label}: {_named(error)}")
            ok = False
            continue
        errors.append(None if differences is None else _worst(differences))
        if differences is not None and not _worst(differences) <= allowed:  # also where it is NaN
            listing = ", ".join(f"{name} {error:.2e}" for name, error in differences.items())
            lines.append(f"{label}: more than {allowed:.0e} apart: {listing}")
            ok = False
    return DeviceRow(case.name, tuple(errors), ok, "\n  ".join([f"{case.name}:", *lines]))


def _on_device(case: Computation, dtype: str, fused: bool, seed: int) -> dict[str, Array] | None:
    """Return the device's results; None where fused kernels were to be used and the case has none."""
    if fused and not backend.is_fused():
        return None
    before = _kernels_asked_for()
    with backend.fused(fused):
        found = case.compute("cupy", dtype, seed)
    return None if fused and _kernels_asked_for() == before else found


def _kernels_asked_for() -> int:
    asked = launch.kernel.cache_info()
    return asked.hits + asked.misses


def _differences(found: dict[str, Array], expected: dict[str, Array]) -> dict[str, float]:
    if found.keys() != expected.keys():
        raise KeyError(f"results {sorted(found)} instead of {sorted(expected)}")
    return {name: difference(found[name], expected[name]) for name in expected}


def _worst(differences: dict[str, float]) -> float:
    return float(np.max(list(differences.values())))  # NaN if any is


def _named(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}"


# --- showing it -----------------------------------------------------------------------------------


def header() -> str:
    """Return what a bug report starts with: a line for each version and fact of the GPU."""
    return "\n".join(f"- {name}: {fact}" for name, fact in info.report("cupy").items())


def table(rows: list[DeviceRow], plain: bool = False) -> Table:
    """Return the rows as a table of at most 80 columns; ``plain``: as Markdown, for a bug report."""
    made = Table(
        box=MARKDOWN if plain else HEAVY_HEAD, show_edge=plain, pad_edge=plain, padding=(0, 1) if plain else (0, 0)
    )
    made.add_column("case", no_wrap=True)
    for dtype, fused in CODES:
        name = f"{dtype} {'fused' if fused else 'array'}"
        made.add_column(name if plain else name.replace(" ", "\n"), justify="right", no_wrap=True)
    made.add_column("status", no_wrap=True)
    for row in rows:
        numbers = ("-" if error is None else f"{error:.1e}" for error in row.errors)
        made.add_row(row.name, *numbers, status(row.ok))
    return made


def legend(rows: list[DeviceRow]) -> str:
    """Return how many passed, and what the numbers mean."""
    return (
        f"{summary(rows)}. Largest difference from NumPy in float64, in units of each tensor's largest entry; "
        f"float64 may differ by {FLOAT64:g}, float32 by {FLOAT32:g} or {SLACK:g} times what NumPy loses in float32. "
        "Fused: with the kernels of uanref.kernels; - where a case uses none."
    )
