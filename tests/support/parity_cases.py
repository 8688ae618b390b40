"""Drawn arguments for every definition that faster versions serve: host arrays in float64, and plain numbers.

One function here for each accelerated definition, under the definition's own name. Sizes come from :class:`Sizes`;
arrays are drawn away from where terms vanish (no zeros and ones, no variance of 1). A dict at the end holds what is
given by keyword.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from uanref.layers.pooling import max_pool
from uanref.layers.window import Window
from uanref.norms.mixture_moments import Moments, batch_moments
from uanref.norms.mixture_weights import Mixture


@dataclass(frozen=True)
class Sizes:
    """N samples, C channels, S spatial elements, K components; whether the posterior is joint, gamma and beta there."""

    samples: int
    channels: int
    spatial: int
    components: int
    joint: bool = False
    affine: bool = True

    @property
    def x(self) -> tuple[int, int, int]:
        return self.samples, self.channels, self.spatial

    @property
    def prior(self) -> tuple[int, int]:
        return self.components, 1 if self.joint else self.channels

    @property
    def component(self) -> tuple[int, int]:
        return self.components, self.channels


Draw = Callable[[np.random.Generator, Sizes], tuple[Any, ...]]
CASES: dict[str, Draw] = {}


def case(path: str) -> Callable[[Draw], Draw]:
    def note(draw: Draw) -> Draw:
        CASES[path] = draw
        return draw

    return note


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.3, 2.5, shape)


def affine(rng: np.random.Generator, s: Sizes) -> tuple[Any, Any]:
    gamma, beta = rng.standard_normal((2, s.channels))
    return (gamma, beta) if s.affine else (None, None)


# --- sums and moments -------------------------------------------------------------------------------


@case("layers.sums.sum_samples")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (rng.standard_normal((s.components, *s.x)),)


@case("layers.sums.sum_rows")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (rng.standard_normal(s.x),)


@case("layers.sums.sum_squares")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (rng.standard_normal(s.x),)


@case("layers.sums.sum_all")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (rng.standard_normal(s.x),)


def offset(s: Sizes) -> float:
    """A mean that is far from 0 beside the deviation, or near: versions may tell them apart."""
    return 9.0 if s.joint else 0.5


@case("norms.standardize.channel_moments")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (offset(s) + 2.0 * rng.standard_normal(s.x),)


# --- batch and group normalization ------------------------------------------------------------------


@case("norms.batch.statistics")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return offset(s) + rng.standard_normal(s.x), rng.standard_normal(s.channels), positive(rng, (s.channels,)), 0.3


@case("norms.batch.normalize")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    moments = offset(s) + 0.1 * rng.standard_normal(s.channels), positive(rng, (s.channels,))
    return offset(s) + rng.standard_normal(s.x), *moments, *affine(rng, s), 1e-3


@case("norms.batch.backward")
@case("norms.batch.backward_fixed")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    moments = offset(s) + 0.1 * rng.standard_normal(s.channels), positive(rng, (s.channels,))
    return rng.standard_normal(s.x), offset(s) + rng.standard_normal(s.x), *moments, affine(rng, s)[0], 1e-3


def groups(s: Sizes) -> int:
    return 2 if s.channels % 2 == 0 else 1


@case("norms.group.forward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return 3.0 + rng.standard_normal(s.x), groups(s), *affine(rng, s), 1e-3


@case("norms.group.backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    shape = (s.samples, groups(s), 1)
    moments = rng.standard_normal(shape), positive(rng, shape)
    return rng.standard_normal(s.x), rng.standard_normal(s.x), groups(s), *moments, affine(rng, s)[0], 1e-3


# --- mixtures ---------------------------------------------------------------------------------------


def log_prior(rng: np.random.Generator, s: Sizes) -> np.ndarray:
    logits = rng.standard_normal(s.prior)
    return logits - np.log(np.exp(logits).sum(axis=0))


def shared_prior(rng: np.random.Generator, s: Sizes) -> np.ndarray:
    """A prior of each column; one of all of them where gamma and beta are there."""
    drawn = log_prior(rng, s)
    return np.repeat(drawn[:, :1], s.prior[1], axis=1) if s.affine else drawn


def mixture(rng: np.random.Generator, s: Sizes) -> Mixture:
    return Mixture(log_prior(rng, s), rng.standard_normal(s.component), positive(rng, s.component))


def moments(rng: np.random.Generator, s: Sizes, x: np.ndarray, m: Mixture) -> Moments:
    """The batch's own moments where the number of samples is even (kernels use that they are), else fixed ones."""
    if s.samples % 2 == 0:
        return Moments(*batch_moments(x, m, 1e-3))
    return Moments(rng.standard_normal(s.component), positive(rng, s.component), positive(rng, s.component))


