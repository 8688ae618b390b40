"""What a slip in a kernel is judged by: the device against the host, in double precision.

The catalogue of ``uanref check``, and what its small shapes and its layers leave out: channels of several parts, rows
longer than a block, a component without samples, the optimizers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.experiments import check
from uanref.gradcheck import LossLayer
from uanref.kernels import launch
from uanref.layers.base import Layer
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.optimizers import SGD, Adam, AdamW, Optimizer

SEED = 0
# A device adds in another order than the host; nothing else may differ.
TOLERANCE = 1e-11
# Samples of a channel: more than one part of 4096; images of 7 elements, so that a step of THREADS goes from image to
# image and from element to element.
SEVERAL_PARTS = (700, 2, 7)
# More parts than a block has threads, if a part has no more samples than that.
MANY_PARTS = (9600, 1, 7)


class DeviceCase(NamedTuple):
    """Something that both backends compute.

    Attributes:
        name: what it is.
        size: of its input, for its cost.
        compute: what comes out on the backend of this name, as host arrays.
        chunk: samples of a part, if not the package's: small parts are many.
    """

    name: str
    size: int
    compute: Callable[[str], dict[str, Array]]
    chunk: int = launch.CHUNK

    def run(self, device: str) -> dict[str, Array]:
        """Compute on this backend."""
        with _parts_of(self.chunk), np.errstate(all="ignore"):
            return self.compute(device)


def cases() -> list[DeviceCase]:
    """Return every case."""
    catalogue = [_layer(case.name, case.make, _normal(case.shape)) for case in check.cases()]
    return [*catalogue, *_convolutions(), *_batch_norms(), *_uans(), *_losses(), *_optimizers()]


def _normal(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(SEED).standard_normal(shape)


def _layer(
    name: str, make: Callable[[], Layer], x: Array, keep: tuple[str, ...] = (), chunk: int = launch.CHUNK
) -> DeviceCase:
    """A layer's outputs, gradients and state, or of these ``keep`` alone."""

    def compute(device: str) -> dict[str, Array]:
        found = check.outputs(make().to(device), backend.to_device(x, device), SEED)
        return {key: value for key, value in found.items() if not keep or key in keep}

    return DeviceCase(name, x.size, compute, chunk)


@contextlib.contextmanager
def _parts_of(chunk: int) -> Iterator[None]:
    """Let a part have ``chunk`` samples inside this block."""
    if chunk == launch.CHUNK:
        yield
        return
    usual = launch.CHUNK
    forget_kernels()
    launch.CHUNK = chunk
    try:
        yield
    finally:
        launch.CHUNK = usual
        forget_kernels()


def forget_kernels() -> None:
    """Let every kernel be compiled anew when it is next asked for."""
    launch.kernel.cache_clear()
    launch._module.cache_clear()


def _convolutions() -> list[DeviceCase]:
    """More positions, and more pixels, than a block has threads."""

    def strided() -> Layer:
        return Conv2d(3, 8, 3, stride=2, padding=1, dtype="float64")

    return [
        _layer("Conv2d, many positions", lambda: Conv2d(3, 2, 3, padding=1, dtype="float64"), _normal((2, 3, 12, 13))),
        _layer("Conv2d stride 2, many pixels", strided, _normal((2, 3, 12, 13))),
    ]


def _batch_norms() -> list[DeviceCase]:
    def batch_norm(channels: int = 2) -> Layer:
        return _spread(BatchNorm(channels, dtype="float64"))

    def plain() -> Layer:
        return BatchNorm(2, affine=False, dtype="float64")

    return [
        _layer("BatchNorm, several parts", batch_norm, 3.0 + _normal(SEVERAL_PARTS)),
        _layer("BatchNorm, many parts", lambda: batch_norm(1), 3.0 + _normal(MANY_PARTS), chunk=launch.THREADS),
        # The mean of equal numbers is that number, and y is 0 to the bit.
        _layer("BatchNorm, constant", plain, np.full(SEVERAL_PARTS, 0.1), ("y",)),
        # Far from 0 a part's mean is rounded, its scatter must not be.
        _layer("BatchNorm, far from 0", batch_norm, 1e12 + _normal((400, 2, 7)), ("running_var",)),
    ]


