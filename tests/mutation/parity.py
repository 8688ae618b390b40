"""Forward code of the CPU versions: a slip there must make a version differ from its definition.

The judge is the parity test's, over fixed cases instead of drawn ones; no gradient check can see such a slip, which
changes the function and not only its derivative. The versions' backward code is the gradient checks' (`gate.py`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from kernels.test_parity import DEFINITIONS, LARGE, assert_parity, changed, results
from support.arrays import LAYOUTS
from support.definitions import widened
from support.devices import opened
from support.parity_cases import CASES, Draw, Sizes

from mutation import cases as checks
from mutation import gate, single
from mutation.gate import Outcome, Verdict
from mutation.operators import Mutation
from mutation.targets import Target, calls, functions, planted
from uanref import backend, kernels
from uanref.kernels.cpu import blocks, columns, elementwise, mixture_lanes, planes, rectifier
from uanref.layers.pooling import max_pool
from uanref.layers.window import Window
from uanref.norms.mixture_moments import Moments
from uanref.norms.mixture_weights import Mixture

SMALL = [
    Sizes(4, 2, 3, 3),
    Sizes(5, 3, 1, 2, joint=True),
    Sizes(3, 1, 5, 4, affine=False),
    Sizes(2, 4, 2, 1, joint=True, affine=False),
    Sizes(4, 3, 4, 3, joint=True),
    Sizes(5, 4, 2, 2, affine=False),
    Sizes(1, 3, 4, 2),
]
WINDOWS = ("layers.conv.", "layers.pooling.")  # whose seed draws stride, dilation and margins, too: a few of them
SEEDS = 4
DIGITS, ROUNDED = 1e-5, 7e-8  # of a tensor's largest entry; the latter is the nearest float32
BLOCK_BYTES, RUN = 1 << 14, 1 << 5  # of the large ones, the former as in the parity test
# What runs beside the arithmetic: threads change no bit of a result, tests/kernels hold that.
LEFT_OUT = ("kernels/cpu/threads.py",)


class Case(NamedTuple):
    """A version's arguments.

    Attributes:
        path: of the definition below the package.
        sizes: of the arguments.
        seed: they are drawn with.
        dtype: of the version; the definition computes in float64.
        layout: of the arrays in memory.
        device: ``"numpy"``, or ``"strict"`` for array code as a device runs it.
        large: several blocks, and several threads.
        lane: numbers of a mixture's lane, or 0 for the usual ones.
        given: which of :data:`GIVEN`, or empty for the parity test's own arguments.
    """

    path: str
    sizes: Sizes
    seed: int
    dtype: str
    layout: str
    device: str = "numpy"
    large: bool = False
    lane: int = 0
    given: str = ""

    @property
    def name(self) -> str:
        """What it is."""
        return f"{self.path} {self.given or self.sizes} {self.dtype} {self.layout} {self.device}"

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the version gets."""
        draw = GIVEN[self.given] if self.given else CASES[self.path]
        with backend.plain():  # a slip in a version must not change what it is given
            return draw(np.random.default_rng(self.seed), self.sizes)


# --- what the parity test draws too seldom, or never -------------------------------------------------

INFINITE = np.array([np.inf, -np.inf, np.nan, 0.0, 2.0, -3.0])
CHOSEN: dict[str, Draw] = {  # versions that choose between numbers, which need not be finite
    "layers.activation.relu_backward": lambda rng, s: (np.repeat(INFINITE, 6), np.tile(np.maximum(INFINITE, 0.0), 6)),
    "layers.activation.leaky_relu_backward": lambda rng, s: (np.repeat(INFINITE, 6), np.tile(INFINITE, 6), 0.0),
    "layers.activation.relu": lambda rng, s: (INFINITE,),
    "layers.activation.leaky_relu": lambda rng, s: (INFINITE, 0.0),
    "layers.pooling.max_pool_backward": lambda rng, s: (
        np.array([[[[np.inf, 1.0]]]]),
        np.array([[[[1.0, np.nan, 2.0, -np.inf]]]]),
        np.array([[[[np.nan, 2.0]]]]),
        Window((1, 2), (1, 2), (1, 1), (0, 0, 0, 0)),
    ),
}

