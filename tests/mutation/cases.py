"""What is checked: the catalogue of ``uanref check``, and cases that only a slip needs."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from uanref import backend, gradcheck
from uanref.backend import Array
from uanref.gradcheck import LossLayer
from uanref.kernels.cpu import blocks, gelu, planes, pooling, rectifier, sums
from uanref.layers.base import Layer
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, MaxPool2d
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_weights import Mixture, posterior, posterior_backward
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.verify import catalogue

SEED = 0
DIRECTIONS = 2
SECONDS = 20.0
WAYS = ("plain", "cut", "whole")
"""Definitions alone; versions with the batch cut into samples, as one that exceeds the cache would be; versions."""


class Case(NamedTuple):
    """A layer at one point.

    Attributes:
        name: what it is.
        make: returns the layer, the same at every call.
        x: the input, float64.
        way: one of :data:`WAYS`.
    """

    name: str
    make: Callable[[], Layer]
    x: Array
    way: str


class TooLong(Exception):
    """A check took longer than :data:`SECONDS`."""


def cases() -> list[Case]:
    """Return every case, each in every way."""
    whole = [
        Case(case.name, case.make, np.random.default_rng(SEED).standard_normal(case.shape), "")
        for case in catalogue.cases()
    ]
    return [case._replace(way=way) for case in (*whole, *_more()) for way in WAYS]


def _more() -> list[Case]:
    def case(name: str, make: Callable[[], Layer], *shape: int) -> Case:
        return Case(name, make, np.random.default_rng(SEED).standard_normal(shape), "")

    # The catalogue has no layers of two inputs.
    neighbours = [
        case("AdaptiveLocalContrastNorm", lambda: ContrastOfImage((0.5, 1.5), 3), 3, 2, 5, 4),
        case("ClassAdaptiveNorm", lambda: ClassesOfPixels(2, 3), 3, 2, 4),
    ]
    unnormalized = np.random.default_rng(SEED).uniform(0.0, 1.0, (5, 4))  # soft targets whose rows do not sum to 1
    return [
        case("Linear, called twice", lambda: Twice(Linear(4, 3, dtype="float64")), 5, 4),
        case("MaxPool2d 2 x 4 with ties", lambda: Twins(MaxPool2d((2, 4))), 2, 3, 4, 4),
        # Windows that overlap down or across, leave pixels out, end before the image, or tile it in another shape.
        case("MaxPool2d 3 x 2, stride 2 x 3", lambda: MaxPool2d((3, 2), (2, 3)), 2, 3, 7, 8),
        case("MaxPool2d 2 x 3, stride 3 x 2", lambda: MaxPool2d((2, 3), (3, 2)), 2, 3, 8, 7),
        case("MaxPool2d 3, stride 2", lambda: MaxPool2d(3, 2), 2, 2, 7, 7),
        case("MaxPool2d 1 x 2, stride 2 x 2", lambda: MaxPool2d((1, 2), (2, 2)), 2, 2, 4, 6),
        case("MaxPool2d 3 x 3, padding 1, stride 2 x 1", lambda: MaxPool2d(3, (2, 1), padding=1), 2, 2, 6, 9),
        case("MaxPool2d 4, stride 1", lambda: MaxPool2d(4, 1), 2, 2, 5, 5),
        case("MaxPool2d 4, stride 1, with ties", lambda: Twins(MaxPool2d((4, 9), 1)), 2, 2, 5, 5),
        case("AvgPool2d 3 x 2", lambda: AvgPool2d((3, 2)), 2, 3, 6, 4),
        case("AvgPool2d 2 x 3", lambda: AvgPool2d((2, 3)), 2, 3, 4, 6),
        case("AvgPool2d 3 x 2, stride 2", lambda: AvgPool2d((3, 2), 2), 2, 3, 7, 6),
        Case("MaxPool2d, maxima of 0 at the edge", lambda: MaxPool2d(2, padding=1), _negative_but_for_a_corner(), ""),
        # 64 positions and more are multiplied sample by sample.
        case("Conv2d 3x3, 72 positions", lambda: Conv2d(2, 3, 3, padding=1, dtype="float64"), 3, 2, 9, 8),
        case("Conv2d stride 1 and 2, 72 positions", lambda: Conv2d(2, 3, 2, (1, 2), dtype="float64"), 3, 2, 10, 16),
        case(
            "Conv2d dilation 2, few outputs",
            lambda: Conv2d(3, 2, 3, padding=2, dilation=2, dtype="float64"),
            2,
            3,
            5,
            6,
        ),
        # Patches serve where fewer rows count than do not.
        case("Conv2d 4x2, 80 pixels", lambda: Conv2d(3, 4, (4, 2), dtype="float64"), 3, 3, 5, 16),
        case("Conv2d 4x2, 30 pixels", lambda: Conv2d(3, 4, (4, 2), dtype="float64"), 3, 3, 5, 6),
        # More blocks than partial sums.
        case("Conv2d, large weights", lambda: Conv2d(3, 8, 3, padding=1, dtype="float64"), 5, 3, 4, 4),
        case("LayerNorm, one sample", lambda: LayerNorm(3, dtype="float64"), 1, 3, 4),
        # An eps that shows in float32, too.
        case("BatchNorm, large eps", lambda: BatchNorm(3, eps=0.5, dtype="float64"), 4, 3, 2),
        case("BatchNorm eval, large eps", lambda: BatchNorm(3, eps=0.5, dtype="float64").eval(), 4, 3, 2),
        case("GroupNorm, large eps", lambda: GroupNorm(2, 4, eps=0.5, dtype="float64"), 3, 4, 2),
        Case("BatchNorm, far from 0", lambda: BatchNorm(3, dtype="float64"), _far_from_0(4, 3, 2), ""),
        case("BatchNorm, one sample", lambda: BatchNorm(3, dtype="float64"), 1, 3, 4),
        case("GroupNorm, one sample", lambda: GroupNorm(2, 4, dtype="float64"), 1, 4, 3),
        case("ModeNorm, one sample", lambda: ModeNorm(3, 2, dtype="float64"), 1, 3, 4),
        case("UAN, one sample", lambda: UAN(3, dtype="float64"), 1, 3, 4),
        case("UAN, a component without samples", lambda: _without_samples("channel"), 5, 2),
        case("UAN joint, a component without samples", lambda: _without_samples("joint"), 5, 2),
        case("SoftmaxCrossEntropy, unnormalized", lambda: LossLayer(SoftmaxCrossEntropy(), unnormalized), 5, 4),
        case("MixtureNorm no affine", lambda: _frozen(MixtureNorm(2, 2, affine=False, dtype="float64")), 4, 2, 3),
        case("ModeNorm no affine", lambda: ModeNorm(2, 2, affine=False, dtype="float64"), 4, 2, 3),
        case("posterior", lambda: Posterior(3, 2, 2), 4, 2, 3),
        case("posterior, joint", lambda: Posterior(3, 2, 1), 4, 2, 3),
        *(neighbours if importlib.util.find_spec("uanref.neighbours") else []),
    ]


def _far_from_0(*shape: int) -> Array:
    """Return numbers of deviation 1 about 9."""
    return 9.0 + np.random.default_rng(SEED).standard_normal(shape)


def _negative_but_for_a_corner() -> Array:
    """Return images whose first pixel is 0: the maximum of its window, and equal to the zeros of other paddings."""
    x = -0.1 - np.abs(np.random.default_rng(SEED).standard_normal((2, 2, 4, 4)))
    x[:, :, 0, 0] = 0.0
    return x


def _frozen(layer: MixtureNorm) -> Layer:
    layer.frozen_fit = True  # the fit is outside the gradient
    return layer


def _without_samples(posterior: str) -> Layer:
    layer = UAN(2, posterior=posterior, dtype="float64")
    layer.mean.value[0] = 1e3
    return layer


class Twice(Layer):
    """A layer that stands in two places, ``y = f(x) + f(x / 2)``: its gradients add up, the latest pass comes first."""

    def __init__(self, body: Layer) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Array) -> Array:
        return self.body.forward(x) + self.body.forward(0.5 * x)

    def backward(self, dy: Array) -> Array:
        second = self.body.backward(dy)
        with backend.accumulating():
            return self.body.backward(dy) + 0.5 * second


class Twins(Layer):
    """A pooling that sees every pixel twice, side by side: all its maxima are ties, and yet y is smooth in x."""

    def __init__(self, body: Layer) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Array) -> Array:
        return self.body.forward(x.repeat(2, axis=3))

    def backward(self, dy: Array) -> Array:
        dx = self.body.backward(dy)
        return dx.reshape(*dx.shape[:3], -1, 2).sum(axis=4)


class ContrastOfImage(Layer):
    """Adaptive local contrast normalization, whose second input, the filters' weights, is a parameter here."""

    def __init__(self, sigmas: tuple[float, ...], images: int) -> None:
        super().__init__("float64")
        from uanref.neighbours.alcn import AdaptiveLocalContrastNorm

        self.body = AdaptiveLocalContrastNorm(sigmas)
        self.weights = self._new(np.random.default_rng(SEED).standard_normal((images, len(sigmas))))

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.weights.value)

    def backward(self, dy: Array) -> Array:
        dx, dweights = self.body.backward(dy)
        self.weights.receive(dweights)
        return dx