def _uans() -> list[DeviceCase]:
    def uan(channels: int = 2, **options: object) -> Layer:
        return _spread(UAN(channels, **options, dtype="float64"))  # type: ignore[arg-type]

    def learned(channels: int = 2) -> Layer:
        return uan(channels, statistics="learned")

    return [
        _layer("UAN, several parts", uan, _normal(SEVERAL_PARTS)),
        _layer("UAN, many parts", lambda: uan(1), _normal(MANY_PARTS), chunk=launch.THREADS),
        _layer("UAN learned, several parts", learned, _normal(SEVERAL_PARTS)),
        _layer("UAN learned, many parts", lambda: learned(1), _normal(MANY_PARTS), chunk=launch.THREADS),
        _layer("UAN, many channels", lambda: uan(90), _normal((3, 90))),  # 270 component-channel pairs
        _layer("UAN, a component without samples", _without_samples, _normal((5, 2))),
        # Priors whose product with the densities underflows, and one of which only the square does.
        _layer("UAN, a component with hardly any prior", lambda: _with_prior(-1400.0), _normal((5, 2))),
        _layer("UAN, a component with little prior", lambda: _with_prior(-600.0), _normal((5, 2))),
        _layer("UAN, a prior like 1", _with_a_certain_prior, _normal((5, 2))),
        # A sample that only a component with hardly any prior explains.
        _layer("UAN, densities like 0", lambda: _with_prior(-1400.0, 1e3), np.vstack([_normal((4, 2)), [[1e3, 1e3]]])),
        # Densities so different that they must be taken relative to the largest.
        _layer("UAN, far apart", uan, 100.0 * _normal((40, 2))),
        # Distances whose squares overflow. Gradients of the parameters are differences of numbers as large.
        _layer("UAN, outliers", uan, np.concatenate([_normal((40, 2)), [[1e160, -1e160]]]), ("y", "dx")),
        # Far from 0 a mean is rounded, the scatter around it must not be.
        _layer("UAN, far from 0", lambda: _far_away(5e9), 5e9 + _normal((400, 2, 7)), ("running_var",)),
        _layer("UAN em, a component without samples", _without_samples_in_em, _normal((5, 2))),
        # Variances of 0, which no softplus has.
        _layer(
            "UAN em, constant", lambda: UAN(2, update="em", dtype="float64"), np.full((5, 2), 0.1), ("raw_variance",)
        ),
        _layer(
            "UAN data, constant", lambda: UAN(2, start="data", dtype="float64"), np.full((5, 2), 0.1), ("raw_variance",)
        ),
    ]


def _losses() -> list[DeviceCase]:
    draw = np.random.default_rng(SEED)
    labels, soft = draw.integers(0, 600, size=64), draw.uniform(0.0, 1.0, (64, 600))  # rows that do not sum to 1
    many = draw.integers(0, 2, size=5000)
    smoothed, plain = SoftmaxCrossEntropy(0.1), SoftmaxCrossEntropy()
    return [
        _layer("SoftmaxCrossEntropy, long rows", lambda: LossLayer(smoothed, labels), _normal((64, 600))),
        _layer("SoftmaxCrossEntropy soft, peaks", lambda: LossLayer(plain, soft), _with_peaks(64, 600)),
        _layer("SoftmaxCrossEntropy soft, 40, peaks", lambda: LossLayer(plain, soft[:40, :40]), _with_peaks(40, 40)),
        _layer("SoftmaxCrossEntropy, many rows", lambda: LossLayer(plain, many), _normal((5000, 2))),
    ]


def _with_peaks(rows: int, classes: int) -> Array:
    """Return logits that exceed the others of the row by so much, each elsewhere, that exp would overflow."""
    x = _normal((rows, classes))
    x[np.arange(rows), 9 * np.arange(rows) % classes] += 1e3
    return x


def _spread(layer: Layer) -> Layer:
    """Move every parameter and running average off its start: a scale of 1 or a mean of 0 would hide much."""
    draw = np.random.default_rng(SEED)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    layer.load_state_dict(
        {
            name: array + draw.uniform(0.1, 0.4, array.shape) if name.startswith("running") else array
            for name, array in layer.state_dict().items()
        }
    )
    return layer


def _without_samples() -> Layer:
    layer = UAN(2, dtype="float64")
    layer.mean.value[0] = 1e3
    return layer


def _without_samples_in_em() -> Layer:
    layer = UAN(2, update="em", momentum=1.0, dtype="float64")  # the prior becomes what the batch says: 0
    layer.mean.value[0] = 1e3
    return layer


def _with_prior(logit: float, mean: float = 0.0) -> Layer:
    layer = UAN(2, dtype="float64")
    layer.prior_logits.value[0] = logit
    layer.mean.value[0] = mean
    return layer


def _with_a_certain_prior() -> Layer:
    layer = UAN(2, dtype="float64")
    layer.prior_logits.value[2, 1] = 2000.0  # exp of it overflows unless this column's maximum is taken out
    return layer


def _far_away(offset: float) -> Layer:
    layer = UAN(2, dtype="float64")
    layer.mean.value = layer.mean.value + offset
    return layer


def _optimizers() -> list[DeviceCase]:
    makers: dict[str, Callable[..., Optimizer]] = {
        "SGD": SGD,
        "SGD momentum": functools.partial(SGD, momentum=0.9),
        "SGD Nesterov, decay": functools.partial(SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
        "Adam": Adam,
        "Adam, decay": functools.partial(Adam, betas=(0.8, 0.9), eps=0.1, weight_decay=0.1),
        "AdamW": functools.partial(AdamW, weight_decay=0.1),
    }
    return [DeviceCase(name, 300, functools.partial(_three_steps, make)) for name, make in makers.items()]


def _three_steps(make: Callable[..., Optimizer], device: str) -> dict[str, Array]:
    """Move a weight of more elements than a block has threads."""
    draw = np.random.default_rng(SEED)
    layer = Linear(20, 15, dtype="float64").to(device)
    optimizer = make(layer.parameters(), lr=0.1)
    for _ in range(3):
        for parameter in layer.parameters().values():
            parameter.grad = backend.to_device(draw.standard_normal(parameter.shape), device)
        optimizer.step()
    values = {name: backend.to_host(parameter.value) for name, parameter in layer.parameters().items()}
    return values | {name: np.asarray(value) for name, value in optimizer.state_dict().items()}


def worst(found: dict[str, Array], expected: dict[str, Array]) -> float:
    """Return the largest difference, each tensor's in units of its largest entry; infinite for a missing tensor."""
    if found.keys() != expected.keys():
        return float("inf")
    errors = [check.difference(found[name], expected[name]) for name in expected]
    return float("nan") if any(np.isnan(errors)) else max(errors)