def with_a_dead_component(m: Mixture) -> Mixture:
    """Move the third component, if there is one, to where no sample is."""
    m.mean[2:3] = 300.0
    return m


@case("norms.mixture_constraints.constrained")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """With a prior that all channels share where gamma and beta are there."""
    given = (s.components, 1) if s.affine else s.prior
    return 3.0 * rng.standard_normal(given), 5.0 * rng.standard_normal(s.component), 1e-3, s.prior[1]


@case("norms.mixture_constraints.constrained_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """With learned moments, or with a batch that decides who lives, or with neither; with a shared prior or without."""
    learned, of_batch = s.samples % 3 == 0, s.samples % 3 == 1
    own = rng.standard_normal((2, *s.component)) if learned else (None, None)
    alive = (rng.uniform(size=s.prior) > 0.4).astype("float64") if of_batch else None
    gradients = rng.standard_normal(s.prior), *rng.standard_normal((2, *s.component))
    return *gradients, *own, shared_prior(rng, s), 5.0 * rng.standard_normal(s.component), alive, s.affine


@case("norms.mixture_constraints.softplus")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (5.0 * rng.standard_normal(s.component),)


@case("norms.mixture_constraints.softplus_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.component), 5.0 * rng.standard_normal(s.component)


@case("norms.mixture_constraints.inverse_softplus")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return positive(rng, s.component) - 0.5, 0.1


def em_step(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    alive = np.ones(s.prior)
    alive[1:2] = 0.0
    found = rng.standard_normal(s.component), positive(rng, s.component)
    _, mean, variance = mixture(rng, s)
    return shared_prior(rng, s), mean, variance, positive(rng, s.prior) * 9.0, *found, alive, 0.3, s.affine


CASES["norms.mixture_em.em_step"] = em_step


@case("norms.mixture_em.em_step_of_weights")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Some of the variances end below the bound."""
    log_prior, mean, variance, *others, shared = em_step(rng, s)
    return log_prior, mean, rng.standard_normal(s.component), variance, *others, 0.9, shared


@case("norms.mixture_em.moved_moments")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    alive = (rng.uniform(size=s.prior) > 0.4).astype("float64")
    return *rng.standard_normal((4, *s.component)), alive, 0.3


@case("norms.mixture_moments.inverse_std")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return positive(rng, s.component), 1e-3


@case("norms.mixture_moments.batch_moments")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return 1.0 + rng.standard_normal(s.x), with_a_dead_component(mixture(rng, s)), 1e-3


@case("norms.mixture_transform.transform")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    x, m = rng.standard_normal(s.x), with_a_dead_component(mixture(rng, s))
    return x, m, moments(rng, s, x, m), 0.7, *affine(rng, s)


@case("norms.mixture_transform.transform_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    (x, dy), m = rng.standard_normal((2, *s.x)), with_a_dead_component(mixture(rng, s))
    return dy, x, m, moments(rng, s, x, m), 0.7, affine(rng, s)[0]


# --- mode normalization -----------------------------------------------------------------------------


@case("norms.mode.spatial_moments")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (3.0 + rng.standard_normal(s.x),)


@case("norms.mode.around")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), *rng.standard_normal((3, s.samples, s.channels))


@case("norms.mode.around_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return *rng.standard_normal((2, *s.x)), *rng.standard_normal((4, s.samples, s.channels))


@case("norms.mode.spatial_sums")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return *rng.standard_normal((2, *s.x)), rng.standard_normal((s.samples, s.channels))


# --- layers -----------------------------------------------------------------------------------------


def images(rng: np.random.Generator, s: Sizes, window: Window) -> tuple[int, int, int, int]:
    """A shape (N, C, H, W) that the window fits into, sometimes at one position alone."""
    down, across = (
        max(1, d * (k - 1) + 1 - a - b) + int(rng.integers(0, 6))
        for k, d, a, b in zip(window.kernel, window.dilation, window.margins[::2], window.margins[1::2], strict=True)
    )
    if window.kernel == window.stride and rng.uniform() < 0.6:  # whole windows
        down, across = (-(-size // k) * k for size, k in zip((down, across), window.kernel, strict=True))
    return s.samples, s.channels, down, across


def window(rng: np.random.Generator) -> Window:
    """A window: by turns for the two ways back, and often with gaps or without anything special."""
    kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(3))
    margins = tuple(int(n) for n in rng.integers(0, 4, 4))
    still = (1, 1)
    return Window(
        kernel,  # type: ignore[arg-type]
        stride if rng.uniform() < 0.4 else still,  # type: ignore[arg-type]
        dilation if rng.uniform() < 0.5 else still,  # type: ignore[arg-type]
        margins if rng.uniform() < 0.8 else (0, 0, 0, 0),  # type: ignore[arg-type]
    )


@case("layers.conv.forward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    where = window(rng)
    shape = images(rng, s, where)
    weight = rng.standard_normal((s.components, s.channels, *where.kernel))
    return rng.standard_normal(shape), weight, rng.standard_normal(s.components) if s.affine else None, where


@case("layers.conv.backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    where = window(rng)
    shape = images(rng, s, where)
    weight = rng.standard_normal((s.components, s.channels, *where.kernel))
    dy = rng.standard_normal((s.samples, s.components, *where.positions(shape)))
    return dy, rng.standard_normal(shape), weight, where


def pool(rng: np.random.Generator) -> Window:
    """A window of a pooling, by turns one whose places overlap, reach outside, or tile the image."""
    kernel = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    if rng.uniform() < 0.4:
        return Window(kernel, kernel, (1, 1), (0, 0, 0, 0))
    margins = int(rng.integers(0, kernel[0] // 2 + 1)), int(rng.integers(0, kernel[1] // 2 + 1))
    stride = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return Window(kernel, stride, (1, 1), (margins[0], margins[0], margins[1], margins[1]))


@case("layers.pooling.max_pool")
@case("layers.pooling.mean_pool")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    window = pool(rng)
    return rng.standard_normal(images(rng, s, window)), window


@case("layers.pooling.max_pool_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Of halves, so that there are ties."""
    window = pool(rng)
    x = rng.integers(-4, 4, images(rng, s, window)) / 2.0
    y = max_pool(x, window)
    return rng.standard_normal(y.shape), x, y, window


@case("layers.pooling.mean_pool_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    window = pool(rng)
    shape = images(rng, s, window)
    return rng.standard_normal((*shape[:2], *window.positions(shape))), shape, window


# --- activations, dropout ---------------------------------------------------------------------------


@case("layers.activation.relu")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return (rng.standard_normal(s.x),)


@case("layers.activation.leaky_relu")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), float(rng.choice([0.0, 0.1, 1.0]))


@case("layers.activation.relu_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), np.maximum(rng.standard_normal(s.x), 0.0)


@case("layers.activation.leaky_relu_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), rng.standard_normal(s.x), float(rng.choice([0.0, 0.1, 1.0]))


@case("layers.activation.gelu")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """In the middle, in the tail, or with some numbers far out."""
    x = rng.choice([1.0, 3.0, 8.0]) * rng.standard_normal(s.x)
    return (np.where(rng.random(s.x) < 0.1 * s.joint, rng.choice([-1e30, -13.0, 40.0], s.x), x),)


@case("layers.activation.gelu_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), rng.standard_normal(s.x)


@case("layers.dropout.drop")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    return rng.standard_normal(s.x), rng.random(s.x) < 0.7, 0.3


# --- losses and optimizers --------------------------------------------------------------------------


def logits(rng: np.random.Generator, s: Sizes) -> np.ndarray:
    """Of few classes or of many, close together or far apart, around 0 or a row here and a row there."""
    classes = int(rng.choice([s.channels, 1 + s.spatial, 127, 128, 129, 257, 700]))
    far = rng.choice([0.0, 0.0, -1e4, 1e4]) * np.arange(s.samples)[:, None]
    return rng.choice([1.0, 3.0, 30.0, 1e4]) * rng.standard_normal((s.samples, classes)) + far


def targets(rng: np.random.Generator, samples: int, classes: int, soft: bool) -> np.ndarray:
    """Labels of any integer dtype, or soft targets, whose sums are 1 or not."""
    if soft:
        return rng.dirichlet(np.ones(classes), samples) * rng.choice([1.0, 0.7])
    dtype = str(rng.choice(["int64", "int32", "int8", "uint8", "uint64"]))
    return rng.integers(0, min(classes, 128), samples).astype(dtype)


def smoothing(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.1, 1.0]))


@case("losses.cross_entropy")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    z = logits(rng, s)
    return z, targets(rng, *z.shape, s.joint), smoothing(rng)


@case("losses.cross_entropy_backward")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    z = logits(rng, s)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return log_p, targets(rng, *z.shape, s.joint), smoothing(rng)


@case("optimizers.sgd.step")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    value, grad, velocity = rng.standard_normal((3, *s.x))
    numbers = {"lr": 0.1, "momentum": 0.8 * s.affine, "nesterov": s.joint and s.affine, "penalty": 0.01 * s.joint}
    return value, grad, velocity if s.affine else None, numbers


@case("optimizers.adam.step")
def _(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    value, grad, m = rng.standard_normal((3, *s.x))
    numbers = {"betas": (0.9, 0.99), "eps": 1e-3, "rate": 0.1, "correction": 1.7}
    return value, grad, m, m**2 + 0.1, numbers | {"penalty": 0.01 * s.joint, "shrink": 0.9 if s.affine else 1.0}