class ClassesOfPixels(Layer):
    """Class-adaptive normalization of ``(3, C, 4)`` with a fixed class map and parameters off their start."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        draw = np.random.default_rng(SEED)
        from uanref.neighbours.clade import ClassAdaptiveNorm

        self.body = ClassAdaptiveNorm(channels, classes, dtype="float64")
        self.body.gamma.value = draw.standard_normal((classes, channels))
        self.class_map = draw.integers(0, classes, size=(3, 4))

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.class_map)

    def backward(self, dy: Array) -> Array:
        return self.body.backward(dy)


class Posterior(Layer):
    """The mixture's posterior as a layer: x ``(N, C, S)`` to tau ``(K, N, P, S)``."""

    def __init__(self, components: int, channels: int, priors: int) -> None:
        super().__init__("float64")
        draw = np.random.default_rng(SEED)
        self.log_prior = self._new(draw.standard_normal((components, priors)))
        self.mean = self._new(draw.standard_normal((components, channels)))
        self.variance = self._new(draw.uniform(0.5, 2.0, (components, channels)))

    def forward(self, x: Array) -> Array:
        mixture = Mixture(self.log_prior.value, self.mean.value, self.variance.value)
        tau = posterior(x, mixture)
        self._keep(tau, x, mixture)
        return tau

    def backward(self, dy: Array) -> Array:
        dx, *gradients = posterior_backward(dy, *self._take(dy))
        for parameter, gradient in zip((self.log_prior, self.mean, self.variance), gradients, strict=True):
            parameter.receive(gradient)
        return dx