INF, NAN = np.inf, np.nan
# Versions that promise every digit of every entry in float32, or are given what makes an entry infinite or NaN.
DIGITS_KEPT: dict[str, tuple[str, Draw]] = {
    "GELU": (
        "layers.activation.gelu",
        lambda rng, s: (np.concatenate([np.linspace(-13.0, -2.0, 331), np.linspace(0.1, 13, 80)]),),
    ),
    "a class ruled out": (
        "losses.cross_entropy",
        lambda rng, s: (np.array([[2.0, -INF, 1.0], [0.5, 3.0, -INF]]), np.array([2, 0]), 0.0),
    ),
    "a class ruled out, all smooth": (
        "losses.cross_entropy",
        lambda rng, s: (np.array([[2.0, -INF, 1.0]]), np.array([1]), 1.0),
    ),
    "a class ruled out, soft": (
        "losses.cross_entropy",
        lambda rng, s: (np.array([[2.0, -INF, 1.0]]), np.array([[0.25, 0.0, 0.75]]), 0.0),
    ),
    "a class ruled out but meant": (
        "losses.cross_entropy",
        lambda rng, s: (np.array([[2.0, -INF, 1.0]]), np.array([[0.25, 0.5, 0.25]]), 0.0),
    ),
    "no softmax and no target": (
        "losses.cross_entropy",
        lambda rng, s: (np.array([[2.0, -INF, 1.0], [NAN, 1.0, 2.0]]), np.array([[0.25, 0.0, 0.75], [0.0] * 3]), 0.0),
    ),
}

FAR, STEPS = 1e4, 2e-3
"""Where float32 numbers lie 1e-3 apart, samples that spread over few of them: a rounded mean is far from the middle."""


