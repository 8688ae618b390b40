"""What a slip in a kernel is judged by: the device against the definitions on the host, in double precision.

The catalogue of ``uanref check``, and what its small shapes and its layers leave out: channels of several parts, rows
longer than a block, a component without samples, the optimizers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from kernels.test_parity import changed
from support.parity_cases import CASES, Draw, Sizes

from mutation.parity import GIVEN
from uanref import backend
from uanref.backend import Array
from uanref.gradcheck import LossLayer
from uanref.kernels.cuda import launch
from uanref.layers.base import Layer
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.optimizers import SGD, Adam, AdamW, Optimizer
from uanref.verify import catalogue
from uanref.verify.outputs import difference, outputs

L = TypeVar("L", bound=Layer)
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
        rounds: whether the definitions' rounding shows here, so that the host's versions, which correct it as the
            kernels do, are the judge.
    """

    name: str
    size: int
    compute: Callable[[str], dict[str, Array]]
    chunk: int = launch.CHUNK
    rounds: bool = False

    def run(self, device: str) -> dict[str, Array]:
        """Compute on this backend: on the host the definitions alone, on a device the kernels."""
        plain = device == "numpy" and not self.rounds
        with _parts_of(self.chunk), np.errstate(all="ignore"), backend.plain(plain):
            return self.compute(device)


def cases() -> list[DeviceCase]:
    """Return every case."""
    listed = [_layer(case.name, case.make, _normal(case.shape)) for case in catalogue.cases()]
    return [*_small_functions(), *listed, *_convolutions(), *_batch_norms(), *_uans(), *_losses(), *_optimizers()]