# --- checking one ---------------------------------------------------------------------------------


def passes(case: Case) -> bool:
    """Run the gradient check of one case and tell whether it passes."""
    with surroundings(case):
        report = gradcheck.check(case.make(), case.x, seed=SEED, directions=DIRECTIONS, jacobian=False, at="given")
    return report.ok


def claims(case: Case, at: str = "float64") -> dict[str, Array]:
    """Return what the check of this case holds against numerical derivatives: the gradients for its dy, and y.

    ``at``: ``"float64"`` computes as the check does; ``"float32"`` in float32; ``"float32 point"`` in float64, with
    parameters, x and dy rounded to float32. The latter two tell the buffers too.
    """
    single = at != "float64"
    with surroundings(case):
        layer = case.make()
        x = case.x.copy()
        if single:
            layer, x = layer.to("float32"), x.astype("float32")
        if at == "float32 point":
            layer, x = layer.to("float64"), x.astype("float64")
        if any(module.training for _, module in layer.modules()):
            layer.forward(x.copy())  # settles data-dependent starts, as the check does
            layer.clear()
        y = layer.forward(x.copy())
        dy = gradcheck.upstream(y.shape, SEED)
        if single:
            dy = dy.astype("float32").astype(y.dtype)
        found = {"y": y.copy(), "x": layer.backward(dy)}
        missing = np.full(1, np.nan)
        found |= {name: missing if p.grad is None else p.grad for name, p in layer.parameters().items()}
        if single:
            found |= {name: np.asarray(value, dtype=np.float64) for name, value in layer.buffers().items()}
    return found


def outputs(case: Case) -> Array:
    """Return what the layer computes, without a backward pass."""
    with surroundings(case):
        return case.make().forward(case.x.copy())


@contextlib.contextmanager
def surroundings(case: Case) -> Iterator[None]:
    """Let the definitions run or the versions, cut the batch if the case says so, and see to :func:`watched`."""
    usual = blocks.BLOCK_SAMPLES, rectifier.RUN, rectifier.ROW, gelu.PRODUCTS
    if case.way == "cut":
        blocks.BLOCK_SAMPLES, rectifier.RUN, rectifier.ROW, gelu.PRODUCTS = 1, 5, 2, 5
    try:
        with backend.plain(case.way == "plain"), backend.limit_threads(1), watched():
            yield
    finally:
        blocks.BLOCK_SAMPLES, rectifier.RUN, rectifier.ROW, gelu.PRODUCTS = usual


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Fill new arrays with NaN, forget what is kept between calls, keep NumPy quiet and watch the time."""
    empty = np.empty
    forget()
    np.empty = _poisoned(empty)  # type: ignore[assignment]
    try:
        with np.errstate(all="ignore"), _timed(SECONDS):
            yield
    finally:
        np.empty = empty


def forget() -> None:
    """Let be computed again what is kept between calls."""
    sums._ones.cache_clear()
    planes.planes_for.cache_clear()
    planes._fits.cache_clear()
    gelu._numbers.cache_clear()
    rectifier._row.cache_clear()
    blocks._thread.__dict__.clear()
    pooling._kept.__dict__.clear()


def _poisoned(empty: Any) -> Callable[..., Array]:
    """Return an ``empty`` whose arrays hold NaN: memory that still holds the right result must not hide a slip.

    They begin 16 bytes behind a cache line, as most of malloc's do: whether a slip in the code that looks for the next
    line is seen must not depend on where an array happens to lie.
    """

    def poisoned(shape: Any, dtype: Any = float, **options: Any) -> Array:
        made: Array = empty(shape, dtype=dtype, **options)
        if made.dtype.kind in "fc" and not options:
            room = empty(made.nbytes + 64, dtype="u1")
            start = (16 - room.ctypes.data) % 64
            made = room[start : start + made.nbytes].view(made.dtype).reshape(made.shape)
        if made.dtype.kind in "fc":
            made.fill(np.nan)
        return made

    return poisoned


@contextlib.contextmanager
def _timed(seconds: float) -> Iterator[None]:
    """Raise :class:`TooLong` if the block takes longer (where signals can be had: the main thread, not Windows)."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