def _convolved(window: Window) -> Draw:
    def draw(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
        x, weight = rng.standard_normal((3, 2, 6, 7)), rng.standard_normal((4, 2, *window.kernel))
        return x, weight, rng.standard_normal(4), window

    return draw


SHIFTED = {  # what lies in memory in its own way as shifted planes
    "3 x 3": Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    "margins of all sizes": Window((4, 4), (1, 1), (1, 1), (0, 2, 3, 1)),
    "a gap down": Window((2, 3), (1, 1), (2, 1), (1, 0, 2, 1)),
    "a gap across": Window((3, 3), (1, 1), (1, 3), (2, 1, 3, 4)),
    "a row": Window((1, 5), (1, 1), (1, 1), (0, 0, 2, 2)),
    "half of the rows": Window((4, 2), (1, 1), (1, 1), (0, 0, 0, 0)),
}


def _shifted(window: Window, samples: int, outputs: int) -> Draw:
    def draw(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
        weight = rng.standard_normal((outputs, 3, *window.kernel))
        x = rng.standard_normal((samples, 3, 7, 8) if samples == 1 else (samples, 3, 9, 5))
        return x, weight, rng.standard_normal(outputs) if samples > 1 else None, window

    return draw


def _shifted_back(window: Window) -> Draw:
    def draw(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
        x, weight, _, _ = _shifted(window, 2, 2)(rng, s)
        return rng.standard_normal((2, 2, *window.positions(x.shape))), x, weight, window

    return draw


def _pooled(window: Window, height: int, width: int) -> Draw:
    def draw(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
        x = rng.standard_normal((2, 2, height, width))
        y = max_pool(x, window)
        return rng.standard_normal(y.shape), x, y, window

    return draw


def _mixture(log_prior: float, mean: float) -> Mixture:
    """Return three components of one channel, the last one with this prior and mean."""
    logits = np.array([[0.0], [0.1], [log_prior]])
    return Mixture(logits - np.log(np.exp(logits).sum(axis=0)), np.array([[1.0], [1.2], [mean]]), np.ones((3, 1)))


def _subnormal(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Give the last component a weight of 1e-312, below the smallest normal number."""
    return 1.0 + 1e-3 * rng.standard_normal((3, 1, 2)), _mixture(0.0, 1.0 + 37.92), 0.0


def _hardly_alive(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Give the last component a weight of 1e-186, but posteriors that sum to less than the smallest normal number.

    All samples are 0: such posteriors have few digits, and so have a dead component's moments, which nobody reads.
    """
    return np.zeros((3, 1, 2)), _mixture(-600.0, 16.0), 1e-3


def _outlier(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Let the square of one sample overflow."""
    x, *others = _hardly_any_prior(rng, s)
    x[0] = 1e160
    return x, Mixture(np.full((3, 1), -math.log(3.0)), np.array([[1.0], [1.2], [0.5]]), np.ones((3, 1))), *others[1:]


def _hardly_any_prior(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Let one sample belong to a component whose prior's root is less than w is divided by."""
    x = rng.standard_normal((3, 1, 2))
    x[0] = 1e3
    moments = Moments(rng.standard_normal((3, 1)), np.ones((3, 1)), np.ones((3, 1)))
    return x, _mixture(-1400.0, 1e3), moments, 0.7, None, None


def _narrow(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Normalize around 1 with a deviation of 1e-4: beside it 1 is far from 0."""
    x, ones = 1.0 + 1e-4 * rng.standard_normal(s.x), np.ones(s.channels)
    return x, ones, 1e-8 * ones, *((1.5 * ones, ones) if s.affine else (None, None)), 1e-12


def _mixed(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Have one channel far from 0 and one near."""
    x = rng.standard_normal(s.x)
    x[:, 0] += 300.0
    return (x,)


def _overflowing(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
    """Have one constant channel whose square leaves the range of float32, beside an ordinary one."""
    x = rng.standard_normal(s.x)
    x[:, 0] = 1e20
    return (x,)


def _far(path: str) -> Draw:
    """Move samples, and what they are compared with, far from 0, where a mean has few digits in float32."""

    def draw(rng: np.random.Generator, s: Sizes) -> tuple[Any, ...]:
        x, *others = CASES[path](rng, s)
        moved = [o._replace(mean=o.mean + FAR) if isinstance(o, Mixture) else o for o in others]
        return FAR + STEPS * x, *moved

    return draw


GIVEN: dict[str, Draw] = {
    "no margins": _convolved(Window((3, 2), (2, 1), (1, 1), (0, 0, 0, 0))),
    "pointwise": _convolved(Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))),
    "a wide window": _pooled(Window((5, 4), (2, 3), (1, 1), (2, 2, 2, 2)), 7, 6),
    "a window wider than the image": _pooled(Window((4, 4), (1, 1), (1, 1), (2, 2, 2, 2)), 1, 1),
    "windows that end before the image": _pooled(Window((3, 3), (3, 3), (1, 1), (1, 1, 1, 1)), 6, 6),
    "wide windows in wider steps": _pooled(Window((1, 3), (2, 3), (1, 1), (0, 0, 0, 0)), 4, 6),
    "pixels around": lambda rng, s: (rng.standard_normal((2, 2, 5, 5)), Window((3, 3), (2, 2), (1, 1), (1, 1, 1, 1))),
    "a subnormal weight": _subnormal,
    "hardly alive": _hardly_alive,
    "hardly any prior": _hardly_any_prior,
    "narrow": _narrow,
    "narrow channels": lambda rng, s: _narrow(rng, s)[:1],
    "a far channel": _mixed,
    "a square that overflows": _overflowing,
    "an outlier": _outlier,
}
GIVEN |= {f"neither finite nor zero, {path}": draw for path, draw in CHOSEN.items()}
GIVEN |= {f"every digit, {name}": draw for name, (_, draw) in DIGITS_KEPT.items()}
CORRECTED = (  # whose versions correct a rounded mean, so that they are held to more digits than their definitions have
    "norms.group.forward",
    "norms.standardize.channel_moments",
    "norms.mode.spatial_moments",
    "norms.mixture_moments.batch_moments",
)
GIVEN |= {
    f"shifted, {name}, {samples}, {outputs}": _shifted(window, samples, outputs)
    for (name, window), samples, outputs in itertools.product(SHIFTED.items(), (1, 6), (2, 6))
}
GIVEN |= {f"back, {name}": _shifted_back(window) for name, window in SHIFTED.items()}
GIVEN |= {f"far from 0, {path}": _far(path) for path in CORRECTED}


def _given() -> list[Case]:
    small, types = Sizes(4, 2, 3, 3), ("float64", "float32")
    found = [Case("layers.conv.forward", small, 0, t, "C", given=g) for g in ("no margins", "pointwise") for t in types]
    for given, large in itertools.product((g for g in GIVEN if g.startswith("shifted")), (False, True)):
        found.append(Case("layers.conv.forward", small, 0, "float64", "C", large=large, given=given))
    found += [Case("layers.conv.backward", small, 0, "float64", "C", given=g) for g in GIVEN if g.startswith("back")]
    for given in (name for name in GIVEN if "window" in name):
        for device in ("numpy", "strict"):
            found.append(Case("layers.pooling.max_pool_backward", small, 0, "float64", "C", device, given=given))
    for given in ("a subnormal weight", "hardly alive"):
        found.append(Case("norms.mixture_moments.batch_moments", small, 0, "float64", "C", given=given))
    for given in ("hardly any prior", "an outlier"):
        found.append(Case("norms.mixture_transform.transform", small, 0, "float64", "C", given=given))
    for sizes in (small, Sizes(4, 2, 3, 3, affine=False)):
        found.append(Case("norms.batch.normalize", sizes, 0, "float32", "C", given="narrow"))
    for given in ("narrow channels", "a far channel", "a square that overflows"):
        found.append(Case("norms.standardize.channel_moments", small, 0, "float32", "C", given=given))
    for path, t, large in itertools.product(CHOSEN, types, (False, True)):
        found.append(Case(path, small, 0, t, "C", large=large, given=f"neither finite nor zero, {path}"))
    found.append(Case("layers.pooling.max_pool", small, 0, "float64", "C", given="pixels around"))
    for name, (path, _) in DIGITS_KEPT.items():
        found.append(Case(path, small, 0, "float32", "C", given=f"every digit, {name}"))
    for path, sizes in itertools.product(CORRECTED, (Sizes(3, 2, 700, 3), Sizes(5, 4, 40, 2))):
        found.append(Case(path, sizes, 0, "float32", "C", given=f"far from 0, {path}"))
    return found


# --- all cases ---------------------------------------------------------------------------------------


MIXTURES = (
    "norms.mixture_moments.batch_moments",
    "norms.mixture_transform.transform",
    "norms.mixture_transform.transform_backward",
)
LANE = 16
LANES = [  # rows of several samples and a rest, in two blocks; groups of channels, the last one smaller; long rows
    Sizes(23, 2, 3, 3),
    Sizes(9, 5, 6, 3),
    Sizes(5, 3, 20, 2),
    Sizes(24, 5, 1, 2),
]


@functools.cache
def catalogue() -> list[Case]:
    """Return the cases, the same list in every process, small ones first."""
    found = []
    layouts = itertools.cycle(LAYOUTS)
    for seed in range(SEEDS):
        for sizes, dtype, path in itertools.product(SMALL, ("float64", "float32"), sorted(CASES)):
            if seed == 0 or path.startswith(WINDOWS):
                found.append(Case(path, sizes, seed, dtype, next(layouts)))
    for sizes, dtype, path in itertools.product(LARGE, ("float64", "float32"), sorted(CASES)):
        found.append(Case(path, sizes, 1, dtype, "C", large=True))
    for sizes, path in itertools.product((SMALL[0], LARGE[0], LARGE[2]), sorted(CASES)):
        found.append(Case(path, sizes, 1, "float64", "C", device="strict", large=True))
    for sizes, dtype, path in itertools.product(LANES, ("float64", "float32"), MIXTURES):
        found.append(Case(path, sizes, 1, dtype, next(layouts), large=True, lane=LANE))
    found.append(Case("layers.sums.sum_samples", LARGE[1], 1, "float64", "C", device="strict"))
    found.append(Case("layers.sums.sum_rows", Sizes(2, 2, 12_288, 1), 1, "float64", "C"))  # three equal parts
    far = Sizes(9, 4, 700, 3, joint=True)  # in several blocks
    found.append(Case("norms.standardize.channel_moments", far, 1, "float64", "C", large=True))
    for layout, path in itertools.product(LAYOUTS, ("layers.sums.sum_squares", "optimizers.adam.step")):
        found.append(Case(path, SMALL[0], 1, "float64", layout))  # cut in the order of memory, or not
    return [*found, *_given()]


def check(case: Case) -> None:
    """Hold the version to its definition; an AssertionError tells that it differs."""
    with surroundings(case), opened(case.device) as device:
        if case.given.startswith("neither"):
            return _assert_chosen(case)
        if case.given.startswith("every digit"):
            return _assert_every_digit(case)
        assert_parity(case.path, case.arguments, case.dtype, case.layout, device)
        if case.given.startswith("far"):
            _assert_digits(case)


def _assert_chosen(case: Case) -> None:
    """Hold a version that chooses to its definition, entry by entry, NaN included."""
    definition = DEFINITIONS[case.path]
    (version,) = kernels.versions(definition.__module__, definition.__name__, "numpy")
    given = [changed(argument, lambda a: a.astype(case.dtype)) for argument in case.arguments]
    with backend.plain(), np.errstate(all="ignore"):
        np.testing.assert_array_equal(version(*given), definition(*given))


def _assert_every_digit(case: Case) -> None:
    """Hold a version in float32 to its definition in float64, entry by entry, however small."""
    definition = DEFINITIONS[case.path]
    (version,) = kernels.versions(definition.__module__, definition.__name__, "numpy")
    given = [
        changed(argument, lambda a: a.astype(case.dtype) if a.dtype.kind == "f" else a) for argument in case.arguments
    ]
    with backend.plain(), np.errstate(invalid="ignore"):
        exact = results(definition(*(changed(argument, widened) for argument in given)))
        found = results(version(*given))
    for one, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, right, rtol=4 * np.finfo(case.dtype).eps, atol=0)


def _assert_digits(case: Case) -> None:
    """Hold a version in float32 to its definition in float64, whatever the definition has in float32."""
    definition = DEFINITIONS[case.path]
    (version,) = kernels.versions(definition.__module__, definition.__name__, "numpy")
    given = [changed(argument, lambda a: a.astype(case.dtype)) for argument in case.arguments]
    with backend.plain():
        exact = results(definition(*(changed(argument, lambda a: a.astype("float64")) for argument in given)))
    for one, right in zip(results(version(*given)), exact, strict=True):
        largest = float(np.abs(right).max())
        assert float(np.abs(one - right).max()) <= (ROUNDED if largest > 0.5 * FAR else DIGITS) * largest


@contextlib.contextmanager
def surroundings(case: Case) -> Iterator[None]:
    """Cut vectors and large batches, whose blocks two threads share; :func:`mutation.cases.watched` besides."""
    usual = blocks.sample_blocks.__defaults__, blocks.THREADED_ELEMENTS
    limits = columns.DEVICE_COLUMN_BYTES, planes.PLANE_BYTES, rectifier.RUN, rectifier.ROW
    lane, mixture_lanes.LANE = mixture_lanes.LANE, case.lane or mixture_lanes.LANE
    share, mixture_lanes.SHARE = mixture_lanes.SHARE, 10  # so that blocks hold more samples than whole lanes
    piece, elementwise.PIECE = elementwise.PIECE, 5000 if case.large else 10
    if case.large:
        blocks.sample_blocks.__defaults__, blocks.THREADED_ELEMENTS = (BLOCK_BYTES,), 1
        columns.DEVICE_COLUMN_BYTES = planes.PLANE_BYTES = BLOCK_BYTES
        rectifier.RUN, rectifier.ROW = RUN, RUN // 3
    try:
        with backend.plain(False), backend.limit_threads(2 if case.large else 1), checks.watched():
            yield
    finally:
        blocks.sample_blocks.__defaults__, blocks.THREADED_ELEMENTS = usual
        columns.DEVICE_COLUMN_BYTES, planes.PLANE_BYTES, rectifier.RUN, rectifier.ROW = limits
        mixture_lanes.LANE, mixture_lanes.SHARE, elementwise.PIECE = lane, share, piece


@dataclass
class Plan:
    """What will be planted, and which cases run through it.

    Attributes:
        targets: each with the numbers of its cases in :func:`catalogue`.
        errors: functions without a case, and cases that fail without any slip.
    """

    targets: dict[Target, list[int]]
    errors: list[str] = field(default_factory=list)


@functools.cache
def plan() -> Plan:
    """Find which functions of the versions each case runs: all that are no backward code, which the checks judge."""
    judged = gate.plan().targets
    left = [t for t in functions() if t.is_version and t not in judged and t.file not in LEFT_OUT]
    found = Plan({})
    for i, case in enumerate(catalogue()):
        try:
            ran = calls(functools.partial(check, case))
        except Exception as error:
            found.errors.append(f"{case.name} fails without any slip: {type(error).__name__}: {error}")
            continue
        for target in ran:
            if target in left:
                found.targets.setdefault(target, []).append(i)
    found.errors += [f"no case of the parity test runs {target}" for target in left if target not in found.targets]
    found.targets = {target: found.targets[target] for target in left if target in found.targets}
    return found


def examine(target: Target, mutation: Mutation, numbers: list[int]) -> tuple[str, int]:
    """Plant a slip and run its cases until one notices; see :func:`mutation.gate.examine`."""
    i = numbers[0]
    try:
        with planted(target, mutation.tree):
            for i in numbers:
                check(catalogue()[i])
    except AssertionError:
        return "failed", i
    except checks.TooLong:
        return "hung", i
    except Exception:  # a slip may break the code in any way
        return "raised", i
    return "survived", i


def examine_all(target: Target, numbers: list[int], chosen: list[Mutation]) -> list[Outcome]:
    """Examine some slips of one function. The case that killed one goes first for the next."""
    order, outcomes = list(numbers), []
    for mutation in chosen:
        status, i = examine(target, mutation, order)
        if status != "survived":
            order.remove(i)
            order.insert(0, i)
        by = "" if status == "survived" else catalogue()[i].name
        outcomes.append(Outcome(target, mutation.operator, mutation.text, status, by))
    return outcomes


def run(only: str = "", processes: int = 1, every: int = 1, turn: int = 0) -> Verdict:
    """Examine the slips of the versions' forward code.

    Args:
        only: of the functions whose file and name contain this.
        processes: how many work at a time.
        every: of a sample, one slip in so many.
        turn: those whose name's hash is this modulo ``every``.
    """
    found, work = plan(), []
    for target, numbers in found.targets.items():
        if only in str(target):
            slips = gate.slips(target, on_device=True)
            chosen = [slip for slip in slips if single.hashed(target, slip) % every == turn]
            work += [(target, numbers, chosen[i : i + gate.CHUNK]) for i in range(0, len(chosen), gate.CHUNK)]
    if processes == 1 or len(work) < 2:
        parts = [examine_all(*part) for part in work]
    else:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(examine_all, *zip(*work, strict=True)))
    outcomes = [outcome for part in parts for outcome in part]
    equivalent = gate.load_equivalent()
    listed = gate.listed_for(found.targets, equivalent, only)
    listed = {slip: why for slip, why in listed.items() if not slip.endswith("in float32")}  # single.py's own
    errors = [error for error in found.errors if only in error] + gate.check_list(outcomes, listed, whole=every == 1)
    return Verdict(outcomes, equivalent, errors)