def _normal(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(SEED).standard_normal(shape)


def _layer(
    name: str,
    make: Callable[[], Layer],
    x: Array,
    keep: tuple[str, ...] = (),
    chunk: int = launch.CHUNK,
    rounds: bool = False,
) -> DeviceCase:
    """A layer's outputs, gradients and state, or of these ``keep`` alone."""

    def compute(device: str) -> dict[str, Array]:
        found = outputs(make().to(device), backend.to_device(x, device), SEED)
        return {key: value for key, value in found.items() if not keep or key in keep}

    return DeviceCase(name, x.size, compute, chunk, rounds)


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


SMALL = (
    "norms.mixture_constraints.",
    "norms.mixture_em.",
    "norms.mixture_moments.inverse",
)


def _small_functions() -> list[DeviceCase]:
    """The functions of ``constraints.cu`` by themselves: what a layer gives them hides much of what they do."""
    sizes = {"": Sizes(4, 2, 3, 3), ", joint": Sizes(4, 3, 3, 2, joint=True), ", many": Sizes(4, 300, 1, 3)}
    # The former share a prior, as parity_cases says.
    sizes |= {
        ", a prior each": Sizes(4, 2, 3, 3, affine=False),
        ", many, a prior each": Sizes(4, 90, 3, 3, affine=False),
    }
    small = [
        DeviceCase(path + name, given.components * given.channels, functools.partial(_call, path, CASES[path], given))
        for path in sorted(CASES)
        if path.startswith(SMALL)
        for name, given in sizes.items()
    ]
    # Weights about the smallest normal number.
    moments = [
        DeviceCase(name, 6, functools.partial(_call, "norms.mixture_moments.batch_moments", GIVEN[name], sizes[""]))
        for name in ("a subnormal weight", "hardly alive")
    ]
    near_floor = [
        DeviceCase(
            "a prior near its floor" + name,
            6,
            functools.partial(_call, "norms.mixture_em.em_step", _near_floor, sizes[name]),
        )
        for name in ("", ", a prior each")
    ]
    return [*small, *moments, *near_floor]


def _near_floor(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Let EM's step give the second component, which has samples in the first channel alone, a prior of 1.5e-6."""
    log_prior, mean, variance, total, *others, momentum, shared = CASES["norms.mixture_em.em_step"](rng, s)
    log_prior[1], total[1] = np.log(1.5e-6 / (1.0 - momentum)), 0.0
    others[-1][1] = np.arange(s.channels) == 0  # alive
    return log_prior, mean, variance, total, *others, momentum, shared


def _call(path: str, draw: Draw, sizes: Sizes, device: str) -> dict[str, Array]:
    module, _, name = path.rpartition(".")
    arguments = draw(np.random.default_rng(SEED), sizes)
    given = [changed(argument, lambda a: backend.to_device(a, device)) for argument in arguments]
    found = getattr(importlib.import_module(f"uanref.{module}"), name)(*given)
    results = found if isinstance(found, tuple) else (found,)
    return {str(i): backend.to_host(result) for i, result in enumerate(results)}


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
        _layer("BatchNorm eval, several parts", lambda: batch_norm().eval(), 3.0 + _normal(SEVERAL_PARTS)),
        _layer("BatchNorm, many parts", lambda: batch_norm(1), 3.0 + _normal(MANY_PARTS), chunk=launch.THREADS),
        # The mean of equal numbers is that number, and y is 0 to the bit.
        _layer("BatchNorm, constant", plain, np.full(SEVERAL_PARTS, 0.1), ("y",), rounds=True),
        # Far from 0 a part's mean is rounded, its scatter must not be.
        _layer("BatchNorm, far from 0", batch_norm, 1e12 + _normal((400, 2, 7)), ("running_var",), rounds=True),
    ]


def _uans() -> list[DeviceCase]:
    def uan(channels: int = 2, **options: object) -> Layer:
        return _spread(UAN(channels, **options, dtype="float64"))  # type: ignore[arg-type]

    def learned(channels: int = 2) -> Layer:
        return uan(channels, statistics="learned")

    return [
        _layer("UAN, several parts", uan, _normal(SEVERAL_PARTS)),
        _layer("UAN, no affine, several parts", lambda: uan(affine=False), _normal(SEVERAL_PARTS)),
        _layer("UAN, many parts", lambda: uan(1), _normal(MANY_PARTS), chunk=launch.THREADS),
        _layer("UAN learned, several parts", learned, _normal(SEVERAL_PARTS)),
        _layer("UAN learned, many parts", lambda: learned(1), _normal(MANY_PARTS), chunk=launch.THREADS),
        _layer("UAN, many channels", lambda: uan(90), _normal((3, 90))),  # 270 component-channel pairs
        _layer("UAN, a component without samples", _without_samples, _normal((5, 2))),
        # Priors whose product with the densities underflows, and one of which only the square does.
        _layer("UAN, a component with hardly any prior", lambda: _with_prior(-1400.0), _normal((5, 2))),
        _layer("UAN, a component with little prior", lambda: _with_prior(-600.0), _normal((5, 2))),
        # One so small that the component is dead, next to one that is alive: whose prior is asked?
        _layer("UAN, a dead component's prior", lambda: _with_prior(-1060.0), _normal((5, 2)), ("running_mean",)),
        _layer("UAN, a prior like 1", _with_a_certain_prior, _normal((5, 2))),
        # A sample that only a component with hardly any prior explains.
        # Its weight is 1e230, and its dx a difference of equal terms, of which only the last digits are left.
        _layer(
            "UAN, densities like 0",
            lambda: _with_prior(-1400.0, 1e3),
            np.vstack([_normal((4, 2)), [[1e3, 1e3]]]),
            ("y", *(f"{name}.grad" for name in _UAN_WEIGHTS), "running_mean", "running_var"),
        ),
        # Densities so different that they must be taken relative to the largest.
        _layer("UAN, far apart", uan, 100.0 * _normal((40, 2))),
        # So far from all components that the last digit of a posterior that should be 1, times the distance, shows.
        _layer("UAN learned, far from every component", lambda: learned(8), 1e5 * _normal((5, 8))),
        # The first samples that a component sees hardly weigh and are so far away that later ones are lost in the sum.
        _layer("UAN, far samples first", _three_far_apart, _far_samples_first(), ("y",)),
        # Distances whose squares overflow. Gradients of the parameters are differences of numbers as large.
        _layer("UAN, outliers", uan, np.concatenate([_normal((40, 2)), [[1e160, -1e160]]]), ("y", "dx"), rounds=True),
        # Components that are alike as seen from there, so that each has its share in the posterior.
        _layer(
            "UAN eval, outliers",
            _of_one_variance,
            np.concatenate([_normal((40, 2)), [[-1e160, 1e160]]]),
            ("mean.grad",),
        ),
        # Far from 0 a mean is rounded, the scatter around it must not be.
        _layer("UAN, far from 0", lambda: _far_away(5e9), 5e9 + _normal((400, 2, 7)), ("running_var",)),
        _layer("UAN em, a component without samples", _without_samples_in_em, _normal((5, 2))),
        _layer(
            "UAN em, a component with hardly any prior",
            lambda: _with_prior(-1400.0, 1e3, update="em"),
            np.vstack([_normal((4, 2)), [[1e3, 1e3]]]),
            ("prior_logits",),
        ),
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
        _layer(
            "SoftmaxCrossEntropy, a class ruled out that is right",
            lambda: LossLayer(plain, many[:6] + 1),
            _without_class(6, 3, 2),
            ("y",),
        ),
        _layer("SoftmaxCrossEntropy, a class ruled out", lambda: LossLayer(plain, many[:6]), _without_class(6, 3, 2)),
    ]


def _without_class(rows: int, classes: int, without: int) -> Array:
    """Return logits of which one class has -infinity: 0 log 0 = 0."""
    x = _normal((rows, classes))
    x[:, without] = -np.inf
    return x


def _with_peaks(rows: int, classes: int) -> Array:
    """Return logits that exceed others of their row by so much, each elsewhere, that exp overflows; row 0 has none."""
    x, peaked = _normal((rows, classes)), np.arange(1, rows)
    x[peaked, 9 * (peaked - 1) % classes] += 1e3
    return x


def _spread(layer: L) -> L:
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


_UAN_WEIGHTS = ("prior_logits", "mean", "raw_variance", "gamma", "beta")


def _with_prior(logit: float, mean: float = 0.0, update: str = "backprop") -> Layer:
    layer = UAN(2, update=update, dtype="float64")
    layer.prior_logits.value[0] = logit
    layer.mean.value[0] = mean
    return layer


def _with_a_certain_prior() -> Layer:
    layer = UAN(2, dtype="float64")
    layer.prior_logits.value[2, 1] = 2000.0  # exp of it overflows unless this column's maximum is taken out
    return layer


def _three_far_apart() -> Layer:
    layer = UAN(1, dtype="float64")
    layer.mean.value[:, 0] = (0.0, 2e21, -2e21)
    layer.raw_variance.value[...] = 1e40  # twenty deviations from one to the next
    return layer


def _far_samples_first() -> Array:
    """Return samples about 1, but every other one of the first that threads visit about 2e21."""
    x = 1.0 + _normal((600, 1))
    x[0 : launch.THREADS : 2] = 2e21 + 1e20 * x[0 : launch.THREADS : 2]
    return x


def _of_one_variance() -> UAN:
    layer = _spread(UAN(2, dtype="float64")).eval()
    layer.prior_logits.value[...] = 0.0
    layer.raw_variance.value[...] = 0.5
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
    errors = [difference(*_without_equal_infinities(found[name], expected[name])) for name in expected]
    return float("nan") if any(np.isnan(errors)) else max(errors)


def _without_equal_infinities(found: Array, expected: Array) -> tuple[Array, Array]:
    """Return both with 0 where they are the same infinity, whose difference is no number."""
    same = np.isinf(expected) & (found == expected) if found.shape == expected.shape else False
    return np.where(same, 0.0, found), np.where(same, 0.0, expected)
