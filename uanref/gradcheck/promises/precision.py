"""The promise that float32 gives what float64 gives, as far as rounding lets it."""

from __future__ import annotations

import copy

import numpy as np

from uanref.backend import Array, Generator
from uanref.gradcheck.subject import Results, Subject, call, spoken
from uanref.layers.layer import Layer

TRIALS = 4
FURTHER_TRIALS = 16  # where the first ones do not tell rounding from a systematic error
EPS = float(np.finfo("float32").eps)
FURTHER = 64  # last digits: rounding of inputs that differ in one alone is often the same; so far apart it is not
LAST_DIGITS = 64.0  # sums, exponentials and cancelled terms round more than once
AMPLIFIED = 2e-4  # what rounding may grow to where it is no systematic error
CANCELLED = 1e-12  # and what is 0 in float64
SYSTEMATIC = 4.0  # an error is systematic where its mean exceeds so many of its standard deviations


def single_precision(subject: Subject) -> str:
    """In float32 y, dx and the parameters' gradients have that dtype, and the values of float64 up to rounding.

    Both start from the same float32 numbers. Rounding is measured: as much as moving every number by a last digit
    of float32 changes the float64 result, and 64 last digits of an ordinary value for what is rounded on the way.
    Layers that cancel or amplify round more. So an error beyond that is accepted up to 2e-4 of an ordinary value if
    it looks like rounding: if it is scattered and not systematic, over four inputs that differ in the last digit,
    or else over sixteen that differ in the last six bits: rounding takes another course there, a wrong term does not.
    A result that is 0 in float64, at all entries and inputs, is a difference of equal terms (dx where each sample has
    a component of its own, say): what is left of them in float32 may have the same sign each time.
    """
    draw = np.random.default_rng([subject.seed, 0xF32])
    layer = subject.new().to("float32")
    near = [_in_both_precisions(subject, layer, draw, min(trial, 1)) for trial in range(TRIALS)]
    for expected, found in near:
        for name, array in found.arrays.items():
            if array.dtype != np.float32:
                return f"{spoken(name)} has dtype {array.dtype}: keep the dtype of x, Python numbers do not change it"
            if array.shape != expected.arrays[name].shape:
                return f"{spoken(name)} has another shape than in float64"
    excess = {name: _excess(subject, name, near) for name in near[0][1].arrays}
    wrong = {name: mask & ~_scattered(subject, name, near) for name, mask in excess.items()}
    if any(mask.any() for mask in wrong.values()):
        apart = [_in_both_precisions(subject, layer, draw, FURTHER) for _ in range(FURTHER_TRIALS)]
        wrong = {name: mask & ~_scattered(subject, name, apart) for name, mask in wrong.items()}
    for name, mask in wrong.items():
        if mask.any():
            gap = float(abs(_errors(name, near)).max(axis=0)[mask].max())
            return (
                f"{spoken(name)} differs from float64 by up to {gap:.3g}, which rounding does not explain: look for "
                "code that depends on the dtype, and for sums and differences that lose digits"
            )
    return ""


Both = tuple[Results, Results]  # what one input gave in float64, and in float32


def _in_both_precisions(subject: Subject, layer: Layer, draw: Generator, digits: int) -> Both:
    """Return what one input gives in float64 and in float32, with x, dy and parameters moved in their last digits."""
    x32, dy32 = (_moved(a, digits, draw) for a in (subject.x, subject.dy))
    twin = copy.deepcopy(layer)
    for parameter in twin.parameters().values():
        parameter.value = _moved(parameter.value, digits, draw)
    expected = call(copy.deepcopy(twin).to("float64"), x32.astype("float64"), dy32.astype("float64"))
    return expected, call(twin, x32, dy32)


def _errors(name: str, results: list[Both]) -> Array:
    """Return what float32 got wrong in one result: (trials, ...)."""
    return np.stack([found.arrays[name].astype("float64") - expected.arrays[name] for expected, found in results])


def _ordinary(subject: Subject, name: str, results: list[Both]) -> float:
    """Return an ordinary value of one result, in float64."""
    values = np.stack([expected.arrays[name] for expected, _ in results])
    return max(float(abs(values).max(initial=0.0)), subject.ordinary(name, subject.dy, values[0].size))


def _excess(subject: Subject, name: str, results: list[Both]) -> Array:
    """Return where the error is beyond what a last digit of the inputs and 64 of the result explain."""
    values = np.stack([expected.arrays[name] for expected, _ in results])  # (trials, ...)
    rounding = 8.0 * abs(values - values[0]).max(axis=0) + LAST_DIGITS * EPS * _ordinary(subject, name, results)
    excess: Array = ~(abs(_errors(name, results)).max(axis=0) <= rounding)  # NaN is in excess
    return excess


def _scattered(subject: Subject, name: str, results: list[Both]) -> Array:
    """Return where the error is small and of no preferred sign, as rounding is; or small, and all that there is."""
    error, ordinary = _errors(name, results), _ordinary(subject, name, results)
    small = abs(error).max(axis=0) <= AMPLIFIED * ordinary
    cancelled = (
        max(float(abs(expected.arrays[name]).max(initial=0.0)) for expected, _ in results) <= CANCELLED * ordinary
    )
    scattered: Array = small & (cancelled | (abs(error.mean(axis=0)) <= SYSTEMATIC * error.std(axis=0)))
    return scattered


def _moved(array: Array, digits: int, draw: Generator) -> Array:
    """Return ``array`` in float32, each number moved up or down by one to ``digits`` last digits; by none for 0."""
    by = draw.integers(min(digits, 1), digits + 1, array.shape) * draw.choice((-EPS, EPS), array.shape)
    moved: Array = (array * (1.0 + by)).astype("float32")
    return moved
